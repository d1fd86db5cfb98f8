//! `keyshim run`: statuses, signals, what is left behind, shared domains.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Group, eventually, keyshim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

fn run(runtime: &Path, program: &[&str]) -> Command {
    let mut command = keyshim(runtime);
    command.args(["run", "--"]).args(program);
    command
}

fn status(program: &[&str]) -> Option<i32> {
    let runtime = TempDir::new().unwrap();
    run(runtime.path(), program).stderr(Stdio::null()).status().unwrap().code()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("keyshim")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn the_status_is_the_programs() {
    assert_eq!(status(&["true"]), Some(0));
    assert_eq!(status(&["sh", "-c", "exit 41"]), Some(41));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(status(&["sh", "-c", "kill -KILL $$"]), Some(128 + 9));
    // A real-time signal, which has no name.
    assert_eq!(status(&["sh", "-c", "kill -40 $$"]), Some(128 + 40));
}

#[test]
fn what_cannot_be_run_is_told_apart() {
    assert_eq!(status(&["/no/such/program"]), Some(127));
    assert_eq!(status(&["no-such-program-anywhere"]), Some(127));
    assert_eq!(status(&["/etc/passwd"]), Some(126));
    assert_eq!(status(&["/"]), Some(126));
}

#[test]
fn without_the_library_nothing_is_run() {
    let runtime = TempDir::new().unwrap();
    let output = run(runtime.path(), &["touch", "/tmp/never"])
        .env("KEYSHIM_LIBRARY", "/no/such/library.so")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/no/such/library.so") && text.contains("KEYSHIM_LIBRARY"), "{text}");
}

#[test]
fn the_program_has_the_library_and_the_addresses_before_its_own() {
    let runtime = TempDir::new().unwrap();
    let before = common::harmless_library();
    let output = run(runtime.path(), &["sh", "-c", "echo $LD_PRELOAD $KEYSHIM_SOCKET; ulimit -n"])
        .env("LD_PRELOAD", &before)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    assert_eq!(words.next().unwrap(), format!("{before}:{before}"));
    let addresses: Vec<&str> = words.next().unwrap().split(',').collect();
    assert!(addresses[0].starts_with("@keyshim-"));
    assert!(addresses[1].starts_with(runtime.path().to_str().unwrap()));
    // Its limits are those that it would have had without us.
    let limit = Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap().stdout;
    assert_eq!(words.next().unwrap(), String::from_utf8(limit).unwrap().trim());
}

#[test]
fn it_waits_for_the_last_and_leaves_nothing() {
    let runtime = TempDir::new().unwrap();
    let script = "(sleep 0.4; echo late) & (setsid sh -c 'sleep 0.6; echo later' &) & exit 5";
    let output = run(runtime.path(), &["sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "late\nlater\n");
    assert_eq!(entries(runtime.path()), [] as [PathBuf; 0]);
}

#[test]
fn what_a_killed_run_left_the_next_removes() {
    let runtime = TempDir::new().unwrap();
    let mut killed = Group(run(runtime.path(), &["sleep", "0.5"]).spawn().unwrap());
    eventually("the run has a directory", || entries(runtime.path()).len() == 1);
    let left = entries(runtime.path());
    let mut living = Group(run(runtime.path(), &["sleep", "30"]).spawn().unwrap());
    eventually("both have", || entries(runtime.path()).len() == 2);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    assert!(run(runtime.path(), &["true"]).status().unwrap().success());
    let after = entries(runtime.path());
    assert!(after.len() == 1 && after != left, "{left:?} {after:?}");
    signal(&living.0, Signal::SIGTERM);
    assert_eq!(living.0.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn signals_are_handed_on() {
    let runtime = TempDir::new().unwrap();
    let seen = runtime.path().join("seen");
    let script = "for s in HUP INT QUIT TERM USR1 USR2; do trap \"echo $s >> $0\" $s; done; \
                  echo ready >> $0; while ! grep -q end $0; do sleep 0.05; done; exit 9";
    let seen_text = || fs::read_to_string(&seen).unwrap_or_default();
    // A test runner started by nohup hands on an ignored HUP, which sh cannot trap.
    let program = ["env", "--default-signal", "sh", "-c", script, seen.to_str().unwrap()];
    let mut child = Group(run(runtime.path(), &program).spawn().unwrap());
    eventually("ready", || seen_text().contains("ready"));
    let all = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"];
    for name in all {
        signal(&child.0, format!("SIG{name}").parse().unwrap());
        eventually(name, || seen_text().contains(name));
    }
    fs::write(&seen, "end").unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(9));
}

#[test]
fn a_signal_ends_the_waiting_for_what_the_program_left() {
    let runtime = TempDir::new().unwrap();
    let left = runtime.path().join("left");
    let script = format!("sleep 60 & echo $! > {}; exit 3", left.display());
    let mut child = Group(run(runtime.path(), &["sh", "-c", &script]).spawn().unwrap());
    let pid = || fs::read_to_string(&left).ok()?.trim().parse::<i32>().ok();
    eventually("the program has left", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.0.id()));
        pid().is_some_and(|pid| children.unwrap_or_default().trim() == pid.to_string())
    });
    signal(&child.0, Signal::SIGTERM);
    assert_eq!(child.0.wait().unwrap().code(), Some(3));
    kill(Pid::from_raw(pid().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(entries(runtime.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_parent_that_ignores_its_children_does_no_harm() {
    let runtime = TempDir::new().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' CHLD; exec \"$0\" run -- sh -c 'exit 6'", common::KEYSHIM]);
    shell.env("XDG_RUNTIME_DIR", runtime.path());
    shell.env("KEYSHIM_LIBRARY", common::harmless_library());
    let status = shell.status().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(6), None));
}

fn in_domain(runtime: &Path, program: &[&str]) -> Command {
    let mut command = keyshim(runtime);
    command.args(["run", "--domain", "shared", "--"]).args(program);
    command
}

#[test]
fn runs_in_a_shared_domain_meet_and_the_last_ends_it() {
    let runtime = TempDir::new().unwrap();
    let socket = runtime.path().join("keyshim/domain-shared");
    let mut first = Group(in_domain(runtime.path(), &["sleep", "1"]).spawn().unwrap());
    eventually("the broker serves", || socket.exists());
    let addresses = |_: i32| {
        let output = in_domain(runtime.path(), &["sh", "-c", "echo $KEYSHIM_SOCKET"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let both = [1, 2].map(addresses);
    assert_eq!(both[0], both[1]);
    let parts: Vec<&str> = both[0].trim().split(',').collect();
    assert!(parts[0].starts_with("@keyshim-") && parts[1] == socket.to_str().unwrap(), "{parts:?}");
    // It outlives the run that started it.
    let mut second = Group(in_domain(runtime.path(), &["sleep", "2.5"]).spawn().unwrap());
    assert!(first.0.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(addresses(3), both[0]);
    assert!(second.0.wait().unwrap().success());
    eventually("the domain ends with its last program", || entries(runtime.path()).is_empty());
}

#[test]
fn many_runs_that_begin_at_once_share_one_domain() {
    let runtime = TempDir::new().unwrap();
    let begun = Instant::now();
    let runs: Vec<Child> = (0..8)
        .map(|_| {
            let mut run = in_domain(runtime.path(), &["sh", "-c", "echo $KEYSHIM_SOCKET; sleep 1"]);
            run.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let told = runs.into_iter().map(|run| run.wait_with_output().unwrap());
    let told: Vec<_> = told.map(|output| (output.status.code(), output.stdout)).collect();
    assert!(told.iter().all(|one| one == &told[0] && one.0 == Some(0)), "{told:?}");
    eventually("ended", || entries(runtime.path()).is_empty());
    assert!(begun.elapsed() < common::SOON);
}
