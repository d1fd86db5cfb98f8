//! Calls that wait for a key under construction, each with the road back to its caller.
//!
//! Nothing is sent while the domain is locked: what its core wants done is put into an
//! [`Outbox`], and delivered by whichever thread has the lock no more.

mod table;

use std::os::fd::{AsFd, OwnedFd};

use crossbeam::queue::SegQueue;
use keyshim_abi::Errno;
use keyshim_abi::caller::TaskId;
use keyshim_abi::reply::Answer;
use keyshim_keys::{CallId, Data, Effect, Made, TaskEvent, Upcall, UpcallId};

use crate::descent::Lineage;
use crate::domain::Domain;
use crate::fault::CutOff;
use crate::host;
use crate::identity::ThreadRef;
use crate::supervisor::Trapped;
pub(crate) use table::Waits;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is answered.
    Answered(Answer),
    /// It is answered later.
    Waits {
        /// By a signal it is answered at once.
        interruptible: bool,
    },
}

/// How a caller is reached.
pub(crate) enum Road {
    /// Over the connection of this number.
    Connection(u64),
    /// It has been answered already.
    Nobody,
    /// It stands still in the kernel.
    Trapped(Box<Trapped>),
}

/// The process that caused an upcall.
#[derive(Debug)]
pub(crate) struct Requester {
    /// Its id.
    pub(crate) pid: u32,
    /// The process itself, which may have ended.
    pub(crate) pidfd: OwnedFd,
    /// Its call was trapped in the kernel.
    pub(crate) is_trapped: bool,
}

/// What is to be done outside the domain.
pub(crate) enum Deed {
    /// Answer a call that waited.
    Reply(Road, Answer, Data),
    /// Call somebody who makes a key.
    CallOut(Upcall, Option<Requester>),
}

/// Deeds in the order in which they arose. There are no more of them than calls that
/// wait.
pub(crate) type Outbox = SegQueue<Deed>;

impl Domain {
    /// Takes out what the core wants done. Comes after every input, while its calls are
    /// still waited for.
    pub(crate) fn take_deeds(&mut self) {
        for effect in self.service.take_effects() {
            match effect {
                Effect::Reply { call, answer, data } => {
                    if let Some(road) = self.waits.take(call) {
                        self.waits.outbox.push(Deed::Reply(road, answer, data));
                    }
                }
                Effect::StartUpcall(upcall) => {
                    let requester = self.requester_of(&upcall);
                    self.waits.outbox.push(Deed::CallOut(upcall, requester));
                }
                // No service of ours asks for keys.
                Effect::Requested { .. } => {}
            }
        }
    }

    fn requester_of(&self, upcall: &Upcall) -> Option<Requester> {
        let place = self.tasks.place(upcall.requester).ok()?;
        let pidfd = self.tasks.pidfd(place.pid)?.try_clone_to_owned().ok()?;
        Some(Requester { pid: place.pid, pidfd, is_trapped: self.waits.is_trapped(upcall.call) })
    }

    /// A signal has come for a thread: its call is answered at once if it may be.
    pub(crate) fn interrupt(&mut self, task: TaskId) {
        for call in self.waits.of_task(task) {
            self.interrupt_call(call);
        }
    }

    /// The same for one call. False when it goes on waiting.
    pub(crate) fn interrupt_call(&mut self, call: CallId) -> bool {
        self.waits.note_interrupted(call);
        let is_answered = self.service.cancel(host::now(), call);
        self.take_deeds();
        is_answered
    }

    /// The helper of an upcall has begun: this process, which has not executed its
    /// program yet. Gone when it has ended.
    pub(crate) fn upcall_started(
        &mut self,
        upcall: UpcallId,
        pid: u32,
        pidfd: OwnedFd,
    ) -> Result<(), CutOff> {
        self.sweep();
        let ids = ThreadRef::new(pid, pid, pidfd.as_fd(), true).ids()?;
        let task = match self.lineage {
            Lineage::Told(_) => {
                let task = self.tasks.add_process_told(pid);
                self.tasks.meet_process(pid, pidfd);
                task
            }
            Lineage::Inferred => self.tasks.add_process(pid, pidfd, &self.changes)?,
        };
        self.report(TaskEvent::UpcallStarted { upcall, task, ids });
        Ok(())
    }

    /// The helper of an upcall has ended.
    pub(crate) fn upcall_exited(&mut self, upcall: UpcallId) {
        self.sweep();
        self.service.upcall_exited(host::now(), upcall);
        self.take_deeds();
    }

    /// What an upcall was for has been made without a helper.
    pub(crate) fn upcall_made(&mut self, upcall: UpcallId, made: Made) {
        self.service.finish_upcall(host::now(), upcall, made);
        self.take_deeds();
    }

    /// The helper of an upcall could not be started.
    pub(crate) fn upcall_failed(&mut self, upcall: UpcallId, errno: Errno) {
        self.service.upcall_failed(host::now(), upcall, errno);
        self.take_deeds();
    }
}
