//! The keeper: a process that is left beside a mount, waits until nobody answers for it any
//! more, for whatever reason, and unmounts.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chdir, setsid};

use super::mount;
use crate::fault::Fault;
use crate::run::library::PRELOAD;
use crate::run::signals::Signals;

/// What it calls itself, by which a run knows that it is none of its programs.
const NAME: &str = "keyshim-keeper";

/// Starts the keeper of that mount.
pub(super) fn leave(directory: &Path, id: u64, line: UnixStream) -> Result<(), Fault> {
    let started = Command::new("/proc/self/exe")
        .arg0(NAME)
        .arg("keep-mount")
        .arg(id.to_string())
        .arg(directory)
        .env_remove(PRELOAD)
        .stdin(Stdio::from(OwnedFd::from(line)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(drop).map_err(|error| {
        mount::remove(directory, id);
        Fault::Told(format!("cannot start a keeper: {error}; raise the limit of processes"))
    })
}

/// A keeper's life. Its line is its standard input.
pub(crate) fn keep(directory: &Path, id: u64) -> Result<(), Fault> {
    let _ = nix::sys::prctl::set_name(c"keyshim-keeper");
    let _ = setsid();
    chdir("/").map_err(Fault::system("cannot go to /", "report this"))?;
    let signals = Signals::take()?;
    let line = std::io::stdin();
    loop {
        let mut fds = [
            PollFd::new(line.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let is_let_go = fds[0].any().unwrap_or(true);
        if is_let_go || signals.ask_to_stop() {
            mount::remove(directory, id);
            return Ok(());
        }
    }
}

/// Ends our children if all are keepers: what is left of a run whose programs have ended.
pub(crate) fn dismiss() {
    let children = children();
    let is_keeper = |&pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == NAME)
    };
    if children.iter().all(is_keeper) {
        for pid in children {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let texts: Vec<String> = texts.filter_map(Result::ok).collect();
    texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
