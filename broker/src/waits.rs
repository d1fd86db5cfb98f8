//! Calls that wait for a key under construction, each with the road back to its caller.
//!
//! Nothing is sent while the domain is locked: what its core wants done is put into an
//! [`Outbox`], and delivered by whichever thread has the lock no more.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

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
use crate::proc;
use crate::supervisor::Trapped;

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

struct Waiting {
    task: TaskId,
    road: Road,
}

/// The calls that wait.
#[derive(Default)]
pub(crate) struct Waits {
    calls: HashMap<CallId, Waiting>,
    last: u64,
    /// Where deeds go.
    pub(crate) outbox: Arc<Outbox>,
}

impl Waits {
    /// A number for the next call.
    pub(crate) fn number(&mut self) -> CallId {
        self.last += 1;
        CallId(self.last)
    }

    /// Notes that a call waits.
    pub(crate) fn add(&mut self, call: CallId, task: TaskId, road: Road) {
        self.calls.insert(call, Waiting { task, road });
    }

    /// Takes out a call that is answered.
    pub(crate) fn take(&mut self, call: CallId) -> Option<Road> {
        self.calls.remove(&call).map(|waiting| waiting.road)
    }

    /// True when that call came out of the kernel.
    pub(crate) fn is_trapped(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|waiting| matches!(waiting.road, Road::Trapped(_)))
    }

    /// Notes that what a call is answered with is for a signal's sake.
    fn note_interrupted(&mut self, call: CallId) {
        if let Some(Waiting { road: Road::Trapped(trapped), .. }) = self.calls.get_mut(&call) {
            trapped.is_interrupted = true;
        }
    }

    /// The calls of a thread, which are several if signals have interrupted it.
    pub(crate) fn of_task(&self, task: TaskId) -> Vec<CallId> {
        // Nearly always there is none at all.
        let of_task =
            |(&call, waiting): (&CallId, &Waiting)| (waiting.task == task).then_some(call);
        self.calls.iter().filter_map(of_task).collect()
    }

    /// The calls of a connection.
    pub(crate) fn of_connection(&self, id: u64) -> Vec<CallId> {
        let of_connection = |(&call, waiting): (&CallId, &Waiting)| {
            matches!(waiting.road, Road::Connection(its) if its == id).then_some(call)
        };
        self.calls.iter().filter_map(of_connection).collect()
    }

    /// The trapped calls with the numbers of their threads.
    pub(crate) fn trapped(&self) -> Vec<(CallId, u32)> {
        let of_thread = |(&call, waiting): (&CallId, &Waiting)| match &waiting.road {
            Road::Trapped(trapped) => Some((call, trapped.tid())),
            Road::Connection(_) | Road::Nobody => None,
        };
        self.calls.iter().filter_map(of_thread).collect()
    }
}

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

    /// Looks whether signals have come for trapped calls. True while there are such calls.
    pub(crate) fn interrupt_by_signals(&mut self) -> bool {
        let trapped = self.waits.trapped();
        let mut is_any_left = false;
        for (call, tid) in trapped {
            if self.service.is_interruptible(call) {
                is_any_left |= !proc::has_signal(tid) || !self.interrupt_call(call);
            }
        }
        is_any_left
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
