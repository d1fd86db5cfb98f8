//! Who is who: by the kernel's word, at each call.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use common::{Broker, Client, UNKNOWN, door, frame, hello_of, is_root, knock};
use keyshim_abi::Errno;
use keyshim_abi::frame::{KNOCK, Message, Origin};
use keyshim_abi::procfs::Knob;
use nix::unistd::{Uid, seteuid, setfsuid, setresuid};

#[test]
fn a_child_cannot_speak_over_an_inherited_descriptor() {
    let broker = Broker::start();
    let mut client = broker.client();
    assert!(client.is_served());
    let call = broker.directory.path().join("call");
    std::fs::write(&call, frame(&UNKNOWN)).unwrap();
    let inherited = OwnedFd::from(client.stream.try_clone().unwrap());
    let status = Command::new("cat").arg(&call).stdout(inherited).status().unwrap();
    assert!(status.success());
    assert!(client.is_cut_off());
}

#[test]
fn somebody_elses_pair_is_not_taken() {
    // The pair is made here, the knock comes from a child.
    let broker = Broker::start();
    let script = "import socket, sys\n\
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        door.connect(sys.argv[1])\n\
        socket.send_fds(door, [b'keyshim\\x00\\x02\\x00'], [0])\n";
    let (stream, theirs) = common::stamped_pair();
    let status =
        Command::new("python3").args(["-c", script]).arg(broker.path()).stdin(theirs).status();
    let Ok(status) = status else { return eprintln!("skipped: there is no python3") };
    assert!(status.success());
    let mut client = Client { stream, token: None };
    assert!(client.is_cut_off());
}

#[test]
fn a_thread_of_another_process_is_not_believed() {
    let broker = Broker::start();
    for tid in [1, broker.child.0.id(), 0, u32::MAX] {
        let mut client = Client::knocked(&broker.path());
        client.say(&hello_of(tid, Origin::Fresh));
        assert!(client.is_cut_off(), "{tid}");
    }
}

#[test]
fn each_thread_of_a_process_is_served() {
    let broker = Broker::start();
    let mut main = broker.client();
    let mut token = None;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = broker.client();
            assert!(other.is_served());
            token = other.token;
        });
    });
    assert!(main.is_served());
    assert_ne!(token, main.token, "a thread has a secret of its own");
}

#[test]
fn the_same_thread_keeps_its_secret_when_it_comes_again() {
    let broker = Broker::start();
    let first = broker.client();
    let second = broker.client();
    assert_eq!(first.token, second.token);
}

#[test]
fn the_end_of_a_thread_ends_its_connection() {
    let broker = Broker::start();
    let client = std::thread::scope(|scope| scope.spawn(|| broker.client()).join().unwrap());
    let mut client = client;
    assert!(client.is_cut_off());
}

/// Not a test of its own: what [`a_changed_user_counts_from_the_next_call_on`] starts,
/// because ids are changed in all threads of a process.
#[test]
fn change() {
    let Some(path) = std::env::var_os("KEYSHIM_TEST_CHANGE") else { return };
    let mut client = Client::connect(Path::new(&path));
    let mut may_write = || match client.ask_descriptor(&Message::OpenKnob(Knob::Maxkeys)) {
        (Ok(0), Some(_)) => true,
        (Err(Errno::EACCES), None) => false,
        other => panic!("{other:?}"),
    };
    let root = Uid::from_raw(0);
    assert!(may_write());
    setfsuid(Uid::from_raw(1000));
    assert!(may_write(), "it is not the file system's user that counts");
    seteuid(Uid::from_raw(1000)).unwrap();
    assert!(!may_write());
    setfsuid(root);
    assert!(!may_write());
    seteuid(root).unwrap();
    assert!(may_write());
    setresuid(Uid::from_raw(1000), Uid::from_raw(1000), Uid::from_raw(1000)).unwrap();
    assert!(!may_write());
}

#[test]
fn a_changed_user_counts_from_the_next_call_on() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "change"]).env("KEYSHIM_TEST_CHANGE", broker.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn root_of_a_namespace_of_its_own_is_who_it_is_outside() {
    let broker = Broker::start();
    let runtime = broker.directory.path();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "inside"]).env("KEYSHIM_TEST_INSIDE", broker.path());
    let output = match command.current_dir(runtime).output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare failed") => output,
        _ => return eprintln!("skipped: there are no user namespaces to be had"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test of its own: what
/// [`root_of_a_namespace_of_its_own_is_who_it_is_outside`] starts.
#[test]
fn inside() {
    let Some(path) = std::env::var_os("KEYSHIM_TEST_INSIDE") else { return };
    assert!(nix::unistd::geteuid().is_root());
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let outside = map.split_whitespace().nth(1).unwrap();
    let mut client = Client::connect(Path::new(&path));
    assert!(client.is_served());
    let (answer, _) = client.ask_descriptor(&Message::OpenKnob(Knob::Maxkeys));
    assert_eq!(answer.is_ok(), outside == "0", "{answer:?}");
}

#[test]
fn a_message_without_a_stamp_is_not_heard() {
    use std::os::fd::AsRawFd;
    let broker = Broker::start();
    let (stream, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut client = Client { stream, token: None };
    // Sent before anybody asked for stamps.
    client.say(&common::hello());
    knock(&door(&broker.path()).unwrap(), KNOCK, &[theirs.as_raw_fd()]);
    drop(theirs);
    assert!(client.is_cut_off());
}
