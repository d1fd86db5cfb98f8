//! Tasks that the kernel has told of: met when they call for the first time, and
//! forgotten when they end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keyshim_abi::caller::TaskId;

use super::{Ended, Place, Tasks};
use crate::fault::CutOff;
use crate::identity;

impl Tasks {
    /// True when that task can be asked who it is.
    pub(crate) fn is_met(&self, place: Place) -> bool {
        let Some(process) = self.processes.get(&place.pid) else { return false };
        let Some(thread) = process.threads.get(&place.tid) else { return false };
        process.pidfd.is_some() && (place.tid == place.pid || thread.pidfd.is_some())
    }

    /// Holds a known process by its pidfd from now on.
    pub(crate) fn meet_process(&mut self, pid: u32, pidfd: OwnedFd) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.pidfd.get_or_insert(pidfd);
        }
    }

    /// The pidfd of a known process that has called.
    pub(crate) fn pidfd(&self, pid: u32) -> Option<BorrowedFd<'_>> {
        self.processes.get(&pid)?.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Holds a known thread of a process that is met by a pidfd of its own. Gone when
    /// it has ended.
    pub(crate) fn meet_thread(&mut self, place: Place) -> Result<(), CutOff> {
        if self.is_met(place) || place.tid == place.pid {
            return Ok(());
        }
        let pidfd = identity::thread_pidfd(place.pid, place.tid)?;
        self.thread_mut(place).ok_or(CutOff::Gone)?.pidfd = pidfd;
        Ok(())
    }

    /// The thread of a process that has just executed a program: the others have ended
    /// before, so it is the only one left.
    pub(crate) fn survivor(&self, pid: u32) -> Option<TaskId> {
        let threads = &self.processes.get(&pid)?.threads;
        match threads.len() {
            1 => threads.values().map(|thread| thread.task).next(),
            _ => self.representative(pid),
        }
    }

    /// Forgets a thread that has ended, and its process if it was the last: true then.
    pub(crate) fn end(&mut self, place: Place, ended: &mut Ended) -> bool {
        let Some(process) = self.processes.get_mut(&place.pid) else { return false };
        let thread = process.threads.remove(&place.tid);
        let is_last = process.threads.is_empty();
        if is_last {
            self.processes.remove(&place.pid);
        }
        if let Some(thread) = thread {
            self.forget(thread, ended);
        }
        is_last
    }
}
