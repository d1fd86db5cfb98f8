//! Open knobs: sockets of which every message is one write to a tunable.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use keyshim_abi::Errno;
use keyshim_abi::limits::KNOB_WRITE_LEN_MAX;
use keyshim_abi::procfs::Knob;
use keyshim_keys::KeyService;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use crate::domain::Change;

/// Knobs open at the same time. One more: ENFILE.
const OPEN_MAX: usize = 256;
/// Writes to one knob taken in one look; a writer that keeps on writing must not
/// keep everybody else waiting.
const WRITES_MAX: usize = 1024;

/// The open knobs.
#[derive(Default)]
pub(crate) struct Knobs {
    open: BTreeMap<u32, (Knob, OwnedFd)>,
    last: u32,
}

impl Knobs {
    /// Opens a knob: the end for the writer. ENFILE when too many are open.
    pub(crate) fn open(&mut self, knob: Knob, changes: &Epoll) -> Result<OwnedFd, Errno> {
        if self.open.len() >= OPEN_MAX {
            return Err(Errno::ENFILE);
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (ours, theirs) = pair.map_err(|_| Errno::ENFILE)?;
        self.last = self.last.wrapping_add(1);
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        let event = EpollEvent::new(interest, Change::Knob(self.last).encode());
        changes.add(&ours, event).map_err(|_| Errno::ENOMEM)?;
        self.open.insert(self.last, (knob, ours));
        Ok(theirs)
    }

    /// Carries out the writes that have arrived. What is no value for the knob is
    /// passed over: the writer has gone on already and cannot be told.
    pub(crate) fn drain(&mut self, number: u32, service: &mut KeyService) {
        let Some((knob, socket)) = self.open.get(&number) else { return };
        for _ in 0..WRITES_MAX {
            // One byte more than allowed shows a write that is too long.
            let mut buffer = [0; KNOB_WRITE_LEN_MAX + 1];
            let flags = MsgFlags::MSG_DONTWAIT;
            match recv(socket.as_raw_fd(), &mut buffer, flags) {
                Ok(0) if !has_ended(socket) => (),
                Ok(len @ 1..) => write(*knob, buffer.get(..len).unwrap_or_default(), service),
                Err(nix::errno::Errno::EAGAIN) => return,
                Ok(_) | Err(_) => {
                    self.open.remove(&number);
                    return;
                }
            }
        }
    }
}

/// True when the writer has closed its end and nothing is left to read. An empty
/// write looks the same to recv(2), so the socket is asked as well.
fn has_ended(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    let ready = fds[0].revents().unwrap_or(PollFlags::empty());
    let peek = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    let is_drained = !matches!(recv(socket.as_raw_fd(), &mut [0], peek), Ok(1..));
    ready.contains(PollFlags::POLLHUP) && is_drained
}

fn write(knob: Knob, value: &[u8], service: &mut KeyService) {
    if value.len() > KNOB_WRITE_LEN_MAX {
        tracing::debug!(knob = knob.name(), "a write longer than any number is passed over");
        return;
    }
    if let Err(errno) = service.knob_write(knob, value) {
        tracing::debug!(knob = knob.name(), %errno, "no value for this knob; passed over");
    }
}
