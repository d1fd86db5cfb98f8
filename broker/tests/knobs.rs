//! Knobs: opened by those who may, written by messages.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::os::fd::RawFd;

use common::{Broker, Client, is_root};
use keyshim_abi::Errno;
use keyshim_abi::frame::Message;
use keyshim_abi::procfs::{Knob, ProcFile};
use nix::sys::socket::{MsgFlags, send};

fn open(client: &mut Client, knob: Knob) -> RawFd {
    let (answer, descriptor) = client.ask_descriptor(&Message::OpenKnob(knob));
    assert_eq!(answer, Ok(0));
    descriptor.unwrap()
}

fn write(descriptor: RawFd, value: &[u8]) {
    assert_eq!(send(descriptor, value, MsgFlags::empty()), Ok(value.len()));
}

fn value(client: &mut Client, knob: Knob) -> String {
    let (answer, text) = client.ask(&Message::Open(ProcFile::Knob(knob))).unwrap();
    assert_eq!(answer, Ok(0));
    String::from_utf8(text).unwrap()
}

#[test]
fn who_is_not_root_may_not_write() {
    if nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: root may; tests/identity.rs has this for root");
    }
    let mut client = Broker::start().client();
    let (answer, descriptor) = client.ask_descriptor(&Message::OpenKnob(Knob::Maxkeys));
    assert_eq!((answer, descriptor), (Err(Errno::EACCES), None));
}

#[test]
fn a_write_is_seen_by_whatever_comes_after() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let (mut writer, mut reader) = (broker.client(), broker.client());
    let knob = open(&mut writer, Knob::GcDelay);
    for number in 1..200 {
        write(knob, format!("{number}\n").as_bytes());
        assert_eq!(value(&mut reader, Knob::GcDelay), format!("{number}\n"));
    }
}

#[test]
fn the_last_write_counts_though_the_writer_has_gone() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let mut client = broker.client();
    for number in [250, 17] {
        let knob = open(&mut client, Knob::Maxkeys);
        write(knob, b"");
        write(knob, b"99");
        write(knob, number.to_string().as_bytes());
        nix::unistd::close(knob).unwrap();
        assert_eq!(value(&mut client, Knob::Maxkeys), format!("{number}\n"));
    }
}

#[test]
fn what_is_no_value_changes_nothing() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let mut client = broker.client();
    let before = value(&mut client, Knob::Maxbytes);
    let knob = open(&mut client, Knob::Maxbytes);
    for junk in [&b""[..], b"x", b"-1", b"0", &[b'1'; 4000]] {
        write(knob, junk);
        assert_eq!(value(&mut client, Knob::Maxbytes), before);
    }
}

#[test]
fn open_knobs_are_bounded_and_given_back() {
    if !is_root() {
        return;
    }
    let broker = Broker::start();
    let mut client = broker.client();
    let mut knobs = Vec::new();
    let full = loop {
        match client.ask_descriptor(&Message::OpenKnob(Knob::Maxkeys)) {
            (Ok(0), Some(knob)) => knobs.push(knob),
            (answer, _) => break answer,
        }
        assert!(knobs.len() < 1000, "no bound");
    };
    assert_eq!(full, Err(Errno::ENFILE));
    knobs.into_iter().for_each(|knob| nix::unistd::close(knob).unwrap());
    open(&mut client, Knob::Maxkeys);
}
