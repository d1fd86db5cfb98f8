//! Clients that do everything wrong, and one beside them that must not notice.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Broker, Client, UNKNOWN, door, eventually, frame, hello, knock, stamped_pair};
use keyshim_abi::frame::{KNOCK, Message, Origin};
use keyshim_abi::limits::REQUEST_FRAME_LEN_MAX;

/// The longest that a healthy client may wait for one answer. Generous, because
/// the machine may be busy; a broker that waits for a hostile client takes seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does the worst while a healthy client calls without a pause.
fn undisturbed(broker: &Broker, mut worst: impl FnMut()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let healthy = scope.spawn(|| {
            let mut client = broker.client();
            let (mut calls, mut longest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) || calls < 100 {
                let begun = Instant::now();
                assert!(client.is_served());
                longest = longest.max(begun.elapsed());
                calls += 1;
            }
            longest
        });
        worst();
        is_over.store(true, Ordering::Relaxed);
        let longest = healthy.join().unwrap();
        assert!(longest < PATIENCE, "a healthy client waited {longest:?}");
    });
}

fn is_cut_off_after(broker: &Broker, bytes: &[u8]) {
    let mut client = broker.client();
    client.say(bytes);
    assert!(client.is_cut_off());
}

#[test]
fn what_is_no_frame_ends_the_conversation() {
    let broker = Broker::start();
    undisturbed(&broker, || {
        for _ in 0..20 {
            is_cut_off_after(&broker, &[0, 0, 0, 0]);
            is_cut_off_after(&broker, &[1, 0, 0, 0, 99]);
            is_cut_off_after(&broker, &[2, 0, 0, 0, 2, 250]);
            is_cut_off_after(&broker, &u32::MAX.to_le_bytes());
            let too_long = (REQUEST_FRAME_LEN_MAX as u32 + 1).to_le_bytes();
            is_cut_off_after(&broker, &too_long);
        }
    });
}

#[test]
fn a_frame_out_of_turn_ends_the_conversation() {
    let broker = Broker::start();
    // A second hello, and a call before the first.
    is_cut_off_after(&broker, &hello());
    let mut silent = Client::knocked(&broker.path());
    silent.say(&frame(&UNKNOWN));
    assert!(silent.is_cut_off());
}

#[test]
fn who_does_not_wait_for_the_reply_is_cut_off() {
    let broker = Broker::start();
    undisturbed(&broker, || {
        for _ in 0..10 {
            let mut client = broker.client();
            let flood = frame(&UNKNOWN).repeat(1000);
            client.say(&flood);
            eventually("the flood is cut off", || client.receive().is_none());
        }
    });
}

#[test]
fn half_a_frame_holds_nobody_up_and_is_cut_off_in_the_end() {
    let broker = Broker::start();
    let begun = Instant::now();
    let mut halves: Vec<Client> = (0..50).map(|_| broker.client()).collect();
    for half in &mut halves {
        half.say(&[200, 0, 0, 0, 2]);
    }
    undisturbed(&broker, || std::thread::sleep(Duration::from_millis(300)));
    for half in &mut halves {
        assert!(half.is_cut_off());
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "slow clients are to have time");
}

#[test]
fn who_knocks_and_says_nothing_is_cut_off_in_the_end() {
    let broker = Broker::start();
    let mut silent = Client::knocked(&broker.path());
    let mut late = Client::knocked(&broker.path());
    std::thread::sleep(Duration::from_secs(4));
    late.say(&hello());
    assert!(late.receive().is_some(), "there is time to say hello");
    assert!(silent.is_cut_off());
    std::thread::sleep(Duration::from_secs(2));
    assert!(late.is_served(), "who has said hello may be silent");
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_answered() {
    let broker = Broker::start();
    let mut client = broker.client();
    for byte in frame(&UNKNOWN) {
        client.stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(client.receive().is_some());
    assert!(client.is_served());
}

#[test]
fn what_is_no_knock_is_not_answered() {
    let broker = Broker::start();
    let before = broker.descriptor_count();
    undisturbed(&broker, || {
        let door = door(&broker.path()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (tcp, pipe) =
            (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), nix::unistd::pipe().unwrap());
        let (_ours, theirs) = stamped_pair();
        let theirs = theirs.as_raw_fd();
        let many: Vec<RawFd> = vec![theirs; 253];
        for _ in 0..20 {
            knock(&door, b"", &[]);
            knock(&door, b"hello", &[theirs]);
            knock(&door, &[KNOCK.as_slice(), b"x"].concat(), &[theirs]);
            knock(&door, KNOCK, &[]);
            knock(&door, KNOCK, &[theirs, theirs]);
            for no_listener in [theirs, null.as_raw_fd(), door.as_raw_fd()] {
                knock(&door, &[KNOCK.as_slice(), b"\x01"].concat(), &[theirs, no_listener]);
            }
            knock(&door, KNOCK, &many);
            knock(&door, KNOCK, &[null.as_raw_fd()]);
            knock(&door, KNOCK, &[tcp.as_raw_fd()]);
            knock(&door, KNOCK, &[pipe.0.as_raw_fd()]);
            knock(&door, KNOCK, &[door.as_raw_fd()]);
        }
    });
    eventually("the broker keeps none of the descriptors", || broker.descriptor_count() <= before);
}

#[test]
fn connections_of_one_user_are_bounded() {
    // (256 - 128) / 3 connections in all, half of them for one user.
    let broker = Broker::start_with_descriptors(256);
    let mut clients = Vec::new();
    while let Some(client) = Client::try_connect(&broker.path()) {
        clients.push(client);
        assert!(clients.len() < 100, "no bound");
    }
    assert!(clients.len() >= 10, "only {} connections", clients.len());
    assert!(clients.iter_mut().all(Client::is_served), "the others go on");
    clients.truncate(5);
    eventually("room is made", || Client::try_connect(&broker.path()).is_some());
}

#[test]
fn clients_that_come_and_go_leave_nothing() {
    let broker = Broker::start();
    assert!(broker.client().is_served());
    eventually("at rest", || broker.descriptor_count() < Some(30));
    let before = broker.descriptor_count();
    for _ in 0..500 {
        assert!(broker.client().is_served());
    }
    eventually("as before", || broker.descriptor_count() <= before);
}

#[test]
fn a_client_that_turns_its_own_stamps_off_is_cut_off() {
    use nix::sys::socket::{setsockopt, sockopt};
    let broker = Broker::start();
    let (stream, theirs) = stamped_pair();
    knock(&door(&broker.path()).unwrap(), KNOCK, &[theirs.as_raw_fd()]);
    let mut client = Client { stream, token: None };
    client.say(&hello());
    assert!(client.receive().is_some());
    // Both ends: ours, and the broker's, which is the same open socket.
    setsockopt(&client.stream, sockopt::PassCred, &false).unwrap();
    setsockopt(&theirs, sockopt::PassCred, &false).unwrap();
    client.say(&frame(&UNKNOWN));
    assert!(client.is_cut_off());
}

#[test]
fn a_client_that_makes_the_shared_socket_block_holds_nobody_up() {
    let broker = Broker::start();
    let (stream, theirs) = stamped_pair();
    knock(&door(&broker.path()).unwrap(), KNOCK, &[theirs.as_raw_fd()]);
    let mut client = Client { stream, token: None };
    let theirs = std::os::unix::net::UnixStream::from(theirs);
    theirs.set_nonblocking(false).unwrap();
    client.say(&hello());
    assert!(client.receive().is_some());
    // Half a frame: a worker that waited for the rest would be lost.
    for _ in 0..8 {
        client.say(&[200]);
        std::thread::sleep(Duration::from_millis(20));
        undisturbed(&broker, || ());
    }
}

#[test]
fn a_hello_of_the_wrong_version_is_cut_off() {
    let broker = Broker::start();
    let mut client = Client::knocked(&broker.path());
    let mut hello = frame(&Message::Hello { tid: 1, origin: Origin::Fresh });
    hello[5] = 77;
    client.say(&hello);
    assert!(client.is_cut_off());
}
