//! A trapped call that waits: its thread stands still in the kernel until it is answered.

use std::os::fd::AsFd;
use std::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_abi::marshal::{self, RawCall};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Reply};
use keyshim_keys::Data;

use super::journal::Deed;
use super::memory::CallerMemory;
use super::notify::{self, Notification};
use super::scribes::{self, Late};
use super::{Outcome, Supervisor, unless_barred};

/// What the kernel itself says inside for a call that a signal has interrupted: it begins
/// anew behind the handler, or returns EINTR, as the handler was installed. Programs see
/// it only if there is no signal.
const RESTART: i64 = -512;

/// Everything that its answer takes.
pub(crate) struct Trapped {
    supervisor: Arc<Supervisor>,
    call: Notification,
    raw: RawCall,
    task: TaskId,
    deed: Option<Deed>,
    /// A signal is why it is answered.
    pub(crate) is_interrupted: bool,
}

impl Trapped {
    /// A call that was carried out as far as it goes.
    pub(super) fn new(
        supervisor: &Arc<Supervisor>,
        call: &Notification,
        raw: &RawCall,
        task: TaskId,
        deed: Option<Deed>,
    ) -> Trapped {
        let supervisor = Arc::clone(supervisor);
        Trapped { supervisor, call: *call, raw: *raw, task, deed, is_interrupted: false }
    }

    /// The calling thread.
    pub(crate) const fn tid(&self) -> u32 {
        self.call.tid
    }

    /// A signal may end the wait: then it begins anew, if all that it does is to ask.
    pub(crate) fn note_interruptible(&mut self) {
        self.deed = self.deed.filter(|deed| !deed.wants_a_key);
    }

    /// True when it is made once more by that call.
    pub(super) fn is_once_more(&self, deed: &Deed) -> bool {
        self.deed.as_ref() == Some(deed)
    }

    /// Answers it, unless its thread has ended. Never waits: what is to be written into the
    /// caller's memory is left to those who may.
    pub(crate) fn answer(self: Box<Trapped>, answer: Answer, data: Data) {
        if self.is_interrupted && answer == Err(Errno::EINTR) {
            return self.supervisor.answer(self.call.id, Outcome::interrupted());
        }
        if data.0.is_empty() {
            return self.write(answer, &[]);
        }
        let supervisor = Arc::clone(&self.supervisor);
        scribes::write(&supervisor, Late { trapped: self, answer, data });
    }

    /// The same with the data, for as long as the caller's memory makes that take.
    pub(super) fn write(self, answer: Answer, data: &[u8]) {
        let Trapped { supervisor, call, raw, task, deed, is_interrupted: _ } = self;
        let memory = CallerMemory::of(call.tid);
        // The number stands for this thread as long as it waits.
        let is_there = notify::is_waiting(supervisor.listener.as_fd(), call.id);
        let value = match is_there {
            true => marshal::deliver(&raw, &Reply { answer, data }, &memory),
            false => answer.map_or_else(super::negative, i64::from),
        };
        let done = deed.filter(|_| value >= 0).map(|deed| (task, deed));
        let outcome = Outcome { value, done, carries_payload: false };
        supervisor.answer(call.id, unless_barred(&memory, call.tid, outcome));
    }
}

impl Outcome {
    const fn interrupted() -> Outcome {
        Outcome { value: RESTART, done: None, carries_payload: false }
    }
}
