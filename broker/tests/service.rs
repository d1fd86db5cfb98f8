//! `keyshim broker` as a service, and the brokers that nobody starts by hand.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Broker, Client, KEYSHIM, Started, eventually, keyshim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn terminate(child: &mut Started) -> Option<i32> {
    kill(Pid::from_raw(child.0.id() as i32), Signal::SIGTERM).unwrap();
    child.0.wait().unwrap().code()
}

fn serve(path: &Path) -> Started {
    Started(Command::new(KEYSHIM).args(["broker", "--socket"]).arg(path).spawn().unwrap())
}

#[test]
fn it_stops_when_told_and_removes_its_files() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    assert_eq!(names(broker.directory.path()), ["door", "door.lock", "log"]);
    assert_eq!(terminate(&mut broker.child), Some(0));
    assert!(client.is_cut_off());
    assert_eq!(names(broker.directory.path()), ["log"]);
}

#[test]
fn a_stale_socket_is_taken_over() {
    let mut broker = Broker::start();
    broker.child.0.kill().unwrap();
    broker.child.0.wait().unwrap();
    assert_eq!(names(broker.directory.path()), ["door", "door.lock", "log"]);
    let mut next = serve(&broker.path());
    eventually("the next serves", || Client::try_connect(&broker.path()).is_some());
    assert_eq!(terminate(&mut next), Some(0));
}

#[test]
fn a_live_broker_is_left_alone() {
    let broker = Broker::start();
    let mut client = broker.client();
    let output = Command::new(KEYSHIM).args(["broker", "--socket"]).arg(broker.path()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already"));
    assert!(client.is_served());
    assert!(broker.client().is_served());
}

#[test]
fn a_foreign_socket_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("door");
    let foreign = UnixDatagram::bind(&path).unwrap();
    assert_eq!(serve(&path).0.wait().unwrap().code(), Some(125));
    foreign.set_nonblocking(true).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
    assert_eq!(foreign.recv(&mut [0; 8]).unwrap(), 1);
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert_eq!(serve(&file).0.wait().unwrap().code(), Some(125));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn the_mode_says_who_may_connect() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("door");
    let mut child = serve(&path);
    eventually("it serves", || Client::try_connect(&path).is_some());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn a_service_manager_hears_that_it_is_ready() {
    let directory = TempDir::new().unwrap();
    let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(common::SOON)).unwrap();
    let path = directory.path().join("door");
    let child = Command::new(KEYSHIM)
        .args(["broker", "--socket"])
        .arg(&path)
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .spawn();
    let mut child = Started(child.unwrap());
    let mut text = [0; 64];
    let len = manager.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1\n");
    assert!(Client::connect(&path).is_served());
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn a_socket_from_a_service_manager_is_used_and_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("activated");
    let door = OwnedFd::from(UnixDatagram::bind(&path).unwrap());
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" broker 3<&0 0</dev/null";
    let child =
        Command::new("sh").args(["-c", script, KEYSHIM]).stdin(door.try_clone().unwrap()).spawn();
    let mut child = Started(child.unwrap());
    let mut client = Client::connect(&path);
    assert!(client.is_served());
    assert_eq!(terminate(&mut child), Some(0));
    assert!(path.exists(), "the file belongs to the service manager");
}

#[test]
fn of_many_that_start_themselves_one_remains() {
    let runtime = TempDir::new().unwrap();
    let path = runtime.path().join("keyshim/default");
    let mut brokers: Vec<Started> = (0..8)
        .map(|_| Started(keyshim(runtime.path()).args(["broker", "--autostart"]).spawn().unwrap()))
        .collect();
    let mut client = None;
    eventually("one serves", || {
        client = Client::try_connect(&path);
        client.is_some()
    });
    eventually("the others have gone", || {
        brokers.retain_mut(|broker| match broker.0.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success());
                false
            }
            None => true,
        });
        brokers.len() == 1
    });
    assert!(client.unwrap().is_served());
    assert_eq!(terminate(&mut brokers[0]), Some(0));
    assert!(names(&runtime.path().join("keyshim")).is_empty());
}

#[test]
fn one_that_starts_itself_keeps_nothing_of_its_starter() {
    let runtime = TempDir::new().unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let script = "exec \"$0\" broker --autostart 7<&0";
    let child = Command::new("sh")
        .args(["-c", script, KEYSHIM])
        .env("XDG_RUNTIME_DIR", runtime.path())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn();
    let mut child = Started(child.unwrap());
    let path = runtime.path().join("keyshim/default");
    eventually("it serves", || Client::try_connect(&path).is_some());
    // Nobody has the other end any more: it is the end of the file.
    assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0);
    let directory = fs::read_link(format!("/proc/{}/cwd", child.0.id()));
    if let Ok(directory) = directory {
        assert_eq!(directory, Path::new("/"));
    }
    assert_eq!(terminate(&mut child), Some(0));
}

#[test]
fn others_may_not_have_made_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    let runtime = TempDir::new().unwrap();
    let directory = runtime.path().join("keyshim");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let output = keyshim(runtime.path()).arg("broker").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("XDG_RUNTIME_DIR"));
    assert!(names(&directory).is_empty());
}

#[test]
fn a_broker_shows_its_memory_to_nobody() {
    let broker = Broker::start();
    // What a process that is not dumpable has belongs to root.
    let owner = std::os::unix::fs::MetadataExt::uid(
        &fs::metadata(format!("/proc/{}/environ", broker.child.0.id())).unwrap(),
    );
    assert_eq!(owner, 0);
    if !nix::unistd::geteuid().is_root() {
        assert!(fs::File::open(format!("/proc/{}/mem", broker.child.0.id())).is_err());
    }
}
