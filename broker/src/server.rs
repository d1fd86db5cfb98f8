//! The threads that serve a domain: workers on one epoll, one housekeeper, one that
//! closes what strangers hand in.
//!
//! A worker that receives a request carries it out and answers: no hop between
//! threads. It waits for no client, and holds no lock while it sends.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use once_cell::sync::OnceCell;

use crate::connections::{Connections, Limits};
use crate::descent::Lineage;
use crate::domain::Domain;
use crate::fault::{CutOff, Fault};
use crate::housekeeping::{self, Note, Notes};
use crate::upcall::{Calling, Helpers, Surroundings};
use crate::waits::Outbox;
use crate::{door, worker};

/// Numbers in the epoll: the domain's changes, the order to stop, then the doors,
/// then the connections.
const CHANGES: u64 = 0;
const STOP: u64 = 1;
const FIRST_DOOR: u64 = 2;
const FIRST_CONNECTION: u64 = 64;

/// Descriptors that wait to be closed where it harms nobody.
pub(crate) const TO_CLOSE_MAX: usize = 1024;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Whoever can reach the door: permissions of the socket decide.
    Anyone,
    /// Our own user's processes and descendants of ours: the door of a run has a
    /// name that everybody can read in `/proc/net/unix`.
    Family,
}

/// When a server is over without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Never.
    UntilStopped,
    /// When the last of the programs that use it has ended.
    WithPrograms,
    /// When there has been neither a program nor a key for a minute.
    WhileUsed,
}

/// How a server treats the world.
pub(crate) struct Rules {
    /// Who may come in.
    pub(crate) admission: Admission,
    /// How many may.
    pub(crate) limits: Limits,
    /// When it is over.
    pub(crate) lifetime: Lifetime,
    /// Becomes readable when it is.
    pub(crate) over: Option<Arc<EventFd>>,
    /// How its helpers are called, if it has any.
    pub(crate) helpers: Option<(Calling, Surroundings)>,
}

/// What all threads share.
pub(crate) struct Server {
    pub(crate) epoll: Epoll,
    pub(crate) connections: Connections,
    pub(crate) admission: Admission,
    pub(crate) lifetime: Lifetime,
    pub(crate) notes: Notes,
    pub(crate) to_close: Sender<Vec<OwnedFd>>,
    /// Filters whose calls are answered here.
    pub(crate) listeners: AtomicUsize,
    /// What domains want done.
    pub(crate) outbox: Arc<Outbox>,
    /// Who makes keys that are requested, if anybody does.
    pub(crate) helpers: OnceCell<Arc<Helpers>>,
    doors: Vec<OwnedFd>,
    changes: Arc<Epoll>,
    domain: Mutex<Domain>,
    stop: EventFd,
    over: Option<Arc<EventFd>>,
    last_connection: AtomicU64,
}

/// A server at work; [`Running::stop`] ends it.
pub(crate) struct Running {
    /// What its threads share.
    pub(crate) server: Arc<Server>,
    workers: Vec<JoinHandle<()>>,
}

/// What the epoll woke a worker for.
pub(crate) enum Event {
    /// Something happened in the domain.
    Changes,
    /// Somebody knocked at that door.
    Door(usize),
    /// That connection has something to read, or room to write.
    Connection(u64),
    /// The end.
    Stop,
}

/// A domain that nobody else uses meanwhile. What it wants done is done by whoever lets
/// go of it, and by the housekeeper where that one forgets.
pub(crate) struct Locked<'a> {
    // Let go of before the bell: whoever it wakes wants the domain.
    domain: MutexGuard<'a, Domain>,
    bell: Bell<'a>,
}

impl Locked<'_> {
    /// Lets go of the domain; for who calls [`Server::deliver`] next.
    pub(crate) fn let_go(mut self) {
        self.bell.delivers = true;
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let due = self.domain.service.next_collection();
        self.bell.is_sooner = self.bell.server.notes.is_sooner(due);
    }
}

/// Tells the housekeeper what has arisen while somebody had the domain.
struct Bell<'a> {
    server: &'a Server,
    /// Who had it delivers all deeds.
    delivers: bool,
    /// The next collection is sooner than the housekeeper knows.
    is_sooner: bool,
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        if self.is_sooner {
            self.server.notes.leave(Note::Collect);
        }
        if !self.delivers && !self.server.outbox.is_empty() {
            self.server.notes.leave(Note::Deeds);
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.domain
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Domain {
        &mut self.domain
    }
}

impl Server {
    /// Starts to serve a domain at these doors.
    pub(crate) fn start(
        domain: Domain,
        doors: Vec<OwnedFd>,
        rules: Rules,
    ) -> Result<Running, Fault> {
        let (notes, bell) = Notes::new();
        let (to_close, closing) = bounded(TO_CLOSE_MAX);
        Running::spawn(Server::new(domain, doors, rules, notes, to_close)?, bell, closing)
    }

    /// What serves a domain at these doors, for whoever has threads for it.
    pub(crate) fn new(
        domain: Domain,
        doors: Vec<OwnedFd>,
        rules: Rules,
        notes: Notes,
        to_close: Sender<Vec<OwnedFd>>,
    ) -> Result<Arc<Server>, Fault> {
        let broken = || Fault::system("cannot make an epoll", "raise the limit of open files");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(broken())?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(broken())?;
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(broken())?;
        epoll.add(&domain.changes.0, EpollEvent::new(once, CHANGES)).map_err(broken())?;
        for (number, door) in doors.iter().enumerate() {
            door::prepare(door)?;
            let event = EpollEvent::new(once, FIRST_DOOR + number as u64);
            epoll.add(door, event).map_err(broken())?;
        }
        let server = Arc::new(Server {
            epoll,
            connections: Connections::new(rules.limits),
            admission: rules.admission,
            lifetime: rules.lifetime,
            notes,
            to_close,
            listeners: AtomicUsize::new(0),
            outbox: Arc::clone(&domain.waits.outbox),
            helpers: OnceCell::new(),
            doors,
            changes: Arc::clone(&domain.changes),
            domain: Mutex::new(domain),
            stop,
            over: rules.over,
            last_connection: AtomicU64::new(FIRST_CONNECTION),
        });
        if let Lineage::Told(subscription) = &server.domain().lineage {
            subscription.feed().serve(&server);
        }
        if let Some((calling, surroundings)) = rules.helpers {
            let _ = server.helpers.set(Helpers::new(&server, calling, surroundings)?);
        }
        Ok(server)
    }

    /// The domain, for one call.
    pub(crate) fn domain(&self) -> Locked<'_> {
        // A panic aborts the process, so no lock is ever poisoned.
        let domain = self.domain.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { domain, bell: Bell { server: self, delivers: false, is_sooner: false } }
    }

    /// True while somebody needs this server.
    pub(crate) fn is_needed(&self) -> bool {
        let mut domain = self.domain();
        domain.sweep();
        let has_filters = self.listeners.load(Ordering::Relaxed) != 0;
        let has_programs = has_filters || !self.connections.is_empty() || !domain.tasks.is_empty();
        match self.lifetime {
            Lifetime::UntilStopped => true,
            Lifetime::WithPrograms => has_programs,
            Lifetime::WhileUsed => has_programs || domain.holds_keys(),
        }
    }

    /// Says that nobody does any more.
    pub(crate) fn declare_over(&self) {
        if let Some(over) = &self.over {
            let _ = over.write(1);
        }
    }

    /// Waits for the next thing to do.
    pub(crate) fn wait(&self) -> Event {
        loop {
            if let Some(event) = self.next(EpollTimeout::NONE) {
                return event;
            }
        }
    }

    /// The next thing to do, if there is one by then.
    pub(crate) fn next(&self, wait: EpollTimeout) -> Option<Event> {
        let mut events = [EpollEvent::empty()];
        let has_one = self.epoll.wait(&mut events, wait) == Ok(1);
        has_one.then(|| match events[0].data() {
            CHANGES => Event::Changes,
            STOP => Event::Stop,
            id if id < FIRST_CONNECTION => Event::Door((id - FIRST_DOOR) as usize),
            id => Event::Connection(id),
        })
    }

    /// Number for a new connection.
    pub(crate) fn next_connection(&self) -> u64 {
        self.last_connection.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// True once a client was let in.
    pub(crate) fn has_been_called(&self) -> bool {
        self.last_connection.load(Ordering::Relaxed) != FIRST_CONNECTION
    }

    /// The door of that number.
    pub(crate) fn door(&self, number: usize) -> Option<&OwnedFd> {
        self.doors.get(number)
    }

    /// Asks to be woken once more for the domain's changes.
    pub(crate) fn rearm_changes(&self) {
        self.rearm(&self.changes.0, CHANGES, EpollFlags::EPOLLIN);
    }

    /// Asks to be woken once more for a door.
    pub(crate) fn rearm_door(&self, number: usize) {
        if let Some(door) = self.doors.get(number) {
            self.rearm(door, FIRST_DOOR + number as u64, EpollFlags::EPOLLIN);
        }
    }

    /// Asks to be woken once more, by one worker.
    pub(crate) fn rearm(&self, fd: impl AsFd, number: u64, interest: EpollFlags) {
        let mut event = EpollEvent::new(interest | EpollFlags::EPOLLONESHOT, number);
        if let Err(errno) = self.epoll.modify(fd, &mut event) {
            tracing::debug!(number, %errno, "not to be waited for any more");
        }
    }

    /// Ends a connection. Out of the epoll first: the client holds the same open
    /// socket, so that closing ours would leave it there.
    pub(crate) fn cut_off(&self, id: u64, reason: CutOff) {
        let Some(line) = self.connections.remove(id) else { return };
        let pid = line.connection.peer.pid;
        match reason {
            CutOff::Left | CutOff::Gone => tracing::debug!(id, pid, "connection ends: {reason}"),
            _ => tracing::info!(id, pid, "client cut off: {reason}"),
        }
        let _ = self.epoll.delete(&line.connection.socket);
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&line.connection.socket),
            nix::sys::socket::Shutdown::Both,
        );
        let task = line.talk().task.take();
        if let Some(task) = task {
            self.domain().hang_up(task, id);
        }
        if self.lifetime != Lifetime::UntilStopped {
            self.notes.leave(Note::Left);
        }
    }
}

impl Running {
    fn spawn(
        server: Arc<Server>,
        bell: Receiver<()>,
        closing: Receiver<Vec<OwnedFd>>,
    ) -> Result<Running, Fault> {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let mut workers = Vec::new();
        for number in 0..count {
            let server = Arc::clone(&server);
            workers.push(spawn(format!("worker {number}"), move || worker::work(&server))?);
        }
        let keeper = Arc::clone(&server);
        workers.push(spawn("housekeeping".into(), move || housekeeping::keep(&keeper, &bell))?);
        // Never waited for: closing a stranger's descriptor may take for ever.
        spawn("closing".into(), move || closing.into_iter().for_each(drop))?;
        Ok(Running { server, workers })
    }

    /// Ends the server: every client loses its connection.
    pub(crate) fn stop(self) {
        let _ = self.server.stop.write(1);
        self.server.notes.leave(Note::Stop);
        for worker in self.workers {
            let _ = worker.join();
        }
    }
}

/// Starts a thread of that name.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Fault> {
    std::thread::Builder::new().name(name).spawn(work).map_err(|error| {
        Fault::Told(format!("cannot start a thread: {error}; raise the limit of processes"))
    })
}
