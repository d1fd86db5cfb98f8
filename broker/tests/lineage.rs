//! From whom a task has its keyrings, as the broker infers it where the kernel does not
//! tell: the events that the core is told.
//!
//! Each test reads the events from the broker's log, in the order in which the
//! core heard them.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Broker, Client, INFER, LOG, Started, eventually, keyshim};
use keyshim_abi::frame::Message;
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{KeyId, Request};
use tempfile::TempDir;

const JOIN: Message<'static> = Message::Call(Request::JoinSessionKeyring { name: None });
const LIST: Message<'static> = Message::Open(ProcFile::Keys);

/// Not a test of its own: what a process does that another test starts. It talks
/// to the broker, says so, and ends when its input does.
#[test]
fn speak() {
    let Some(path) = std::env::var_os("KEYSHIM_TEST_SPEAK") else { return };
    let mut client = Client::connect(Path::new(&path));
    assert!(client.is_served());
    println!("spoken");
    let _ = std::io::stdin().read(&mut [0]);
    assert!(client.is_served());
}

/// This program, doing nothing but [`speak`].
fn speaker(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "speak", "--nocapture", "--test-threads", "1"]);
    command.env("KEYSHIM_TEST_SPEAK", path).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn has_spoken(child: &mut Child) {
    // Not closed before the child ends: it has more to say.
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("spoken")));
}

/// The events after those of the broker's start, where the test process itself
/// came and stayed as task 1.
fn later(broker: &Broker) -> Vec<String> {
    let all = broker.events();
    all.into_iter().filter(|event| !event.ends_with(" 1") || event.contains("Forked")).collect()
}

#[test]
fn a_child_that_speaks_has_its_parents() {
    let broker = Broker::start_with_log();
    let mut client = broker.client();
    let me = task_of(&broker);
    let mut child = Started(speaker(&broker.path()).spawn().unwrap());
    has_spoken(&mut child.0);
    let forked = later(&broker).into_iter().find(|event| event.starts_with("Forked"));
    assert!(forked.unwrap().starts_with(&format!("Forked {me} ")), "{:?}", broker.events());
    assert!(client.is_served());
}

/// The task that this test's thread is: the last to have come in.
fn task_of(broker: &Broker) -> String {
    let events = broker.events();
    let come =
        |event: &&String| event.starts_with("Appeared") || event.starts_with("ThreadStarted");
    events.iter().rfind(come).unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn what_was_forked_before_a_change_is_known_before_it() {
    let broker = Broker::start_with_log();
    let mut client = broker.client();
    let me = task_of(&broker);
    // Past the first call, before which everything is looked at anyway.
    assert!(client.is_served());
    let script = "sleep 60 & echo $!; wait";
    let child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn();
    let mut child = Started(child.unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let before = broker.events().len();
    assert!(client.is_served());
    assert_eq!(broker.events().len(), before, "nothing changes, and nobody looks");
    assert!(client.ask(&JOIN).is_some());
    let forked: Vec<String> =
        broker.events().into_iter().filter(|event| event.starts_with("Forked")).collect();
    assert_eq!(forked.len(), 2, "child and grandchild: {forked:?}");
    assert!(forked[0].starts_with(&format!("Forked {me} ")));
    let child_task = forked[0].rsplit(' ').next().unwrap();
    assert!(forked[1].starts_with(&format!("Forked {child_task} ")));
    let pid = nix::unistd::Pid::from_raw(line.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn whoever_has_been_waited_for_is_gone_before_the_next_listing() {
    let broker = Broker::start_with_log();
    let mut client = broker.client();
    for _ in 0..20 {
        let mut child = speaker(&broker.path()).spawn().unwrap();
        has_spoken(&mut child);
        let last = broker.events().pop().unwrap().rsplit(' ').next().unwrap().to_owned();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(client.ask(&LIST).is_some());
        let gone = format!("Exited {last}");
        assert!(broker.events().contains(&gone), "{gone}: {:?}", broker.events());
    }
}

#[test]
fn a_fresh_image_in_a_known_thread_has_executed() {
    let broker = Broker::start_with_log();
    let _client = broker.client();
    let me = task_of(&broker);
    let before = broker.events().len();
    let _again = broker.client();
    assert_eq!(broker.events()[before..], [format!("Execed {me}")]);
}

#[test]
fn threads_are_known_before_a_process_keyring_can_come_into_being() {
    let broker = Broker::start_with_log();
    let mut client = broker.client();
    assert!(client.is_served());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            ready.send(nix::unistd::gettid()).unwrap();
            let _ = wait.recv();
        });
        is_ready.recv().unwrap();
        let started = || broker.events().iter().filter(|e| e.starts_with("ThreadStarted")).count();
        let before = started();
        assert!(client.is_served());
        assert_eq!(started(), before, "nothing to look at yet");
        client.ask(&Message::Call(Request::GetKeyringId { id: KeyId::PROCESS, create: true }));
        assert!(started() > before);
        drop(go);
    });
}

/// A run whose program is a shell, and its events.
fn run_events(script: &str) -> Vec<String> {
    let runtime = TempDir::new().unwrap();
    // The library does not catch anything here: the speakers speak by themselves.
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "SOCKET=${{KEYSHIM_SOCKET#*,}}; speak() {{ KEYSHIM_TEST_SPEAK=$SOCKET {} --exact speak \
         --test-threads 1 >/dev/null; }}; {script}",
        me.display()
    );
    let output = keyshim(runtime.path())
        .args(["run", "--", "sh", "-c", &script])
        .envs([LOG, (INFER, "1"), ("NO_COLOR", "1")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    common::events(&String::from_utf8(output.stderr).unwrap())
}

#[test]
fn children_of_a_program_without_keys_have_none_either() {
    let events = run_events("speak; speak");
    let appeared = events.iter().filter(|event| event.starts_with("Appeared")).count();
    assert_eq!(appeared, 2, "{events:?}");
    assert!(!events.iter().any(|event| event.starts_with("Forked")), "{events:?}");
}

#[test]
fn an_orphan_of_a_program_without_keys_has_nothing_of_a_neighbours() {
    let events = run_events("((sleep 0.3; speak) & ) ; speak");
    let appeared = events.iter().filter(|event| event.starts_with("Appeared")).count();
    assert_eq!(appeared, 2, "{events:?}");
}

#[test]
fn a_daemon_that_forked_twice_has_the_session_of_where_it_began() {
    // A speaker that stays, whose grandchild speaks after its parent has ended.
    let runtime = TempDir::new().unwrap();
    let python = "import os, sys, socket, struct, time\n\
        VERSION = bytes.fromhex(os.environ['VERSION'])\n\
        path = os.environ['KEYSHIM_SOCKET'].split(',')[1]\n\
        def speak():\n\
        \x20 door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); door.connect(path)\n\
        \x20 a, b = socket.socketpair(); a.setsockopt(1, socket.SO_PASSCRED, 1)\n\
        \x20 socket.send_fds(door, [b'keyshim\\0' + VERSION], [b.fileno()]); b.close()\n\
        \x20 who = struct.pack('<IB16s', os.getpid(), 0, b'\\0' * 16)\n\
        \x20 a.send(struct.pack('<IB', 24, 1) + VERSION + who); a.recv(99)\n\
        \x20 return a\n\
        kept = speak()\n\
        if os.fork() == 0:\n\
        \x20 if os.fork() == 0:\n\
        \x20   os.setsid() if len(sys.argv) > 1 else None\n\
        \x20   time.sleep(0.4); speak(); os._exit(0)\n\
        \x20 os._exit(0)\n\
        os.wait()\n\
        time.sleep(float(os.environ['STAY']))\n";
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no python3");
    }
    for (stay, argument) in [("1", ""), ("0", ""), ("1", "setsid"), ("0", "setsid")] {
        let mut command = keyshim(runtime.path());
        command.args(["run", "--", "python3", "-c", python]);
        command.args(Some(argument).filter(|argument| !argument.is_empty()));
        command.envs([LOG, (INFER, "1"), ("NO_COLOR", "1")]);
        let [low, high] = keyshim_abi::frame::VERSION.to_le_bytes();
        command.env("VERSION", format!("{low:02x}{high:02x}"));
        let output = command.env("STAY", stay).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let events = common::events(&String::from_utf8(output.stderr).unwrap());
        assert!(events.contains(&"Forked 1 2".to_owned()), "{stay} {argument}: {events:?}");
        assert_eq!(events.iter().filter(|e| e.starts_with("Appeared")).count(), 1, "{events:?}");
    }
}

#[test]
fn a_stream_of_children_leaves_nothing_behind() {
    let broker = Broker::start_with_log();
    let mut client = broker.client();
    let before = broker.descriptor_count();
    for _ in 0..10 {
        let mut speaker = speaker(&broker.path());
        speaker.stdout(Stdio::null());
        let mut children: Vec<Child> = (0..4).map(|_| speaker.spawn().unwrap()).collect();
        for child in &mut children {
            let _ = child.stdin.take().unwrap().write_all(b"x");
            child.wait().unwrap();
        }
    }
    assert!(client.is_served());
    eventually("as before", || broker.descriptor_count() <= before.map(|count| count + 2));
}
