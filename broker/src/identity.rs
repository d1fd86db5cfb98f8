//! Which process and which thread: by pidfds, so that a number that was used
//! again is never taken for the task that had it before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keyshim_abi::caller::{Gid, Ids, Uid};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use nix::sys::socket::{UnixCredentials, getsockopt};
use nix::sys::stat::fstat;
use once_cell::unsync::OnceCell;

use crate::fault::CutOff;
use crate::proc::Status;
use crate::{proc, sys};

/// The process at the other end of a socket pair: the one that made the pair.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its id.
    pub(crate) pid: u32,
    /// Its effective user when it made the pair; for limits only, since it may change.
    pub(crate) uid: u32,
    /// The process itself.
    pub(crate) pidfd: OwnedFd,
}

impl Peer {
    /// Who made the socket pair of which this is one end. Gone when that process
    /// has ended, or cannot be seen from our pid namespace.
    pub(crate) fn of(socket: &OwnedFd) -> Result<Peer, CutOff> {
        let credentials = getsockopt(socket, PeerCredentials).map_err(CutOff::Kernel)?;
        let pid = sender(&credentials).ok_or(CutOff::Gone)?;
        let pidfd = match getsockopt(socket, PeerPidfd) {
            Ok(pidfd) => pidfd,
            // Before Linux 6.5. The process could end between the two calls and its
            // number be used again; what it sends then is from another process.
            Err(Errno::ENOPROTOOPT) => sys::pidfd_open(pid, 0).map_err(|_| CutOff::Gone)?,
            Err(_) => return Err(CutOff::Gone),
        };
        Ok(Peer { pid, uid: credentials.uid(), pidfd })
    }
}

/// The process that credentials name; `None` for one that we cannot see, and for a
/// message that the kernel did not stamp.
pub(crate) fn sender(credentials: &UnixCredentials) -> Option<u32> {
    u32::try_from(credentials.pid()).ok().filter(|&pid| pid != 0)
}

/// A number that no two living tasks share (the inode of a pidfd, unique since
/// Linux 6.9; before that the same for all, and the pid has to do).
pub(crate) fn inode(pidfd: BorrowedFd<'_>) -> u64 {
    fstat(pidfd).map_or(0, |stat| stat.st_ino)
}

/// True while the task has not ended.
pub(crate) fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

/// One thread during one call: what only its status tells is read when it is first
/// asked for, and not again.
#[derive(Debug)]
pub(crate) struct ThreadRef<'a> {
    pid: u32,
    tid: u32,
    pidfd: BorrowedFd<'a>,
    exact: bool,
    status: OnceCell<Status>,
}

impl<'a> ThreadRef<'a> {
    /// A thread of process `pid`, by its pidfd, or by that of its process where the
    /// kernel has none for threads; `exact` when it stands for the thread itself.
    pub(crate) fn new(pid: u32, tid: u32, pidfd: BorrowedFd<'a>, exact: bool) -> ThreadRef<'a> {
        ThreadRef { pid, tid, pidfd, exact, status: OnceCell::new() }
    }

    /// The thread's ids at this moment.
    pub(crate) fn ids(&self) -> Result<Ids, CutOff> {
        if self.exact {
            match sys::pidfd_info(self.pidfd) {
                Ok(info) => return Ok(ids_from(&info)),
                Err(Errno::ENOTTY | Errno::EINVAL) => (),
                Err(_) => return Err(CutOff::Gone),
            }
        }
        self.status().map(|status| status.ids)
    }

    /// The thread's status.
    pub(crate) fn status(&self) -> Result<&Status, CutOff> {
        self.status.get_or_try_init(|| {
            let status = proc::status(self.pid, self.tid);
            // Alive after the reading: then it was this task that was read.
            status.filter(|_| is_alive(self.pidfd)).ok_or(CutOff::Gone)
        })
    }

    /// The process that forked its process, 0 for none that we can see.
    pub(crate) fn parent(&self) -> Option<u32> {
        parent(self.pid, self.pidfd)
    }
}

/// The parent of a process, 0 for none that we can see; `None` when it has gone.
pub(crate) fn parent(pid: u32, pidfd: BorrowedFd<'_>) -> Option<u32> {
    match sys::pidfd_info(pidfd) {
        Ok(info) => Some(info.ppid),
        Err(Errno::ENOTTY | Errno::EINVAL) => {
            let place = proc::place(pid)?;
            is_alive(pidfd).then_some(place.parent)
        }
        Err(_) => None,
    }
}

fn ids_from(info: &libc::pidfd_info) -> Ids {
    Ids {
        uid: Uid(info.ruid),
        euid: Uid(info.euid),
        suid: Uid(info.suid),
        fsuid: Uid(info.fsuid),
        gid: Gid(info.rgid),
        egid: Gid(info.egid),
        sgid: Gid(info.sgid),
        fsgid: Gid(info.fsgid),
    }
}

/// A pidfd of a thread that is not its process's main one. `None` where the kernel
/// has no such thing (before Linux 6.9).
pub(crate) fn thread_pidfd(pid: u32, tid: u32) -> Result<Option<OwnedFd>, CutOff> {
    let pidfd = match sys::pidfd_open(tid, libc::PIDFD_THREAD) {
        Ok(pidfd) => pidfd,
        Err(Errno::EINVAL) => return Ok(None),
        Err(Errno::ESRCH) => return Err(CutOff::Gone),
        Err(errno) => return Err(CutOff::Kernel(errno)),
    };
    // The number may have been used again before the pidfd was made.
    let same = proc::status(pid, tid).is_some() && is_alive(pidfd.as_fd());
    if same { Ok(Some(pidfd)) } else { Err(CutOff::Gone) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_ids_are_the_same_by_pidfd_and_by_status() {
        let pid = std::process::id();
        let pidfd = sys::pidfd_open(pid, 0).unwrap();
        let of = |exact| ThreadRef::new(pid, pid, pidfd.as_fd(), exact).ids().unwrap();
        assert_eq!(of(true), of(false));
    }

    #[test]
    fn a_status_is_read_once_and_not_before_it_is_asked_for() {
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let pidfd = sys::pidfd_open(child.id(), 0).unwrap();
        let of = || ThreadRef::new(child.id(), child.id(), pidfd.as_fd(), true);
        let (asked, unasked) = (of(), of());
        let ids = asked.status().unwrap().ids;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(asked.status().unwrap().ids, ids);
        assert_eq!(unasked.status(), Err(CutOff::Gone));
    }

    #[test]
    fn a_child_that_has_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = sys::pidfd_open(child.id(), 0).unwrap();
        child.wait().unwrap();
        assert!(!is_alive(pidfd.as_fd()));
        let gone = ThreadRef::new(child.id(), child.id(), pidfd.as_fd(), true);
        assert_eq!(gone.ids(), Err(CutOff::Gone));
        assert_eq!(gone.status(), Err(CutOff::Gone));
    }
}
