//! Who is who: by the kernel's word, at each call.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::os::fd::OwnedFd;
use std::process::Command;

use common::{Broker, Client, UNKNOWN, door, frame, hello_of, is_root, knock};
use keyshim_abi::Errno;
use keyshim_abi::frame::{KNOCK, Message, Origin};
use keyshim_abi::procfs::Knob;
use nix::unistd::{Uid, setfsuid};

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
        socket.send_fds(door, [b'keyshim\\x00\\x01\\x00'], [0])\n";
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

#[test]
fn a_changed_user_counts_from_the_next_call_on() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let mut client = broker.client();
    let open = Message::OpenKnob(Knob::Maxkeys);
    assert!(matches!(client.ask_descriptor(&open), (Ok(0), Some(_))));
    // Of this thread only, as the system call has it.
    setfsuid(Uid::from_raw(1000));
    assert!(matches!(client.ask_descriptor(&open), (Err(Errno::EACCES), None)));
    setfsuid(Uid::from_raw(0));
    assert!(matches!(client.ask_descriptor(&open), (Ok(0), Some(_))));
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
