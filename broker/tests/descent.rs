//! From whom a task has its keyrings, where the kernel tells: the events that the core
//! is told, in their order.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Broker, Client, eventually};
use keyshim_abi::frame::Message;
use keyshim_abi::procfs::ProcFile;

const LIST: Message<'static> = Message::Open(ProcFile::Keys);

/// Tests are threads of one process, and each would hear of the others' children.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events after the first `before`.
fn since(broker: &Broker, before: usize) -> Vec<String> {
    broker.events().split_off(before)
}

/// The task that an event made, its last word.
fn made(event: &str) -> &str {
    event.rsplit(' ').next().unwrap()
}

/// A shell that waits for a line and goes on with a script.
fn shell(script: &str) -> Child {
    let script = format!("read go; {script}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn let_go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
}

fn asked(client: &mut Client) {
    assert!(client.ask(&LIST).is_some());
}

#[test]
fn a_silent_child_is_known_from_its_fork_to_its_end() {
    let _alone = alone();
    let Some(broker) = Broker::start_told() else { return };
    let mut client = broker.client();
    let before = broker.events().len();
    let mut child = shell("exec true");
    asked(&mut client);
    let begun = since(&broker, before);
    assert!(begun[0].starts_with("Forked "), "{begun:?}");
    let task = made(&begun[0]);
    // The shell's own start: we go on when it has its memory, a moment before it is told.
    eventually("execve", || {
        asked(&mut client);
        since(&broker, before)[1..] == [format!("Execed {task}")]
    });
    let_go(&mut child);
    asked(&mut client);
    let all = since(&broker, before);
    assert_eq!(all[2..], [format!("Execed {task}"), format!("Exited {task}")]);
}

#[test]
fn a_daemon_is_known_though_its_parents_are_dead() {
    let _alone = alone();
    let Some(broker) = Broker::start_told() else { return };
    let mut client = broker.client();
    let before = broker.events().len();
    let mut child = shell("(setsid sleep 0.2 &)");
    let_go(&mut child);
    let forks = || -> Vec<String> {
        let events = since(&broker, before);
        events.into_iter().filter(|event| event.starts_with("Forked")).collect()
    };
    asked(&mut client);
    let chain = forks();
    assert!(chain.len() >= 3, "shell, subshell, daemon: {chain:?}");
    for pair in chain.windows(2) {
        assert!(pair[1].starts_with(&format!("Forked {} ", made(&pair[0]))), "{chain:?}");
    }
    let last = format!("Exited {}", made(chain.last().unwrap()));
    eventually("the daemon ends", || {
        asked(&mut client);
        since(&broker, before).contains(&last)
    });
}

#[test]
fn a_thread_is_known_before_it_speaks() {
    let _alone = alone();
    let Some(broker) = Broker::start_told() else { return };
    let mut client = broker.client();
    let before = broker.events().len();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv().is_err());
    asked(&mut client);
    let begun = since(&broker, before);
    let mine: Vec<_> = begun.iter().filter(|event| event.starts_with("ThreadStarted")).collect();
    // The first is this one; the test's own harness may start more.
    assert!(!mine.is_empty(), "{begun:?}");
    drop(go);
    thread.join().unwrap();
    eventually("a thread ends", || {
        asked(&mut client);
        since(&broker, before).iter().any(|event| *event == format!("Exited {}", made(mine[0])))
    });
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let _alone = alone();
    let Some(broker) = Broker::start_told() else { return };
    let mut client = broker.client();
    let before = broker.descriptor_count();
    let begun = broker.events().len();
    for _ in 0..50 {
        Command::new("true").status().unwrap();
    }
    asked(&mut client);
    let events = since(&broker, begun);
    let of = |kind: &str| events.iter().filter(|event| event.starts_with(kind)).count();
    assert!(of("Forked") >= 50);
    assert!(of("Exited") >= 50);
    assert!(broker.descriptor_count() <= before.map(|count| count + 1));
}
