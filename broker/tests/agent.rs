//! `keyshim agent` as a service, and runtimes that are none. (Real ones are in
//! `shim-tests/suites/agent.sh`.)
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{KEYSHIM, SOON, Started, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Callers that may be silent at the same time (`CALLERS_PER_USER_MAX`).
const SILENT_MAX: usize = 512;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn terminate(child: &mut Started) -> Option<i32> {
    kill(Pid::from_raw(child.0.id() as i32), Signal::SIGTERM).unwrap();
    child.0.wait().unwrap().code()
}

/// An agent in a directory of its own.
struct Agent {
    child: Started,
    directory: TempDir,
}

impl Agent {
    fn start() -> Agent {
        let directory = TempDir::new().unwrap();
        let child = Agent::start_in(&directory);
        Agent { child, directory }
    }

    fn start_in(directory: &TempDir) -> Started {
        let path = directory.path().join("agent");
        let child = Command::new(KEYSHIM).args(["agent", "--socket"]).arg(&path).spawn();
        let child = Started(child.unwrap());
        eventually("the agent listens", || UnixStream::connect(&path).is_ok());
        child
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    fn call(&self) -> UnixStream {
        let caller = UnixStream::connect(self.path()).unwrap();
        caller.set_read_timeout(Some(SOON)).unwrap();
        caller
    }

    /// True when whoever says this is hung up on.
    fn hangs_up_on(&self, bytes: &[u8]) -> bool {
        let mut caller = self.call();
        // It may hang up before all is said.
        let _ = caller.write_all(bytes);
        is_hung_up_on(&mut caller)
    }
}

fn is_hung_up_on(caller: &mut UnixStream) -> bool {
    match caller.read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn it_stops_when_told_and_leaves_nothing() {
    let mut agent = Agent::start();
    let mut silent = agent.call();
    assert_eq!(names(agent.directory.path()), ["agent", "agent.d", "agent.lock"]);
    let mode = |name: &str| {
        fs::metadata(agent.directory.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("agent"), mode("agent.d")), (0o600, 0o700));
    assert_eq!(terminate(&mut agent.child), Some(0));
    assert!(is_hung_up_on(&mut silent));
    assert!(names(agent.directory.path()).is_empty());
}

#[test]
fn what_a_killed_agent_left_is_taken_over() {
    let mut agent = Agent::start();
    agent.child.0.kill().unwrap();
    agent.child.0.wait().unwrap();
    drop(UnixDatagram::bind(agent.directory.path().join("agent.d/stale")).unwrap());
    let mut next = Agent::start_in(&agent.directory);
    assert!(names(&agent.directory.path().join("agent.d")).is_empty());
    assert_eq!(terminate(&mut next), Some(0));
    assert!(names(agent.directory.path()).is_empty());
}

#[test]
fn a_live_agent_is_left_alone() {
    let agent = Agent::start();
    let other = Command::new(KEYSHIM).args(["agent", "--socket"]).arg(agent.path()).output();
    let other = other.unwrap();
    assert_eq!(other.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&other.stderr).contains("already"));
    assert!(agent.hangs_up_on(b"x"));
}

#[test]
fn a_service_manager_hands_over_its_socket_and_hears_that_it_is_ready() {
    let directory = TempDir::new().unwrap();
    let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let path = directory.path().join("activated");
    let door = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" agent 3<&0 0</dev/null";
    let child = Command::new("sh")
        .args(["-c", script, KEYSHIM])
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdin(door)
        .spawn();
    let mut child = Started(child.unwrap());
    let mut text = [0; 64];
    let len = manager.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1\n");
    let mut caller = UnixStream::connect(&path).unwrap();
    caller.set_read_timeout(Some(SOON)).unwrap();
    caller.write_all(b"x").unwrap();
    assert!(is_hung_up_on(&mut caller));
    assert_eq!(terminate(&mut child), Some(0));
    assert!(path.exists(), "the manager's own");
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let directory = TempDir::new().unwrap();
    let door = OwnedFd::from(UnixDatagram::bind(directory.path().join("door")).unwrap());
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" agent 3<&0 0</dev/null";
    let output = Command::new("sh")
        .args(["-c", script, KEYSHIM])
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdin(door)
        .stdout(Stdio::null())
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ListenStream="));
}

#[test]
fn whoever_says_nonsense_is_hung_up_on() {
    let agent = Agent::start();
    let state = r#"{"ociVersion":"1.0.2","fds":["seccompFd"],"pid":1,"state":{"id":"x"}}"#;
    let long = [b"{\"a\":\"".as_slice(), &vec![b'x'; 2 << 20]].concat();
    for said in [b"x".as_slice(), b"{}", b"[1]", b"{]", &[0, 255], state.as_bytes(), &long] {
        assert!(
            agent.hangs_up_on(said),
            "{}",
            String::from_utf8_lossy(&said[..said.len().min(60)])
        );
    }
    assert!(names(&agent.directory.path().join("agent.d")).is_empty());
}

#[test]
fn whoever_says_half_of_it_does_not_stay_for_ever() {
    let agent = Agent::start();
    let (mut half, mut silent) = (agent.call(), agent.call());
    half.write_all(b"{\"ociVersion\":").unwrap();
    assert!(is_hung_up_on(&mut half));
    // A runtime may connect long before it has a container.
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn of_too_many_silent_callers_the_eldest_goes() {
    let agent = Agent::start();
    let mut callers: Vec<UnixStream> = (0..SILENT_MAX).map(|_| agent.call()).collect();
    // The one that asked whether the agent listens may not have been missed yet.
    eventually("all have been let in", || agent.hangs_up_on(b"x"));
    let more: Vec<UnixStream> = (0..8).map(|_| agent.call()).collect();
    assert!(callers[..8].iter_mut().all(is_hung_up_on));
    assert!(agent.hangs_up_on(b"x"));
    drop((callers, more));
    assert!(agent.hangs_up_on(b"x"));
}
