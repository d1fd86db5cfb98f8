//! The process of a helper: watched until its end, its output taken, and taken leave of.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use keyshim_abi::Serial;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::output::Output;
use super::spawn::Held;
use crate::identity;
use crate::supervisor::channel;
use crate::sys;

/// A helper's process, and the pipe into which it prints. Ended when it is dropped.
pub(super) struct Process {
    pub(super) held: Held,
    output: File,
    /// Open until the process has ended: else the end of its output would wake us, and
    /// then its own end again.
    _printed_to: OwnedFd,
}

impl Process {
    /// One that `fork` makes, to print into that pipe.
    pub(super) fn begin(
        fork: impl FnOnce(BorrowedFd<'_>) -> Result<Held, Errno>,
    ) -> Result<Process, Errno> {
        let (output, printed_to) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Ours alone: helpers know how to wait for room.
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let held = fork(printed_to.as_fd())?;
        Ok(Process { held, output: output.into(), _printed_to: printed_to })
    }

    pub(super) fn is_alive(&self) -> bool {
        identity::is_alive(self.held.pidfd.as_fd())
    }

    /// Waits until it has ended, and shows what it prints. One that takes longer than it
    /// may is killed with all that it has started.
    pub(super) fn watch(&self, key: Serial, mut deadline: Option<Instant>) {
        let mut output = Some(Output::new(&self.output, key));
        loop {
            let (ready, has_ended, has_output) = self.await_news(output.is_some(), deadline);
            if has_output && !output.as_mut().is_some_and(Output::take) {
                // It cannot be read.
                output = None;
            }
            if has_ended {
                break;
            }
            if ready == Ok(0) && deadline.take().is_some() {
                tracing::warn!(pid = self.held.pid, "a helper is killed: it has taken too long");
                self.kill();
            }
        }
        if let Some(output) = output {
            output.end();
        }
    }

    /// What poll(2) returns; whether it has ended, and whether there is output.
    fn await_news(
        &self,
        is_heard: bool,
        deadline: Option<Instant>,
    ) -> (Result<i32, Errno>, bool, bool) {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(self.held.pidfd.as_fd()), readable(self.output.as_fd())];
        let heard = if is_heard { 2 } else { 1 };
        let ready = poll(&mut fds[..heard], channel::until(deadline));
        let [has_ended, has_output] = fds.map(|fd| fd.any() == Some(true));
        (ready, has_ended, has_output)
    }

    /// Ends it with all that it has started and not put into a session of their own.
    fn kill(&self) {
        if self.is_alive() {
            // Its number is its own until somebody has taken leave of it.
            let group = Pid::from_raw(self.held.pid as i32);
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        }
        let _ = sys::pidfd_kill(self.held.pidfd.as_fd());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
            while !self.await_news(false, None).1 {}
        }
        // Whoever waits for all children of this process may have done it before us.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(Pid::from_raw(self.held.pid as i32)), flags) {
            Ok(WaitStatus::Exited(_, 0)) | Err(_) => {}
            Ok(status) => tracing::info!(?status, "a helper has failed"),
        }
    }
}
