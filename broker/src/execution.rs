//! What the known processes run, and when one of them executes a program.
//!
//! execve takes a task's own keyrings away, but they live on for as long as the new
//! program does. So it matters when it happened, and in which thread. The preload
//! library says so right before; that it really happened shows in where the program
//! lies in memory. What nobody announced is seen when the process speaks next, or
//! when its child or parent does.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use keyshim_abi::caller::TaskId;
use keyshim_keys::TaskEvent;

use crate::domain::Domain;
use crate::fault::CutOff;
use crate::proc::{self, Image};
use crate::tasks::{Ended, Place};
use crate::{identity, sys};

/// How long an execve that was announced is waited for.
const EXECVE_WAIT: Duration = Duration::from_secs(10);

/// A process that is looked at before every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pid: u32,
    /// The thread that executes, or has executed, a program.
    task: TaskId,
    what: Awaited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The execve that it has announced, until then. A thread that is not the main
    /// one ends with it as far as its number goes.
    Execve { until: Instant, has_ended: bool },
    /// The end of its program, which keeps keyrings alive and cannot announce an
    /// execve before it has spoken.
    End,
}

impl Domain {
    /// A thread says that it is about to execute a program.
    pub(crate) fn announce_execve(&mut self, task: TaskId) -> Result<(), CutOff> {
        self.sweep();
        let pid = self.tasks.place(task)?.pid;
        if self.is_told() {
            return Ok(());
        }
        // Its siblings end with it, and nobody could tell whose their children were.
        for (tid, sibling) in self.tasks.known_threads(pid) {
            if sibling != task {
                self.materialise_children(sibling, Place { pid, tid });
            }
        }
        let until = Instant::now() + EXECVE_WAIT;
        self.watched.retain(|watch| watch.task != task);
        let what = Awaited::Execve { until, has_ended: false };
        self.watched.push(Watch { pid, task, what });
        Ok(())
    }

    /// A thread speaks after [`Domain::sweep`] and still runs the program of before:
    /// its execve has failed, and what ended meanwhile has simply ended.
    pub(crate) fn goes_on(&mut self, task: TaskId) {
        if self.watched.is_empty() {
            return;
        }
        let Ok(place) = self.tasks.place(task) else { return };
        for watch in std::mem::take(&mut self.watched) {
            match watch.what {
                Awaited::Execve { .. } if watch.task == task => {}
                Awaited::Execve { has_ended: true, .. } if watch.pid == place.pid => {
                    self.end_thread(watch.task);
                }
                _ => self.watched.push(watch),
            }
        }
    }

    /// True when the end of that thread may be its execve, which must be seen first.
    pub(crate) fn may_be_execve(&mut self, ended: TaskId) -> bool {
        let mut watched = self.watched.iter_mut();
        let Some(watch) = watched.find(|watch| watch.task == ended) else { return false };
        let Awaited::Execve { has_ended, .. } = &mut watch.what else { return false };
        *has_ended = true;
        self.tasks.forget_pidfd(ended);
        true
    }

    /// Takes note of what has been executed by those who are watched.
    pub(crate) fn look_for_execves(&mut self) {
        for watch in std::mem::take(&mut self.watched) {
            let rest = self.look_at(watch);
            self.watched.extend(rest);
        }
    }

    /// True while somebody is in an execve, or may be.
    pub(crate) fn awaits_execve(&self) -> bool {
        let is_open = |watch: &Watch| watch.what != Awaited::End;
        let is_half_done = |watch: &Watch| self.tasks.image(watch.pid).is_none();
        self.watched.iter().any(|watch| is_open(watch) || is_half_done(watch))
    }

    fn look_at(&mut self, watch: Watch) -> Option<Watch> {
        let image = self.image_now(watch.pid)?;
        let known = self.tasks.image(watch.pid);
        if known.is_none() && watch.what == Awaited::End {
            self.tasks.replace_image(watch.pid, image);
            return self.is_watched(watch.task, image).then_some(watch);
        }
        if image != known {
            return self.executed(watch.pid, watch.task, image);
        }
        let Awaited::Execve { until, has_ended } = watch.what else { return Some(watch) };
        let is_over = has_ended && self.has_siblings(watch);
        if !is_over && Instant::now() < until {
            return Some(watch);
        }
        if has_ended {
            self.end_thread(watch.task);
        }
        None
    }

    /// True when another thread of the process lives, so that none is in execve. For a
    /// moment the former main thread is still there, under the number of the one that
    /// takes its place.
    fn has_siblings(&self, watch: Watch) -> bool {
        let Ok(former) = self.tasks.place(watch.task) else { return false };
        let expected = [former.pid, former.tid];
        proc::threads(watch.pid).iter().any(|tid| !expected.contains(tid))
    }

    /// The program of a known, living process; the inner `None` in the middle of an
    /// execve, and where we may not know.
    fn image_now(&self, pid: u32) -> Option<Option<Image>> {
        let image = proc::place(pid)?.image;
        self.tasks.is_alive(pid).then_some(image)
    }

    pub(crate) fn end_thread(&mut self, task: TaskId) {
        let mut ended = Ended::default();
        self.tasks.remove_thread(task, &mut ended);
        self.take_leave(ended);
    }

    /// A thread says that it runs a fresh program: perhaps as we know already.
    pub(crate) fn speaks_freshly(&mut self, speaker: Place) {
        let pid = speaker.pid;
        let Some(image) = self.image_now(pid) else { return };
        // From here on it announces what it executes.
        let watch = self.watched.iter().position(|watch| watch.pid == pid);
        let watch = watch.map(|at| self.watched.swap_remove(at));
        let is_expected = self.tasks.hears(pid);
        if self.tasks.image(pid) == image {
            // Where addresses are not random it may lie where the one before did.
            let known = self.tasks.thread(speaker).filter(|_| !is_expected);
            if let Some(task) = known.map(|thread| thread.task) {
                self.report(TaskEvent::Execed { task });
            }
            return;
        }
        let announced = watch.map(|watch| watch.task);
        if let Some(task) = announced.or_else(|| self.tasks.representative(pid)) {
            self.executed(pid, task, image);
            self.tasks.hears(pid);
            self.watched.retain(|watch| watch.pid != pid);
        }
    }

    /// Takes note of an execve that nobody announced, if the process of that task
    /// runs another program than when it was last looked at.
    pub(crate) fn notice_execve(&mut self, task: TaskId) {
        if self.is_told() {
            return;
        }
        let Ok(place) = self.tasks.place(task) else { return };
        let Some(image @ Some(_)) = self.image_now(place.pid) else { return };
        if self.tasks.image(place.pid) != image {
            let watch = self.executed(place.pid, task, image);
            self.watched.extend(watch);
        }
    }

    /// The thread has executed a program, with which it alone goes on.
    fn executed(&mut self, pid: u32, task: TaskId, image: Option<Image>) -> Option<Watch> {
        if let Some(before) = self.tasks.image(pid) {
            self.pin_image(pid, task, before);
        }
        self.tasks.replace_image(pid, image);
        self.report(TaskEvent::Execed { task });
        let mut ended = Ended::default();
        self.tasks.survive_execve(task, &mut ended);
        self.take_leave(ended);
        self.is_watched(task, image).then_some(Watch { pid, task, what: Awaited::End })
    }

    /// True while the program that a thread has executed must be looked at: it is not
    /// in its place yet, or its end would be the end of keyrings.
    fn is_watched(&self, task: TaskId, image: Option<Image>) -> bool {
        image.is_none() || self.service.has_left_keyrings(task)
    }

    /// Takes up the descendants that still run the program from before an execve:
    /// its file keeps the credentials that it was opened with, and their keyrings.
    /// Where addresses are not random, those forked since are taken for such.
    fn pin_image(&mut self, pid: u32, task: TaskId, before: Image) {
        for (child, parent) in self.unknown_descendants(pid) {
            let image = proc::place(child).and_then(|place| place.image);
            let Ok(pidfd) = sys::pidfd_open(child, 0) else { continue };
            // Still a child of that process: so the number was not used again.
            let is_still = identity::parent(child, pidfd.as_fd()) == Some(parent);
            if image == Some(before) && is_still {
                // Whom we cannot take up has gone.
                let _ = self.take_up_sharing(child, pidfd, task, Some(before));
            }
        }
    }
}
