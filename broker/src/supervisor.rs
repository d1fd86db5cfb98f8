//! Programs that are caught in the kernel: a seccomp filter stops the three calls of
//! every thread below it, and we answer in its stead.
//!
//! The thread that takes a call carries it out and answers, as a worker does with a
//! frame; all of it stays between [`notify::receive`] and [`notify::answer`]. The call
//! never goes on into the kernel. Whatever happens to us, the program sees a kernel
//! without keys: ENOSYS, which is also what Linux answers once nobody listens.

pub(crate) mod channel;
pub(crate) mod filter;
pub(crate) mod handover;
mod journal;
mod memory;
pub(crate) mod notify;
pub(crate) mod probe;
mod scribes;
mod trapped;
pub(crate) mod trial;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use keyshim_abi::caller::TaskId;
use keyshim_abi::gate::{GATES, entered};
use keyshim_abi::limits::STRINGS_LEN_MAX;
use keyshim_abi::marshal::{self, RawCall};
use keyshim_abi::{Errno, Reply, Serial};
use nix::errno::Errno as System;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::{Zeroize, Zeroizing};

use crate::domain::Domain;
use crate::fault::Fault;
use crate::housekeeping::Note;
use crate::pool;
use crate::server::Server;
use crate::waits::{Progress, Road};
use crate::{host, worker};
pub(crate) use channel::Listener;
use journal::{Deed, Journal};
use memory::CallerMemory;
use notify::Notification;
use scribes::Scribes;
pub(crate) use trapped::Trapped;

/// A filter's listener with the domain that answers.
pub(crate) struct Supervisor {
    listener: OwnedFd,
    server: Arc<Server>,
    /// For kernels that let any signal interrupt a call that we are at. It wants a
    /// single receiver: whoever takes the call that comes once more must have seen
    /// what became of it the first time.
    journal: Option<Mutex<Journal>>,
    /// Whether receiving ends when no program is left (Linux 6.11).
    receiving_ends: bool,
    /// Who write what calls that have waited are answered with.
    scribes: Scribes,
}

impl Supervisor {
    /// Answers the calls of all programs under a filter until there are none.
    pub(crate) fn start(server: &Arc<Server>, listener: Listener) -> Result<(), Fault> {
        let supervisor = Supervisor::new(server, listener);
        // One thread: two would take turns, and each be cold when its turn comes, which
        // makes every call a fifth longer; calls of a domain are carried out one after
        // the other all the same.
        pool::run("receiver", move || supervisor.attend())
    }

    /// What answers the calls of all programs under a filter, for whoever has threads
    /// for it.
    pub(crate) fn new(server: &Arc<Server>, listener: Listener) -> Arc<Supervisor> {
        if let Err(errno) = notify::wake_in_turn(listener.fd.as_fd()) {
            tracing::info!(%errno, "trapped calls wake across CPUs");
        }
        server.listeners.fetch_add(1, Ordering::Relaxed);
        Arc::new(Supervisor {
            listener: listener.fd,
            server: Arc::clone(server),
            journal: (!listener.installed.is_killable_only).then(Mutex::default),
            receiving_ends: host::kernel_is_at_least(6, 11),
            scribes: Scribes::default(),
        })
    }

    /// A receiver's life: until no program is left under the filter.
    pub(crate) fn attend(self: &Arc<Supervisor>) {
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

    fn serve(self: &Arc<Supervisor>, call: &Notification, room: &mut Room) {
        let outcome = match entered(GATES, call.arch, call.number, call.args) {
            Some(raw) => self.carry_out(call, &raw, room),
            None => {
                // The filter lets nothing else through to us.
                tracing::error!(?call, "trapped what is no key call");
                Some(Outcome::of(Errno::ENOSYS))
            }
        };
        if let Some(outcome) = outcome {
            self.answer(call.id, outcome);
        }
        self.server.deliver();
    }

    fn answer(&self, call: u64, outcome: Outcome) {
        let heard = notify::answer(self.listener.as_fd(), call, outcome.value);
        if let (Err(_), Some((task, deed))) = (heard, outcome.done) {
            self.with_journal(|journal| journal.note(task, deed, outcome.value));
        }
    }

    fn with_journal<T>(&self, act: impl FnOnce(&mut Journal) -> T) -> Option<T> {
        let journal = self.journal.as_ref()?;
        Some(act(&mut journal.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What the call is to return. ENOSYS when we cannot know who calls or with what:
    /// the fault is ours, and the log says which. `None` when it waits.
    fn carry_out(
        self: &Arc<Supervisor>,
        call: &Notification,
        raw: &RawCall,
        room: &mut Room,
    ) -> Option<Outcome> {
        if call.tid == NOBODY {
            tracing::warn!("a trapped call comes from a pid namespace that we do not see");
            return Some(Outcome::of(Errno::ENOSYS));
        }
        let memory = CallerMemory::of(call.tid);
        let outcome = self.carry_out_with(call, raw, &memory, room);
        room.clear(outcome.as_ref().is_none_or(|outcome| outcome.carries_payload));
        outcome.map(|outcome| unless_barred(&memory, call.tid, outcome))
    }

    fn carry_out_with(
        self: &Arc<Supervisor>,
        call: &Notification,
        raw: &RawCall,
        memory: &CallerMemory,
        room: &mut Room,
    ) -> Option<Outcome> {
        if let Some(errno) = raw.refused_by_length() {
            return Some(Outcome::of(errno));
        }
        let (fetched, data) = room.for_call(raw);
        let request = match marshal::request(raw, memory, fetched) {
            Ok(request) if memory.barred().is_none() => request,
            Ok(_) => return Some(Outcome::of(Errno::ENOSYS)),
            Err(errno) => return Some(Outcome::of(errno)),
        };
        let carries_payload = request.carries_payload();
        // Held until the call is done, so that what was seen of its thread still is so.
        let mut domain = self.server.domain();
        let Some(task) = self.task_of(&mut domain, call) else {
            return Some(Outcome::of(Errno::ENOSYS));
        };
        let deed =
            self.with_journal(|journal| journal.deed(raw, call.instruction, &request)).flatten();
        if let Some(value) = self.unheard(&mut domain, task, deed.as_ref()) {
            let done = deed.map(|deed| (task, deed));
            return Some(Outcome { value, done, carries_payload });
        }
        let road = || Road::Trapped(Box::new(Trapped::new(self, call, raw, task, deed)));
        let progress = worker::carry_out_found(domain, task, &request, data, road);
        let value = match progress {
            Ok(Progress::Answered(answer)) => {
                marshal::deliver(raw, &Reply { answer, data }, memory)
            }
            Ok(Progress::Waits { interruptible }) => {
                if interruptible {
                    self.server.notes.leave(Note::Trapped);
                }
                return None;
            }
            Err(reason) => {
                tracing::info!(?task, "a trapped call is not answered: {reason}");
                negative(Errno::ENOSYS)
            }
        };
        // What failed has changed nothing, and may be tried again.
        let done = deed.filter(|_| value >= 0).map(|deed| (task, deed));
        Some(Outcome { value, done, carries_payload })
    }

    /// What a thread makes a call once more for, if that has been done and still counts.
    fn unheard(&self, domain: &mut Domain, task: TaskId, deed: Option<&Deed>) -> Option<i64> {
        let value = self.with_journal(|journal| journal.take(task, deed)).flatten();
        let deed = deed?;
        domain.waits.abandon(task, |trapped| trapped.is_once_more(deed));
        let is_live = |value: i64| {
            let serial = i32::try_from(value).ok().and_then(Serial::new);
            serial.is_some_and(|serial| domain.service.is_live(host::now(), serial))
        };
        value.filter(|&value| !deed.wants_a_key || is_live(value))
    }

    /// Who calls, if it is known and still waits: so it was this thread whose memory
    /// was read.
    fn task_of(&self, domain: &mut Domain, call: &Notification) -> Option<TaskId> {
        match domain.task_of(call.tid) {
            Ok(task) => notify::is_waiting(self.listener.as_fd(), call.id).then_some(task),
            Err(reason) => {
                tracing::info!(tid = call.tid, "a trapped call is not answered: {reason}");
                None
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.server.listeners.fetch_sub(1, Ordering::Relaxed);
        self.server.notes.leave(Note::Left);
    }
}

/// A fault of ours where the caller's memory could not be touched.
fn unless_barred(memory: &CallerMemory, tid: u32, outcome: Outcome) -> Outcome {
    match memory.barred() {
        // Gone: nobody will hear the answer.
        None | Some(System::ESRCH) => outcome,
        Some(errno) => {
            tracing::warn!(tid, %errno, "cannot touch the caller's memory");
            Outcome::of(Errno::ENOSYS)
        }
    }
}

/// The number of a thread in a pid namespace beside or above ours.
const NOBODY: u32 = 0;

/// What a call is to return, and what was done for it that must not be done twice.
struct Outcome {
    value: i64,
    done: Option<(TaskId, Deed)>,
    /// False when no byte of a payload was fetched.
    carries_payload: bool,
}

impl Outcome {
    /// An error, for which nothing was done.
    const fn of(errno: Errno) -> Outcome {
        Outcome { value: negative(errno), done: None, carries_payload: true }
    }
}

const fn negative(errno: Errno) -> i64 {
    -(errno.raw() as i64)
}

/// Bytes that most calls are content with.
const USUAL_LEN: usize = 2 * STRINGS_LEN_MAX;
/// Calls that are content with it, after which there is no more.
const USUAL_CALLS_MAX: u32 = 64;
/// Bytes looked at together before they are cleared.
const PIECE_LEN: usize = 256;

/// A receiver's own memory, used again for each call.
#[derive(Default)]
struct Room {
    /// Strings and payload, as fetched from the caller.
    fetched: Zeroizing<Vec<u8>>,
    /// Bytes of it that this call may have written.
    used_len: usize,
    /// Calls since one last needed memory of an unusual size.
    usual_calls: u32,
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
        self.usual_calls = if len > USUAL_LEN { 0 } else { self.usual_calls.saturating_add(1) };
        (&mut self.fetched[..len], &mut self.data)
    }

    /// Clears what may be secret. Memory of an unusual size is given back when it has
    /// not been needed for a while.
    fn clear(&mut self, carries_payload: bool) {
        if !carries_payload {
            self.used_len = self.used_len.min(STRINGS_LEN_MAX);
        }
        // Most of it has not been written to, and a look costs less than a wipe.
        let pieces = self.fetched[..self.used_len].chunks_mut(PIECE_LEN);
        let is_used = |piece: &&mut [u8]| piece.iter().fold(0, |all, byte| all | byte) != 0;
        pieces.filter(is_used).for_each(Zeroize::zeroize);
        self.used_len = 0;
        if self.fetched.len() > USUAL_LEN && self.usual_calls > USUAL_CALLS_MAX {
            self.fetched = Zeroizing::default();
        }
        worker::clear(&mut self.data);
    }
}
