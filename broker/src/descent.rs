//! From whom a task has its keyrings, where the kernel tells of every fork, execve and
//! end: nothing is inferred, and nothing has to be looked for before a change.
//!
//! A process is known from the moment at which it, or one that it descends from, has
//! made a key call. Before that moment no task of its family had any keyring to pass on.

use std::os::fd::{AsFd, OwnedFd};

use keyshim_abi::caller::TaskId;
use keyshim_keys::TaskEvent;
use keyshim_keys::profile::RingNames;

use crate::domain::Domain;
use crate::events::{Feed, Subscription, TaskNews};
use crate::fault::CutOff;
use crate::identity::{self, ThreadRef};
use crate::tasks::{Ended, Place};
use crate::{host, proc, sys};

/// What tells a domain of tasks.
pub(crate) enum Lineage {
    /// The kernel.
    Told(Subscription),
    /// Nobody: it is inferred (`lineage.rs`, `execution.rs`).
    Inferred,
}

/// If set, lineage is inferred although the kernel would tell: for tests.
const INFER: &str = "KEYSHIM_INFER_LINEAGE";

impl Lineage {
    /// The better one that can be had here.
    pub(crate) fn best() -> Lineage {
        if std::env::var_os(INFER).is_some() {
            return Lineage::Inferred;
        }
        Feed::shared().map_or(Lineage::Inferred, |feed| Lineage::Told(feed.subscribe()))
    }
}

impl Domain {
    /// True when the kernel tells of tasks.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.lineage, Lineage::Told(_))
    }

    /// Says what `/proc` calls a thread that begins, where keyrings are named by that.
    pub(crate) fn number(&mut self, event: &TaskEvent) {
        let (TaskEvent::Forked { child: task, .. }
        | TaskEvent::ThreadStarted { child: task, .. }
        | TaskEvent::Appeared { task, .. }
        | TaskEvent::UpcallStarted { task, .. }) = *event
        else {
            return;
        };
        if self.service.profile().ring_names == RingNames::Numbered {
            if let Ok(Place { pid, tid }) = self.tasks.place(task) {
                self.service.task_event(host::now(), TaskEvent::Numbered { task, pid, tid });
            }
        }
    }

    /// Takes note of all that the kernel has told.
    pub(crate) fn hear(&mut self) {
        let Lineage::Told(subscription) = &self.lineage else { return };
        for news in subscription.take() {
            match news {
                TaskNews::Forked { parent, child } if child.pid == child.tid => {
                    self.hear_of_process(parent, child.pid);
                }
                TaskNews::Forked { child, .. } => self.hear_of_thread(child),
                TaskNews::Execed { pid } => self.hear_of_execve(pid),
                TaskNews::Ended(place) => self.hear_of_end(place),
                TaskNews::Lost => self.look_around(),
            }
        }
    }

    fn hear_of_process(&mut self, parent: Place, child: u32) {
        if self.tasks.knows_pid(child) {
            return;
        }
        let thread = self.tasks.thread(parent).map(|thread| thread.task);
        let Some(parent) = thread.or_else(|| self.tasks.representative(parent.pid)) else { return };
        let child = self.tasks.add_process_told(child);
        self.report(TaskEvent::Forked { parent, child });
    }

    fn hear_of_thread(&mut self, place: Place) {
        if self.tasks.thread(place).is_some() {
            return;
        }
        let Some(parent) = self.tasks.maker(place.pid) else { return };
        if let Some(child) = self.tasks.add_thread_told(place) {
            self.report(TaskEvent::ThreadStarted { parent, child });
        }
    }

    fn hear_of_execve(&mut self, pid: u32) {
        let Some(task) = self.tasks.survivor(pid) else { return };
        self.report(TaskEvent::Execed { task });
        let mut ended = Ended::default();
        self.tasks.survive_execve(task, &mut ended);
        self.take_leave(ended);
    }

    fn hear_of_end(&mut self, place: Place) {
        let mut ended = Ended::default();
        if self.tasks.end(place, &mut ended) {
            self.orphans.forget(place.pid);
        }
        self.take_leave(ended);
    }

    /// Finds out by looking what we were not told: who has ended, and who is new.
    fn look_around(&mut self) {
        tracing::warn!("there was no room for all that the kernel told of tasks");
        for pid in self.tasks.pids() {
            let alive = proc::threads(pid);
            for (tid, _) in self.tasks.known_threads(pid) {
                if !alive.contains(&tid) {
                    self.hear_of_end(Place { pid, tid });
                }
            }
        }
        for pid in self.tasks.pids() {
            self.look_at_family(pid);
        }
    }

    /// Takes up the threads of a known process, and what has been forked by them.
    fn look_at_family(&mut self, pid: u32) {
        for tid in proc::threads(pid) {
            self.hear_of_thread(Place { pid, tid });
        }
        for (child, parent) in self.unknown_descendants(pid) {
            // Whoever started us may be a client of ours.
            if child != std::process::id() {
                self.hear_of_process(Place { pid: parent, tid: parent }, child);
            }
        }
    }

    /// The task of a thread that calls, held by pidfds from here on. Nobody of its
    /// family has called before if it is not known yet.
    pub(crate) fn meet(&mut self, place: Place, pidfd: OwnedFd) -> Result<TaskId, CutOff> {
        let pid = place.pid;
        if self.tasks.knows_pid(pid) {
            self.tasks.meet_process(pid, pidfd);
        } else {
            self.meet_first(pid, pidfd, |_, _| ())?;
        }
        self.hear_of_thread(place);
        self.tasks.meet_thread(place)?;
        self.tasks.thread(place).map(|thread| thread.task).ok_or(CutOff::Gone)
    }

    /// Takes up the first process of a family. What is done to it at its beginning has
    /// its family as well, as far as it is there already.
    pub(crate) fn meet_first(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        begin: impl FnOnce(&mut Domain, TaskId),
    ) -> Result<(), CutOff> {
        let ids = ThreadRef::new(pid, pid, pidfd.as_fd(), true).ids()?;
        let task = self.tasks.add_process_told(pid);
        self.tasks.meet_process(pid, pidfd);
        self.report(TaskEvent::Appeared { task, ids });
        begin(self, task);
        self.look_at_family(pid);
        self.orphans.note_run(pid);
        if proc::place(pid).is_some_and(|place| place.is_zombie) {
            // We shall not be told once more.
            self.hear_of_end(Place { pid, tid: pid });
        }
        Ok(())
    }

    /// As [`Domain::meet`], for a task that does not call, and may end meanwhile. Gone if it has.
    pub(crate) fn meet_silent(&mut self, place: Place) -> Result<TaskId, CutOff> {
        if let Some(thread) = self.tasks.thread(place).filter(|_| self.tasks.is_met(place)) {
            return Ok(thread.task);
        }
        let pidfd = sys::pidfd_open(place.pid, 0).map_err(|_| CutOff::Gone)?;
        // If the number was used again before the pidfd was made, we hear of the end of
        // the one before; if it has ended since, it is not alive.
        let before = self.tasks.thread(place).map(|thread| thread.task);
        self.hear();
        let is_same = self.tasks.thread(place).map(|thread| thread.task) == before;
        if !is_same || !identity::is_alive(pidfd.as_fd()) {
            return Err(CutOff::Gone);
        }
        self.meet(place, pidfd)
    }
}
