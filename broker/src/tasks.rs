//! The threads that a domain knows: their numbers, their pidfds, their secrets.
//!
//! Where the kernel does not tell of ends, a pidfd per process and per further thread is
//! in the epoll of the domain's changes, so that an end is seen before the next call is
//! served. Where it does, a task may be known that has never called.

mod met;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use keyshim_abi::caller::TaskId;
use keyshim_abi::frame::Token;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::domain::Change;
use crate::fault::CutOff;
use crate::host;
use crate::identity::{self, ThreadRef};
use crate::proc;

/// A process of which at least one thread is known.
pub(crate) struct Process {
    /// Not before its first call, if the kernel tells of tasks.
    pidfd: Option<OwnedFd>,
    inode: u64,
    /// When it began, in clock ticks: a child is no older than its parent.
    started_ticks: u64,
    /// The program that it ran when it was last looked at.
    image: Option<proc::Image>,
    /// It has not spoken since that program was noted.
    is_unheard: bool,
    threads: BTreeMap<u32, Thread>,
    /// The thread that is starting another, if it is not the main one.
    maker: Option<TaskId>,
}

/// A known thread.
pub(crate) struct Thread {
    /// Its number in this domain.
    pub(crate) task: TaskId,
    /// Its pidfd; the main thread uses that of its process.
    pidfd: Option<OwnedFd>,
    token: Option<Token>,
    /// The connections over which it talks.
    connections: Vec<u64>,
    /// Its children so far are known. What it forks later can be asked about later,
    /// until its session changes.
    pub(crate) is_settled: bool,
}

impl Thread {
    fn new(task: TaskId, pidfd: Option<OwnedFd>) -> Thread {
        Thread { task, pidfd, token: None, connections: Vec::new(), is_settled: false }
    }
}

/// Where a task is: its process and its thread id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Id of its process.
    pub(crate) pid: u32,
    /// Its own id.
    pub(crate) tid: u32,
}

/// What has ended with a task.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The tasks.
    pub(crate) tasks: Vec<TaskId>,
    /// The connections that nobody can talk over any more.
    pub(crate) connections: Vec<u64>,
}

/// Every known thread.
#[derive(Default)]
pub(crate) struct Tasks {
    processes: HashMap<u32, Process>,
    places: HashMap<TaskId, Place>,
    /// Tasks by the number of their thread: that of the latest, if it was used again.
    by_tid: HashMap<u32, TaskId>,
    tokens: HashMap<Token, TaskId>,
    last: u64,
}

impl Tasks {
    /// True when no living process is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// True once a task has been taken up, wherever it is now.
    pub(crate) fn has_met_anybody(&self) -> bool {
        self.last != 0
    }

    /// Where that task is; Gone when it has ended.
    pub(crate) fn place(&self, task: TaskId) -> Result<Place, CutOff> {
        self.places.get(&task).copied().ok_or(CutOff::Gone)
    }

    /// The known thread with these ids.
    pub(crate) fn thread(&self, place: Place) -> Option<&Thread> {
        self.processes.get(&place.pid)?.threads.get(&place.tid)
    }

    /// The same, to be changed.
    pub(crate) fn thread_mut(&mut self, place: Place) -> Option<&mut Thread> {
        self.processes.get_mut(&place.pid)?.threads.get_mut(&place.tid)
    }

    /// Where the known thread of that number is, if it has not ended as far as its
    /// pidfd says: then no other thread can have the number. Comes after a sweep.
    pub(crate) fn held(&self, tid: u32) -> Option<Place> {
        let place = self.place(*self.by_tid.get(&tid)?).ok()?;
        (place.tid == tid && self.is_met(place)).then_some(place)
    }

    /// The thread as its credentials can be asked for.
    pub(crate) fn thread_ref(&self, place: Place) -> Result<ThreadRef<'_>, CutOff> {
        let process = self.processes.get(&place.pid).ok_or(CutOff::Gone)?;
        let thread = process.threads.get(&place.tid).ok_or(CutOff::Gone)?;
        let is_main = place.pid == place.tid;
        let pidfd = thread.pidfd.as_ref().or(process.pidfd.as_ref()).ok_or(CutOff::Gone)?.as_fd();
        let exact = is_main || thread.pidfd.is_some();
        Ok(ThreadRef::new(place.pid, place.tid, pidfd, exact))
    }

    /// The thread that stands for a known process: its main thread, or the one
    /// known for longest.
    pub(crate) fn representative(&self, pid: u32) -> Option<TaskId> {
        let threads = &self.processes.get(&pid)?.threads;
        let main = threads.get(&pid).map(|thread| thread.task);
        main.or_else(|| threads.values().map(|thread| thread.task).min())
    }

    /// The thread that has started whichever of that process is not known yet.
    pub(crate) fn maker(&self, pid: u32) -> Option<TaskId> {
        let maker = self.processes.get(&pid)?.maker;
        maker.filter(|task| self.places.contains_key(task)).or_else(|| self.representative(pid))
    }

    /// Notes which thread, if not the main one, is starting another.
    pub(crate) fn set_maker(&mut self, pid: u32, maker: Option<TaskId>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.maker = maker;
        }
    }

    /// The known threads of a process.
    pub(crate) fn known_threads(&self, pid: u32) -> Vec<(u32, TaskId)> {
        let process = self.processes.get(&pid);
        let threads = process.iter().flat_map(|process| &process.threads);
        threads.map(|(&tid, thread)| (tid, thread.task)).collect()
    }

    /// True when that very process is known, and not an earlier one of its number.
    pub(crate) fn knows_process(&self, pid: u32, pidfd: &OwnedFd) -> bool {
        let inode = identity::inode(pidfd.as_fd());
        self.processes.get(&pid).is_some_and(|process| process.inode == inode)
    }

    /// True when a process of that number is known. Its pidfd says whether it
    /// still is that one.
    pub(crate) fn knows_pid(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// The known processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.keys().copied().collect()
    }

    /// When a known process began, in clock ticks.
    pub(crate) fn started_ticks(&self, pid: u32) -> Option<u64> {
        self.processes.get(&pid).map(|process| process.started_ticks)
    }

    /// The program that a known process ran when it was last looked at.
    pub(crate) fn image(&self, pid: u32) -> Option<proc::Image> {
        self.processes.get(&pid)?.image
    }

    /// Notes which program a known process runs now.
    pub(crate) fn replace_image(&mut self, pid: u32, image: Option<proc::Image>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.image = image;
            process.is_unheard = true;
        }
    }

    /// A known process speaks: true when that is the first time since its program
    /// was noted.
    pub(crate) fn hears(&mut self, pid: u32) -> bool {
        let process = self.processes.get_mut(&pid);
        process.is_some_and(|process| std::mem::take(&mut process.is_unheard))
    }

    /// True while a known process has not ended.
    pub(crate) fn is_alive(&self, pid: u32) -> bool {
        let pidfd = self.processes.get(&pid).and_then(|process| process.pidfd.as_ref());
        pidfd.is_some_and(|pidfd| identity::is_alive(pidfd.as_fd()))
    }

    /// After an execve, its thread goes on as the main one, and no other does.
    pub(crate) fn survive_execve(&mut self, task: TaskId, ended: &mut Ended) {
        let Ok(Place { pid, tid }) = self.place(task) else { return };
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let mut threads = std::mem::take(&mut process.threads);
        if let Some(survivor) = threads.remove(&tid) {
            let Thread { token, connections, .. } = survivor;
            let survivor = Thread { token, connections, ..Thread::new(task, None) };
            process.threads.insert(pid, survivor);
            self.places.insert(task, Place { pid, tid: pid });
            self.by_tid.remove(&tid);
            self.by_tid.insert(pid, task);
        }
        for thread in threads.into_values() {
            self.forget(thread, ended);
        }
    }

    /// Is told of the end of that thread no more.
    pub(crate) fn forget_pidfd(&mut self, task: TaskId) {
        let thread = self.place(task).ok().and_then(|place| self.thread_mut(place));
        if let Some(thread) = thread {
            thread.pidfd = None;
        }
    }

    /// Takes up a process with its main thread, whose number it returns.
    pub(crate) fn add_process(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        changes: &Epoll,
    ) -> Result<TaskId, CutOff> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, Change::Process(pid).encode());
        changes.add(&pidfd, event).map_err(CutOff::Kernel)?;
        let task = self.add_process_told(pid);
        let place = proc::place(pid);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.inode = identity::inode(pidfd.as_fd());
            process.pidfd = Some(pidfd);
            process.started_ticks = place.map_or(0, |place| place.started_ticks);
            process.image = place.and_then(|place| place.image);
        }
        Ok(task)
    }

    /// Takes up a process that the kernel has told of, and will tell the end of.
    pub(crate) fn add_process_told(&mut self, pid: u32) -> TaskId {
        let task = self.number(Place { pid, tid: pid });
        let threads = BTreeMap::from([(pid, Thread::new(task, None))]);
        let process = Process {
            pidfd: None,
            inode: 0,
            started_ticks: 0,
            image: None,
            is_unheard: true,
            threads,
            maker: None,
        };
        self.processes.insert(pid, process);
        task
    }

    /// Takes up a further thread that the kernel has told of.
    pub(crate) fn add_thread_told(&mut self, place: Place) -> Option<TaskId> {
        self.processes.get(&place.pid)?;
        let task = self.number(place);
        let process = self.processes.get_mut(&place.pid)?;
        process.threads.insert(place.tid, Thread::new(task, None));
        Some(task)
    }

    /// Takes up a further thread of a known process.
    pub(crate) fn add_thread(&mut self, place: Place, changes: &Epoll) -> Result<TaskId, CutOff> {
        let pidfd = match place.pid == place.tid {
            true => None,
            false => identity::thread_pidfd(place.pid, place.tid)?,
        };
        let task = self.number(place);
        if let Some(pidfd) = &pidfd {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, Change::Thread(task).encode());
            changes.add(pidfd, event).map_err(CutOff::Kernel)?;
        }
        let process = self.processes.get_mut(&place.pid).ok_or(CutOff::Gone)?;
        process.threads.insert(place.tid, Thread::new(task, pidfd));
        Ok(task)
    }

    fn number(&mut self, place: Place) -> TaskId {
        self.last += 1;
        let task = TaskId(self.last);
        self.places.insert(task, place);
        self.by_tid.insert(place.tid, task);
        task
    }

    /// Notes a connection of a thread and returns the thread's secret.
    pub(crate) fn greet(&mut self, task: TaskId, connection: u64) -> Result<Token, CutOff> {
        let place = self.place(task)?;
        let thread = self.thread_mut(place).ok_or(CutOff::Gone)?;
        thread.connections.push(connection);
        let token = *thread.token.get_or_insert_with(|| {
            let mut secret = [0; 16];
            host::fill_random(&mut secret);
            Token(secret)
        });
        self.tokens.insert(token, task);
        Ok(token)
    }

    /// The living task that was given this secret.
    pub(crate) fn by_token(&self, token: Token) -> Option<TaskId> {
        self.tokens.get(&token).copied()
    }

    /// Forgets a connection that was closed.
    pub(crate) fn hang_up(&mut self, task: TaskId, connection: u64) {
        let thread = self.place(task).ok().and_then(|place| self.thread_mut(place));
        if let Some(thread) = thread {
            thread.connections.retain(|&id| id != connection);
        }
    }

    /// Forgets a process that has ended.
    pub(crate) fn remove_process(&mut self, pid: u32, ended: &mut Ended) {
        let Some(process) = self.processes.remove(&pid) else { return };
        for thread in process.threads.into_values() {
            self.forget(thread, ended);
        }
    }

    /// Forgets a thread that has ended while its process goes on.
    pub(crate) fn remove_thread(&mut self, task: TaskId, ended: &mut Ended) {
        let Ok(place) = self.place(task) else { return };
        let process = self.processes.get_mut(&place.pid);
        if let Some(thread) = process.and_then(|process| process.threads.remove(&place.tid)) {
            self.forget(thread, ended);
        }
    }

    fn forget(&mut self, thread: Thread, ended: &mut Ended) {
        let place = self.places.remove(&thread.task);
        let tid = place.map(|place| place.tid);
        if let Some(tid) = tid.filter(|tid| self.by_tid.get(tid) == Some(&thread.task)) {
            self.by_tid.remove(&tid);
        }
        if let Some(token) = thread.token {
            self.tokens.remove(&token);
        }
        ended.tasks.push(thread.task);
        ended.connections.extend(thread.connections);
    }
}
