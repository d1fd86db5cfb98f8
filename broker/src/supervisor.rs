//! Programs that are caught in the kernel: a seccomp filter stops the three calls of
//! every thread below it, and we answer in its stead.
//!
//! The thread that takes a call carries it out and answers, as a worker does with a
//! frame; all of it stays between [`notify::receive`] and [`notify::answer`]. The call
//! never goes on into the kernel. Whatever happens to us, the program sees a kernel
//! without keys: ENOSYS, which is also what Linux answers once nobody listens.

pub(crate) mod filter;
mod journal;
mod memory;
pub(crate) mod notify;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use keyshim_abi::frame::Message;
use keyshim_abi::gate::{GATES, entered};
use keyshim_abi::limits::STRINGS_LEN_MAX;
use keyshim_abi::marshal::{self, RawCall};
use keyshim_abi::{Errno, Reply};
use nix::errno::Errno as System;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use zeroize::{Zeroize, Zeroizing};

use crate::fault::Fault;
use crate::server::{self, Server};
use crate::{host, sys, worker};
use journal::Journal;
use memory::CallerMemory;
use notify::{Installed, Notification};

/// Receivers of one listener: one for each of two CPUs. More do not help, since
/// calls of one domain are carried out one after the other.
const RECEIVERS: usize = 2;

/// A filter's listener with the domain that answers.
pub(crate) struct Supervisor {
    listener: OwnedFd,
    server: Arc<Server>,
    /// For kernels that let any signal interrupt a call that we are at.
    journal: Option<Mutex<Journal>>,
    /// Whether receiving ends when no program is left (Linux 6.11).
    receiving_ends: bool,
}

/// A listener and how it came to be.
pub(crate) struct Listener {
    /// The descriptor.
    pub(crate) fd: OwnedFd,
    /// What its kernel can do.
    pub(crate) installed: Installed,
}

impl Listener {
    /// Takes the listener that [`notify::begin_under_filter`] has sent, if it has.
    pub(crate) fn take(channel: &OwnedFd) -> Option<Listener> {
        let mut word = [0];
        let mut data = [std::io::IoSliceMut::new(&mut word)];
        let mut control = nix::cmsg_space!(std::os::fd::RawFd);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(channel.as_raw_fd(), &mut data, Some(&mut control), flags);
        let fd = message.ok()?.cmsgs().ok()?.find_map(|one| match one {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })?;
        Some(Listener {
            fd: sys::adopt(fd),
            installed: Installed { is_killable_only: word == [1] },
        })
    }
}

impl Supervisor {
    /// Answers the calls of all programs under a filter until there are none.
    pub(crate) fn start(server: &Arc<Server>, listener: Listener) -> Result<(), Fault> {
        let supervisor = Arc::new(Supervisor::new(server, listener));
        for number in 0..RECEIVERS {
            let supervisor = Arc::clone(&supervisor);
            server::spawn(format!("receiver {number}"), move || supervisor.attend())?;
        }
        Ok(())
    }

    /// What answers the calls of all programs under a filter, for whoever has threads
    /// for it.
    pub(crate) fn new(server: &Arc<Server>, listener: Listener) -> Supervisor {
        if let Err(errno) = notify::wake_in_turn(listener.fd.as_fd()) {
            tracing::info!(%errno, "trapped calls wake across CPUs");
        }
        let is_killable_only = listener.installed.is_killable_only;
        Supervisor {
            listener: listener.fd,
            server: Arc::clone(server),
            journal: (!is_killable_only).then(Mutex::default),
            receiving_ends: host::kernel_is_at_least(6, 11),
        }
    }

    /// A receiver's life: until no program is left under the filter.
    pub(crate) fn attend(&self) {
        let mut room = Room::default();
        loop {
            if !self.receiving_ends && !self.has_programs(PollTimeout::NONE) {
                return;
            }
            match notify::receive(self.listener.as_fd()) {
                Ok(call) => self.serve(&call, &mut room),
                // The last program has gone, or the call was interrupted before we
                // could take it.
                Err(System::ENOENT) if !self.has_programs(PollTimeout::ZERO) => return,
                Err(System::EINTR | System::ENOENT) => {}
                Err(errno) => {
                    tracing::error!(%errno, "cannot take trapped calls any more");
                    return;
                }
            }
        }
    }

    /// False when no program is left under the filter. Before Linux 6.11 receiving
    /// would not end then; there this waits until there is something to receive.
    fn has_programs(&self, wait: PollTimeout) -> bool {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, wait);
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        ready.is_err() || !events.contains(PollFlags::POLLHUP)
    }

    fn serve(&self, call: &Notification, room: &mut Room) {
        let Some(raw) = entered(GATES, call.arch, call.number, call.args) else {
            // The filter lets nothing else through to us.
            tracing::error!(?call, "trapped what is no key call");
            self.answer(call, negative(Errno::ENOSYS));
            return;
        };
        let value = match self.replay(call, &raw) {
            Some(value) => value,
            None => self.carry_out(call, &raw, room),
        };
        self.answer(call, value);
    }

    fn replay(&self, call: &Notification, raw: &RawCall) -> Option<i64> {
        let journal = self.journal.as_ref()?;
        journal.lock().unwrap_or_else(PoisonError::into_inner).take(call.tid, raw)
    }

    fn answer(&self, call: &Notification, value: i64) {
        let unheard = notify::answer(self.listener.as_fd(), call.id, value).is_err();
        if let (true, Some(journal)) = (unheard, &self.journal) {
            if let Some(raw) = entered(GATES, call.arch, call.number, call.args) {
                let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
                journal.note(call.tid, raw, value);
            }
        }
    }

    /// What the call is to return. ENOSYS when we cannot know who calls or with what:
    /// the fault is ours, and the log says which.
    fn carry_out(&self, call: &Notification, raw: &RawCall, room: &mut Room) -> i64 {
        let memory = CallerMemory::of(call.tid);
        let value = self.carry_out_with(call, raw, &memory, room);
        room.clear();
        match memory.barred() {
            // Gone: nobody will hear the answer.
            None | Some(System::ESRCH) => value,
            Some(errno) => {
                tracing::warn!(tid = call.tid, %errno, "cannot touch the caller's memory");
                negative(Errno::ENOSYS)
            }
        }
    }

    fn carry_out_with(
        &self,
        call: &Notification,
        raw: &RawCall,
        memory: &CallerMemory,
        room: &mut Room,
    ) -> i64 {
        if let Some(errno) = raw.refused_by_length() {
            return negative(errno);
        }
        let (fetched, data) = room.for_call(raw);
        let request = match marshal::request(raw, memory, fetched) {
            Ok(request) if memory.barred().is_none() => request,
            Ok(_) => return negative(Errno::ENOSYS),
            Err(errno) => return negative(errno),
        };
        let task = match self.server.domain().task_of(call.tid) {
            // It still waits: so it was this thread whose memory was read.
            Ok(task) if notify::is_waiting(self.listener.as_fd(), call.id) => task,
            Ok(_) => return negative(Errno::ENOSYS),
            Err(reason) => {
                tracing::info!(tid = call.tid, "a trapped call is not answered: {reason}");
                return negative(Errno::ENOSYS);
            }
        };
        match worker::carry_out(&self.server, task, &Message::Call(request), data) {
            Ok((answer, _)) => marshal::deliver(raw, &Reply { answer, data }, memory),
            Err(reason) => {
                tracing::info!(tid = call.tid, "a trapped call is not answered: {reason}");
                negative(Errno::ENOSYS)
            }
        }
    }
}

const fn negative(errno: Errno) -> i64 {
    -(errno.raw() as i64)
}

/// A receiver's own memory, used again for each call.
#[derive(Default)]
struct Room {
    /// Strings and payload, as fetched from the caller.
    fetched: Zeroizing<Vec<u8>>,
    /// Bytes of it that this call may have written.
    used_len: usize,
    /// What goes back to the caller.
    data: Zeroizing<Vec<u8>>,
}

impl Room {
    fn for_call(&mut self, raw: &RawCall) -> (&mut [u8], &mut Vec<u8>) {
        let len = raw.scratch_len();
        if self.fetched.len() < len {
            self.fetched = Zeroizing::new(vec![0; len]);
        }
        self.used_len = len;
        (&mut self.fetched[..len], &mut self.data)
    }

    /// Clears what may be secret; memory of an unusual size is given back.
    fn clear(&mut self) {
        self.fetched[..self.used_len].zeroize();
        self.used_len = 0;
        if self.fetched.len() > 2 * STRINGS_LEN_MAX {
            self.fetched = Zeroizing::default();
        }
        worker::clear(&mut self.data);
    }
}
