//! Helpers: the programs that make keys which were requested and not found, as
//! `/sbin/request-key` does for the kernel.
//!
//! One thread for each that runs, from its start to its end: nobody who has calls to answer
//! ever waits for one. So many run at once and no more; the others wait for their turn,
//! except those that a helper itself has requested, for whom that might be for ever.

mod child;
mod helper;
mod output;
mod place;
mod process;
mod rules;
mod spawn;
mod trap;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use keyshim_abi::Errno;
use keyshim_keys::{Made, Upcall, UpcallId};
use once_cell::sync::OnceCell;
pub(crate) use place::Home;
use process::Process;
use rules::{Deed, Rules};

use crate::address::Address;
use crate::fault::Fault;
use crate::pool::{self, Pool};
use crate::proc;
use crate::run::library::{self, Library};
use crate::server::Server;
use crate::waits::Requester;

/// What the kernel calls.
pub(crate) const REQUEST_KEY: &str = "/sbin/request-key";
/// Seconds that a helper may take: longer than any question to a name server does.
pub(crate) const TIME_MAX_S: u64 = 60;
/// Helpers that run at once, those that were requested by helpers not counted.
pub(crate) const AT_ONCE_MAX: usize = 64;
/// How long a thread that has started a helper waits for the next; the filter that it may have
/// is ready for so long.
const IDLE_MAX: Duration = Duration::from_secs(1);

thread_local! {
    /// A process that the next helper of this thread will be.
    static RESERVE: Cell<Option<Process>> = const { Cell::new(None) };
}

/// Helpers whose requester is a helper, whose requester is a helper, and so on.
const DEPTH_MAX: usize = 16;
/// Helpers of helpers that run at once.
const NESTED_MAX: usize = 256;
/// Requests that wait for their turn.
const QUEUE_MAX: usize = 64 * 1024;
/// Ancestors looked at before a process counts as none of a helper's.
const ANCESTORS_MAX: usize = 64;

/// How a domain's helpers are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calling {
    /// The program, by an absolute path; nobody makes what no rule does without one.
    pub(crate) program: Option<PathBuf>,
    /// The file of the rules that come before it.
    pub(crate) handlers: Option<PathBuf>,
    /// How long it may take; for ever if nobody says.
    pub(crate) time_max: Option<Duration>,
    /// How many may run at once.
    pub(crate) at_once_max: usize,
}

impl Default for Calling {
    /// As the kernel calls, within bounds.
    fn default() -> Calling {
        Calling {
            program: Some(REQUEST_KEY.into()),
            handlers: None,
            time_max: Some(Duration::from_secs(TIME_MAX_S)),
            at_once_max: AT_ONCE_MAX,
        }
    }
}

/// What makes a helper a client of its domain.
pub(crate) struct Surroundings {
    /// The library to preload, if there is one.
    library: Option<Library>,
    /// The addresses of the broker.
    addresses: Vec<Address>,
}

impl Surroundings {
    /// A domain whose broker is behind these doors.
    pub(crate) fn of(addresses: Vec<Address>) -> Surroundings {
        let library = library::find();
        let library = library.inspect_err(|fault| tracing::info!("helpers: {fault}")).ok();
        // A helper begins in another directory than ours.
        let whole = |address| match address {
            Address::Path(path) => Address::Path(std::path::absolute(&path).unwrap_or(path)),
            name => name,
        };
        Surroundings { library, addresses: addresses.into_iter().map(whole).collect() }
    }

    /// A domain without a door: its clients are all trapped.
    pub(crate) const fn none() -> Surroundings {
        Surroundings { library: None, addresses: Vec::new() }
    }
}

/// One request for a helper.
struct Job {
    upcall: Upcall,
    requester: Option<Requester>,
    depth: usize,
    /// What a rule says about it, and how much later.
    said: Option<(Deed, Duration)>,
}

#[derive(Default)]
struct Crew {
    /// Running helpers: the process, once there is one, and how deep it is nested.
    running: HashMap<UpcallId, (Option<u32>, usize)>,
    waiting: VecDeque<Job>,
}

impl Crew {
    /// How deep the helper of that requester is nested.
    fn depth(&self, requester: Option<&Requester>) -> usize {
        let Some(requester) = requester else { return 0 };
        let ancestors = std::iter::successors(Some(requester.pid), |&pid| {
            proc::place(pid).map(|place| place.parent).filter(|&parent| parent > 1)
        });
        let depth_of = |pid| {
            let mut helpers = self.running.values();
            helpers.find_map(|&(its, depth)| (its == Some(pid)).then_some(depth + 1))
        };
        if self.running.is_empty() {
            return 0;
        }
        ancestors.take(ANCESTORS_MAX).find_map(depth_of).unwrap_or(0)
    }

    fn nested(&self) -> usize {
        self.running.values().filter(|(_, depth)| *depth > 0).count()
    }
}

/// A domain's helpers.
pub(crate) struct Helpers {
    server: Weak<Server>,
    calling: Calling,
    rules: Rules,
    surroundings: Surroundings,
    /// Signals that are ignored here and shall not be in a helper.
    ignored: Arc<[i32]>,
    /// Whether threads that start helpers have a filter, or may have one.
    may_trap: AtomicBool,
    /// Where they begin unless their requester has a better place.
    pub(crate) home: OnceCell<Home>,
    /// A place with the domain's files in `/proc`, for helpers that no library shows them,
    /// if there can be one.
    furnished: OnceCell<Option<Home>>,
    crew: Mutex<Crew>,
    threads: Pool,
}

impl Helpers {
    /// None yet.
    pub(crate) fn new(
        server: &Arc<Server>,
        calling: Calling,
        surroundings: Surroundings,
    ) -> Result<Arc<Helpers>, Fault> {
        pool::prepare()?;
        let server = Arc::downgrade(server);
        let rules = calling.handlers.as_deref().map(Rules::read).transpose()?.unwrap_or_default();
        let home = OnceCell::new();
        let (ignored, crew) = (child::ignored_signals().into(), Mutex::default());
        let may_trap = AtomicBool::new(trap::is_possible());
        Ok(Arc::new(Helpers {
            server,
            calling,
            rules,
            surroundings,
            ignored,
            may_trap,
            home,
            furnished: OnceCell::new(),
            crew,
            threads: Pool::new(IDLE_MAX),
        }))
    }

    /// Where helpers find the domain's files that no library shows them; in a domain in which
    /// a library could.
    fn furnished(&self, server: &Arc<Server>) -> Option<&Home> {
        self.surroundings.library.as_ref()?;
        let home = self.home.get().filter(|home| home.is_apart());
        home.or_else(|| self.furnished.get_or_init(|| place::furnish(server)).as_ref())
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a helper make a key. Never waits.
    pub(crate) fn call_out(self: &Arc<Helpers>, upcall: Upcall, requester: Option<Requester>) {
        let id = upcall.id;
        let said = self.rules.decide(&upcall);
        if let Some(made) = said.and_then(|said| made_at_once(said, &upcall)) {
            return self.finish(id, made);
        }
        let said = said.map(|(deed, delay)| (deed.clone(), delay));
        if said.is_none() && self.calling.program.is_none() {
            return self.fail(id, Errno::ENOKEY);
        }
        let mut crew = self.crew();
        let depth = crew.depth(requester.as_ref());
        let job = Job { upcall, requester, depth, said };
        let has_turn = match depth {
            0 => crew.running.len() - crew.nested() < self.calling.at_once_max,
            _ if depth > DEPTH_MAX || crew.nested() >= NESTED_MAX => {
                drop(crew);
                tracing::warn!(depth, "no helper: too many helpers of helpers");
                return self.fail(id, Errno::ENOKEY);
            }
            _ => true,
        };
        if has_turn {
            crew.running.insert(id, (None, depth));
            drop(crew);
            self.begin(job);
        } else if crew.waiting.len() < QUEUE_MAX {
            crew.waiting.push_back(job);
        } else {
            drop(crew);
            tracing::warn!("no helper: {QUEUE_MAX} requests wait already");
            self.fail(id, Errno::ENOKEY);
        }
    }

    fn begin(self: &Arc<Helpers>, job: Job) {
        let (id, helpers) = (job.upcall.id, Arc::clone(self));
        if let Err(fault) = self.threads.run("helper", move || helpers.work(job)) {
            tracing::error!("no helper: {fault}");
            self.crew().running.remove(&id);
            self.fail(id, Errno::EAGAIN);
        }
    }

    /// A thread's life: one helper after the other while there are requests.
    fn work(&self, mut job: Job) {
        loop {
            let id = job.upcall.id;
            if let Some((_, delay)) = &job.said {
                std::thread::sleep(*delay);
            }
            let Some(server) = self.server.upgrade() else { return };
            let made = job.said.as_ref().and_then(|(deed, _)| rules::made(deed, &job.upcall));
            let (outcome, process) = match made {
                Some(made) => (Ok(Some(made)), None),
                None => match helper::live(self, &server, &job, RESERVE.take()) {
                    Ok(process) => (Ok(None), Some(process)),
                    Err(errno) => (Err(errno), None),
                },
            };
            // Before the requester hears of it: its next helper is none of this one's.
            let next = self.leave(id, job.depth);
            match outcome {
                Ok(Some(made)) => server.upcall_made(id, made),
                Ok(None) => server.upcall_exited(id),
                Err(errno) => server.upcall_failed(id, errno),
            }
            // Nobody waits for us to take leave of it.
            drop(process);
            match next {
                Some(next) => job = next,
                None => return RESERVE.set(self.in_reserve(&server)),
            }
        }
    }

    /// Somebody for the next request, while few ask: who asks again at once is served by
    /// another thread.
    fn in_reserve(&self, server: &Arc<Server>) -> Option<Process> {
        let is_quiet = self.crew().running.len() < 2;
        (is_quiet && self.calling.program.is_some()).then(|| helper::in_reserve(self, server))?
    }

    /// Takes note which process a helper is.
    fn note_started(&self, id: UpcallId, pid: u32) {
        if let Some((process, _)) = self.crew().running.get_mut(&id) {
            *process = Some(pid);
        }
    }

    /// A helper has ended: whose turn it is now.
    fn leave(&self, id: UpcallId, depth: usize) -> Option<Job> {
        let mut crew = self.crew();
        crew.running.remove(&id);
        if depth > 0 {
            return None;
        }
        let next = crew.waiting.pop_front()?;
        crew.running.insert(next.upcall.id, (None, 0));
        Some(next)
    }

    /// The program that makes the key of a job.
    fn program<'a>(&'a self, job: &'a Job) -> Option<&'a Path> {
        match &job.said {
            Some((Deed::Program(program), _)) => Some(program),
            _ => self.calling.program.as_deref(),
        }
    }

    fn finish(&self, id: UpcallId, made: Made) {
        if let Some(server) = self.server.upgrade() {
            server.upcall_made(id, made);
        }
    }

    fn fail(&self, id: UpcallId, errno: Errno) {
        if let Some(server) = self.server.upgrade() {
            server.upcall_failed(id, errno);
        }
    }
}

/// What a rule makes without anybody's help, and without delay.
fn made_at_once((deed, delay): (&Deed, Duration), upcall: &Upcall) -> Option<Made> {
    // A file may be anywhere, and slow.
    let is_at_hand = delay.is_zero() && !matches!(deed, Deed::PayloadFile(_));
    if is_at_hand { rules::made(deed, upcall) } else { None }
}
