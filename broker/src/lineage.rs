//! From whom a task has its keyrings, where nobody tells us of a fork (where the kernel
//! does, see `descent.rs`). A task is looked for among its ancestors
//! when it first appears, and *materialised before a change*: right before a
//! thread's session may change, those that it has forked so far are taken up with
//! the session that they inherited.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use keyshim_abi::Request;
use keyshim_abi::caller::{Parent, TaskId};
use keyshim_abi::frame::Origin;
use keyshim_keys::TaskEvent;

use crate::domain::Domain;
use crate::fault::CutOff;
use crate::identity::{self, Peer, ThreadRef};
use crate::inheritance::{
    changes_inheritance, names_process_keyring, names_session, names_thread_keyring,
};
use crate::proc::Image;
use crate::tasks::Place;
use crate::{orphans, proc, sys};

/// Ancestors looked at before a process counts as one without any.
const ANCESTORS_MAX: usize = 1024;
/// Descendants taken up before one change. A caller with more of them pays with
/// the lineage of the rest, not everybody with the time.
const DESCENDANTS_MAX: usize = 16 * 1024;
/// How long before its end a process may have forked what is taken for its daemon.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

impl Domain {
    /// The task that a greeting comes from; takes it up if it is new.
    pub(crate) fn admit(
        &mut self,
        peer: &Peer,
        claimed_tid: u32,
        origin: Origin,
    ) -> Result<TaskId, CutOff> {
        let pid = peer.pid;
        let tid = proc::find_thread(pid, claimed_tid).ok_or(CutOff::NotItsThread)?;
        if !identity::is_alive(peer.pidfd.as_fd()) {
            return Err(CutOff::Gone);
        }
        let place = Place { pid, tid };
        if self.is_told() {
            let pidfd = peer.pidfd.try_clone().map_err(|_| CutOff::Greedy)?;
            return self.meet(place, pidfd);
        }
        if !self.tasks.knows_process(pid, &peer.pidfd) {
            let pidfd = peer.pidfd.try_clone().map_err(|_| CutOff::Greedy)?;
            let parent = self.origin_of(peer, origin);
            self.take_up(pid, pidfd, parent)?;
            self.tasks.hears(pid);
            self.orphans.note_run(pid);
            return self.known_or_started(place);
        }
        if origin == Origin::Fresh {
            self.speaks_freshly(place);
        }
        self.known_or_started(place)
    }

    /// The living descendants between which and the process nobody is known, each
    /// with its parent.
    pub(crate) fn unknown_descendants(&self, pid: u32) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let mut waiting = vec![Place { pid, tid: pid }];
        while let Some(Place { pid, tid }) = waiting.pop() {
            for child in proc::children(pid, tid) {
                if self.tasks.knows_pid(child) || found.len() == DESCENDANTS_MAX {
                    continue;
                }
                found.push((child, pid));
                let threads = proc::threads(child);
                waiting.extend(threads.into_iter().map(|tid| Place { pid: child, tid }));
            }
        }
        found
    }

    /// A thread that is not the main one says that it starts another, or has.
    pub(crate) fn start_thread(&mut self, task: TaskId, done: bool) -> Result<(), CutOff> {
        self.sweep();
        self.goes_on(task);
        let place = self.tasks.place(task)?;
        if !self.is_told() {
            self.materialise_threads(place);
        }
        self.tasks.set_maker(place.pid, (!done).then_some(task));
        Ok(())
    }

    /// The thread's number; a thread that is new was started by the one that says
    /// that it is at it, or that stands for its process.
    pub(crate) fn known_or_started(&mut self, place: Place) -> Result<TaskId, CutOff> {
        if let Some(thread) = self.tasks.thread(place) {
            return Ok(thread.task);
        }
        let parent = self.tasks.maker(place.pid).ok_or(CutOff::Gone)?;
        let child = self.tasks.add_thread(place, &self.changes)?;
        self.report(TaskEvent::ThreadStarted { parent, child });
        Ok(child)
    }

    /// Takes up a new process: forked by `parent`, or without any.
    pub(crate) fn take_up(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        parent: Option<TaskId>,
    ) -> Result<TaskId, CutOff> {
        let Some(parent) = parent else {
            let ids = ThreadRef::new(pid, pid, pidfd.as_fd(), true).ids()?;
            let task = self.tasks.add_process(pid, pidfd, &self.changes)?;
            self.report(TaskEvent::Appeared { task, ids });
            return Ok(task);
        };
        self.notice_execve(parent);
        let image = self.tasks.image(self.tasks.place(parent)?.pid);
        self.take_up_sharing(pid, pidfd, parent, image)
    }

    /// Takes up a child of a process that runs that program. If it runs another one,
    /// it has executed it since.
    pub(crate) fn take_up_sharing(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        parent: TaskId,
        image: Option<Image>,
    ) -> Result<TaskId, CutOff> {
        let task = self.tasks.add_process(pid, pidfd, &self.changes)?;
        self.report(TaskEvent::Forked { parent, child: task });
        let own = self.tasks.image(pid);
        if own.is_some() && image.is_some() && own != image {
            self.report(TaskEvent::Execed { task });
        }
        Ok(task)
    }

    /// Who forked a new process: the thread whose secret it shows, else its
    /// nearest known ancestor, else, for an orphan, the likeliest.
    fn origin_of(&self, peer: &Peer, origin: Origin) -> Option<TaskId> {
        if let Origin::ForkedBy(token) = origin {
            if let Some(task) = self.tasks.by_token(token) {
                return Some(task);
            }
        }
        let parent = identity::parent(peer.pid, peer.pidfd.as_fd())?;
        self.ancestor(peer.pid, parent)
    }

    /// The thread of the nearest known ancestor from which `child` descends.
    pub(crate) fn ancestor(&self, child: u32, parent: u32) -> Option<TaskId> {
        let (mut child, mut parent) = (child, parent);
        for _ in 0..ANCESTORS_MAX {
            if let Some(orphan) = self.orphans.is_adopted(child, parent) {
                return orphan.then(|| self.foster_parent(child)).flatten();
            }
            if self.tasks.knows_pid(parent) {
                return self.forker(parent, child);
            }
            (child, parent) = (parent, proc::place(parent)?.parent);
        }
        None
    }

    /// Which thread of a known process forked that child.
    fn forker(&self, parent: u32, child: u32) -> Option<TaskId> {
        let threads = self.tasks.known_threads(parent);
        let forked_it = |&(tid, _): &(u32, TaskId)| proc::children(parent, tid).contains(&child);
        let forker = match threads.len() {
            0 | 1 => None,
            _ => threads.iter().find(|thread| forked_it(thread)).map(|&(_, task)| task),
        };
        forker.or_else(|| self.tasks.representative(parent))
    }

    /// For a process whose parent has ended before anybody asked (a daemon that
    /// forked twice): the leader of its process group or session, or the program
    /// that the run began with, from which everything descends. Nobody else: a
    /// session too few is better than somebody else's.
    fn foster_parent(&self, pid: u32) -> Option<TaskId> {
        let orphan = proc::place(pid)?;
        let may_be = |&parent: &u32| {
            let started = self.tasks.started_ticks(parent);
            parent != pid && started.is_some_and(|started| started <= orphan.started_ticks)
        };
        let leaders = [orphan.group, orphan.session].into_iter();
        let likeliest = leaders.chain(self.orphans.roots()).find(may_be)?;
        self.tasks.representative(likeliest)
    }

    /// A known process has ended. What it had forked has another parent by now, in
    /// a run that run. So what has been adopted, is not known and began in the last
    /// moments of the dead is taken for its: a daemon goes to the background so.
    pub(crate) fn pin_orphans(&mut self, dead: u32) {
        let adopted = self.orphans.adopted();
        self.orphans.forget(dead);
        if adopted.is_empty() {
            return;
        }
        let Some(parent) = self.tasks.representative(dead) else { return };
        // The clock of processes is coarse: of two in one tick, the larger number
        // came later.
        let dead_began = (self.tasks.started_ticks(dead).unwrap_or(u64::MAX), dead);
        let last_moments = orphans::ticks_ago(LAST_MOMENTS);
        for (reaper, child) in adopted {
            let is_recent = proc::place(child).is_some_and(|place| {
                let began = place.started_ticks;
                began >= last_moments && (began, child) > dead_began
            });
            if is_recent && !self.tasks.knows_pid(child) {
                self.take_up_child(child, reaper, parent);
            }
        }
    }

    /// Takes up a living child of process `pid` as forked by `parent`, unless it
    /// has gone meanwhile.
    fn take_up_child(&mut self, child: u32, pid: u32, parent: TaskId) -> Option<TaskId> {
        // Whoever started us may be a client of ours.
        if child == std::process::id() {
            return None;
        }
        let pidfd = sys::pidfd_open(child, 0).ok()?;
        // Still a child of that process: so the number was not used again.
        if identity::parent(child, pidfd.as_fd()) != Some(pid) {
            return None;
        }
        self.take_up(child, pidfd, Some(parent)).ok()
    }

    /// Takes up whatever could lose its inheritance by this request.
    pub(crate) fn materialise_before(
        &mut self,
        task: TaskId,
        request: &Request<'_>,
    ) -> Result<(), CutOff> {
        if self.is_told() {
            return Ok(());
        }
        let place = self.tasks.place(task)?;
        let gains_ring = names_thread_keyring(request) && !self.service.has_thread_keyring(task)
            || names_process_keyring(request) && !self.service.has_process_keyring(task);
        let gains_session = names_session(request) && !self.service.has_session(task);
        let thread = self.tasks.thread_mut(place).ok_or(CutOff::Gone)?;
        let is_first = !std::mem::replace(&mut thread.is_settled, true);
        let changes = is_first || gains_session || changes_inheritance(request);
        if changes || gains_ring {
            self.materialise_threads(place);
        }
        if changes {
            self.materialise_children(task, place);
        }
        Ok(())
    }

    /// Takes up what a listing must show of thread keyrings: a thread whose maker had
    /// one began with one, and they belong to whom their threads act for at present.
    pub(crate) fn materialise_before_listing(&mut self) {
        for pid in self.tasks.pids() {
            let mut with_ring = self.tasks.known_threads(pid);
            with_ring.retain(|&(_, task)| self.service.has_thread_keyring(task));
            if !with_ring.is_empty() && !self.is_told() {
                self.materialise_threads(Place { pid, tid: pid });
            }
            for (tid, task) in with_ring {
                if proc::is_ending(pid, tid) {
                    self.end_thread(task);
                    continue;
                }
                if self.is_told() && self.meet_silent(Place { pid, tid }).is_err() {
                    continue;
                }
                let thread = self.tasks.thread_ref(Place { pid, tid });
                if let Ok(ids) = thread.and_then(|thread| thread.ids()) {
                    self.report(TaskEvent::IdsChanged { task, ids });
                }
            }
        }
    }

    fn materialise_threads(&mut self, place: Place) {
        for tid in proc::threads(place.pid) {
            // A thread that has just ended needs nothing.
            let _ = self.known_or_started(Place { pid: place.pid, tid });
        }
    }

    pub(crate) fn materialise_children(&mut self, task: TaskId, place: Place) {
        let mut waiting = vec![(task, place)];
        let mut taken = 0;
        while let Some((parent, place)) = waiting.pop() {
            for child in proc::children(place.pid, place.tid) {
                if self.tasks.knows_pid(child) || taken == DESCENDANTS_MAX {
                    continue;
                }
                let Some(task) = self.take_up_child(child, place.pid, parent) else { continue };
                taken += 1;
                let threads = proc::threads(child);
                waiting.extend(threads.into_iter().map(|tid| (task, Place { pid: child, tid })));
            }
        }
    }

    /// The caller's parent for SESSION_TO_PARENT, known to the core from here on.
    /// `None` when it is nobody whom the caller could give a session to.
    pub(crate) fn parent_of(&mut self, task: TaskId) -> Result<Option<Parent>, CutOff> {
        let place = self.tasks.place(task)?;
        let pid = self.tasks.thread_ref(Place { pid: place.pid, tid: place.pid })?.parent();
        let pid = pid.ok_or(CutOff::Gone)?;
        // Init, nobody whom we can see, or the run itself, which has no keys.
        if self.orphans.is_adopted(place.pid, pid).is_some() {
            return Ok(None);
        }
        let known = match self.is_told() {
            true => {
                let parent = Place { pid, tid: pid };
                self.meet_silent(parent).ok().map(|task| (task, parent))
            }
            false => self.known_parent(pid, place),
        };
        let Some((task, parent)) = known else { return Ok(None) };
        let thread = self.tasks.thread_ref(parent)?;
        let Ok(status) = thread.status() else { return Ok(None) };
        Ok(Some(Parent { task, ids: thread.ids()?, unfit: status.thread_count != 1 }))
    }

    fn known_parent(&mut self, pid: u32, child: Place) -> Option<(TaskId, Place)> {
        let place = Place { pid, tid: pid };
        if !self.tasks.knows_pid(pid) {
            let pidfd = sys::pidfd_open(pid, 0).ok()?;
            let is_still = self.tasks.thread_ref(child).ok()?.parent() == Some(pid);
            let grandparent = identity::parent(pid, pidfd.as_fd())?;
            if !is_still {
                return None;
            }
            let origin = self.ancestor(pid, grandparent);
            self.take_up(pid, pidfd, origin).ok()?;
        }
        let task = self.known_or_started(place).ok()?;
        self.notice_execve(task);
        self.materialise_children(task, place);
        Some((task, place))
    }
}
