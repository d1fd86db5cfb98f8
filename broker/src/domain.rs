//! One key universe with the tasks that live in it. Everything here happens under
//! one lock, in the thread that received the call.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use keyshim_abi::caller::{Caller, NamespaceOf, Parent, TaskId};
use keyshim_abi::frame::{Origin, Token};
use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Request};
use keyshim_keys::{CallId, Config, KeyService, Now, Outcome, Profile, TaskEvent, Upcalls};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

use crate::caller::PrivilegesOf;
use crate::descent::Lineage;
use crate::execution::Watch;
use crate::fault::{CutOff, Fault};
use crate::host;
use crate::identity::Peer;
use crate::knobs::Knobs;
use crate::namespace::{Lookup, Namespaces};
use crate::orphans::Orphans;
use crate::tasks::{Ended, Tasks};
use crate::upcall::Calling;
use crate::waits::{Progress, Road, Waits};

/// Number of calls that never wait.
const NEVER_WAITS: CallId = CallId(0);
/// Changes taken note of in one look.
const CHANGES_AT_ONCE: usize = 64;

/// What can become ready in a domain without anybody calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The process with this id has ended.
    Process(u32),
    /// This thread has ended.
    Thread(TaskId),
    /// Something was written to the open knob with this number.
    Knob(u32),
}

const KIND_SHIFT: u32 = 62;

impl Change {
    /// As the number that epoll keeps for us. Task numbers stay below 2^62: one a
    /// nanosecond would last for 146 years.
    pub(crate) const fn encode(self) -> u64 {
        match self {
            Change::Process(pid) => pid as u64,
            Change::Thread(TaskId(number)) => 1 << KIND_SHIFT | number,
            Change::Knob(number) => 2 << KIND_SHIFT | number as u64,
        }
    }

    const fn decode(data: u64) -> Change {
        let number = data & ((1 << KIND_SHIFT) - 1);
        match data >> KIND_SHIFT {
            0 => Change::Process(number as u32),
            1 => Change::Thread(TaskId(number)),
            _ => Change::Knob(number as u32),
        }
    }
}

/// How a universe begins, as far as somebody chooses.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// Seed for serials, or the kernel's randomness.
    pub(crate) seed: Option<u64>,
    /// Which kernel it behaves like.
    pub(crate) profile: Profile,
    /// How keys are made that are requested, if they are.
    pub(crate) calling: Option<Calling>,
}

impl Beginning {
    /// That of a universe without surprises, in which nobody is called.
    pub(crate) fn plain(seed: Option<u64>) -> Beginning {
        Beginning { seed, profile: Profile::default(), calling: None }
    }
}

/// A key universe and its tasks.
pub(crate) struct Domain {
    pub(crate) service: KeyService,
    pub(crate) tasks: Tasks,
    /// Ready when there is something to sweep.
    pub(crate) changes: Arc<Epoll>,
    pub(crate) orphans: Orphans,
    /// Processes whose program may change unseen.
    pub(crate) watched: Vec<Watch>,
    /// Who tells of tasks.
    pub(crate) lineage: Lineage,
    /// Calls that are answered later.
    pub(crate) waits: Waits,
    namespaces: Namespaces,
    knobs: Knobs,
    /// Connections whose threads have ended since somebody last asked.
    orphaned: Vec<u64>,
}

impl Domain {
    /// An empty universe, which knows of tasks as best it can here.
    pub(crate) fn new(beginning: &Beginning) -> Result<Domain, Fault> {
        let entropy = host::entropy(beginning.seed);
        let upcalls = if beginning.calling.is_some() { Upcalls::On } else { Upcalls::Off };
        let config = Config { entropy, upcalls, profile: beginning.profile };
        Domain::with_lineage(config, Lineage::best())
    }

    /// One that begins plainly.
    pub(crate) fn plain(seed: Option<u64>) -> Result<Domain, Fault> {
        Domain::new(&Beginning::plain(seed))
    }

    /// An empty universe.
    pub(crate) fn with_lineage(config: Config, lineage: Lineage) -> Result<Domain, Fault> {
        let changes = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(Fault::system("cannot make an epoll", "raise the limit of open files"))?;
        Ok(Domain {
            service: KeyService::new(config),
            tasks: Tasks::default(),
            changes: Arc::new(changes),
            orphans: Orphans::new(),
            watched: Vec::new(),
            lineage,
            waits: Waits::default(),
            namespaces: Namespaces::new(),
            knobs: Knobs::default(),
            orphaned: Vec::new(),
        })
    }

    /// Takes note of everything that has happened: ends of tasks and writes to
    /// knobs. Comes before every request, so that nobody sees the keys of a process
    /// that was waited for, or an old value of a knob that was written.
    pub(crate) fn sweep(&mut self) {
        self.hear();
        self.look_for_execves();
        let mut events = [EpollEvent::empty(); CHANGES_AT_ONCE];
        loop {
            let count = self.changes.wait(&mut events, EpollTimeout::ZERO).unwrap_or_default();
            let mut ended = Ended::default();
            for event in events.iter().take(count) {
                match Change::decode(event.data()) {
                    Change::Process(pid) => {
                        self.pin_orphans(pid);
                        self.tasks.remove_process(pid, &mut ended);
                    }
                    Change::Thread(task) if self.may_be_execve(task) => {}
                    Change::Thread(task) => self.tasks.remove_thread(task, &mut ended),
                    Change::Knob(number) => self.knobs.drain(number, &mut self.service),
                }
            }
            self.take_leave(ended);
            if count < CHANGES_AT_ONCE {
                return;
            }
        }
    }

    /// Tells of the end of tasks.
    pub(crate) fn take_leave(&mut self, mut ended: Ended) {
        for &task in &ended.tasks {
            self.report(TaskEvent::Exited { task });
        }
        self.orphaned.append(&mut ended.connections);
    }

    /// The connections that ended with their threads; whoever asks closes them.
    pub(crate) fn take_orphaned(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.orphaned)
    }

    pub(crate) fn report(&mut self, event: TaskEvent) {
        tracing::debug!(?event, "task");
        self.number(&event);
        self.service.task_event(host::now(), event);
        self.take_deeds();
    }

    /// A thread says hello: who it is, and its secret.
    pub(crate) fn hello(
        &mut self,
        peer: &Peer,
        connection: u64,
        tid: u32,
        origin: Origin,
    ) -> Result<(TaskId, Token), CutOff> {
        self.sweep();
        let task = self.admit(peer, tid, origin)?;
        let token = self.tasks.greet(task, connection)?;
        Ok((task, token))
    }

    /// A connection was closed.
    pub(crate) fn hang_up(&mut self, task: TaskId, connection: u64) {
        self.tasks.hang_up(task, connection);
        for call in self.waits.of_connection(task, connection) {
            self.interrupt_call(call);
        }
    }

    /// Carries out one call of a known thread, or begins to; it is then answered later
    /// over `road`.
    pub(crate) fn call(
        &mut self,
        task: TaskId,
        request: &Request<'_>,
        data: &mut Vec<u8>,
        road: impl FnOnce() -> Road,
    ) -> Result<Progress, CutOff> {
        self.sweep();
        self.call_found(task, request, data, road)
    }

    /// The same right after a sweep, as of [`Domain::task_of`].
    pub(crate) fn call_found(
        &mut self,
        task: TaskId,
        request: &Request<'_>,
        data: &mut Vec<u8>,
        road: impl FnOnce() -> Road,
    ) -> Result<Progress, CutOff> {
        self.goes_on(task);
        // Whoever calls anew does not wait for what it called before.
        self.interrupt(task);
        self.materialise_before(task, request)?;
        let parent = match request {
            Request::SessionToParent => self.parent_of(task)?,
            _ => None,
        };
        let id = self.waits.number();
        let outcome = self.as_caller(task, parent, |service, caller| {
            service.submit(host::now(), id, caller, request, data)
        });
        let progress = match outcome {
            Ok(Outcome::Done(answer)) => Ok(Progress::Answered(answer)),
            Ok(Outcome::Waiting) => {
                let interruptible = self.service.is_interruptible(id);
                self.waits.add(id, task, road(), interruptible);
                Ok(Progress::Waits { interruptible })
            }
            Err(reason) => Err(reason),
        };
        self.take_deeds();
        progress
    }

    /// The same for one who cannot be answered later: EINTR instead.
    pub(crate) fn call_at_once(
        &mut self,
        task: TaskId,
        request: &Request<'_>,
        data: &mut Vec<u8>,
    ) -> Result<Answer, CutOff> {
        match self.call_found(task, request, data, || Road::Nobody)? {
            Progress::Answered(answer) => Ok(answer),
            Progress::Waits { .. } => {
                self.interrupt(task);
                Ok(Err(Errno::EINTR))
            }
        }
    }

    /// The text of a file under `/proc`, as that thread may see it.
    pub(crate) fn open(
        &mut self,
        task: TaskId,
        file: ProcFile,
        text: &mut Vec<u8>,
    ) -> Result<Answer, CutOff> {
        self.sweep();
        self.goes_on(task);
        self.materialise_before_listing();
        self.as_caller(task, None, |service, caller| {
            service.proc_read(host::now(), caller, file, text);
            Ok(0)
        })
    }

    /// Opens a knob for writing: the descriptor for the writer. EACCES for one who may
    /// not.
    pub(crate) fn open_knob(
        &mut self,
        task: TaskId,
        knob: Knob,
    ) -> Result<Result<OwnedFd, Errno>, CutOff> {
        self.sweep();
        self.goes_on(task);
        if !self.may_tune(task)? {
            return Ok(Err(Errno::EACCES));
        }
        Ok(self.knobs.open(knob, &self.changes))
    }

    /// Makes the caller of a task's present credentials and hands it on.
    pub(crate) fn as_caller<T>(
        &mut self,
        task: TaskId,
        parent: Option<Parent>,
        act: impl FnOnce(&mut KeyService, &Caller<'_>) -> T,
    ) -> Result<T, CutOff> {
        let place = self.tasks.place(task)?;
        let thread = self.tasks.thread_ref(place)?;
        let ids = thread.ids()?;
        let lookup = Lookup::new(&mut self.namespaces, place);
        let privileges = PrivilegesOf { thread: &thread, namespace: &lookup };
        let namespace = NamespaceOf::LookedUp(&lookup);
        let caller =
            Caller { task, tid: place.tid, ids, namespace, parent, privileges: &privileges };
        let answer = act(&mut self.service, &caller);
        if lookup.has_failed() { Err(CutOff::Gone) } else { Ok(answer) }
    }

    /// True while there is a key that would be lost with the domain. Users' own
    /// keyrings come back by themselves, and do not count.
    pub(crate) fn holds_keys(&self) -> bool {
        self.service.key_count() != 0
    }

    /// Collects what is due; the answer is when there is more.
    pub(crate) fn collect(&mut self) -> Option<Now> {
        self.sweep();
        self.service.collect(host::now());
        self.take_deeds();
        self.service.next_collection()
    }
}

/// Carries out a call of which none ever waits.
pub(crate) fn submit(
    service: &mut KeyService,
    caller: &Caller<'_>,
    request: &Request<'_>,
    data: &mut Vec<u8>,
) -> Answer {
    let now = host::now();
    match service.submit(now, NEVER_WAITS, caller, request, data) {
        Outcome::Done(answer) => answer,
        // The keyrings of a session that begins are under nobody's construction.
        Outcome::Waiting => {
            service.cancel(now, NEVER_WAITS);
            Err(Errno::EINTR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_its_number() {
        let all = [Change::Process(u32::MAX), Change::Thread(TaskId(7)), Change::Knob(0)];
        for change in all {
            assert_eq!(Change::decode(change.encode()), change);
        }
    }
}
