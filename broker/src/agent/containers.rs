//! Which container is in which domain, and how long each domain lives.
//!
//! A domain begins with the first listener that names it and ends with the last whose
//! programs have all ended. A container has as many listeners as its runtime has put
//! programs into it: the one that it began with, and one for each `exec`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::Sender;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::doors::{DoorFile, Doors};
use super::name::Name;
use super::reception::Arrival;
use super::session;
use crate::connections::Limits;
use crate::domain::{Beginning, Domain};
use crate::fault::{CutOff, Fault};
use crate::housekeeping::Notes;
use crate::server::{self, Admission, Lifetime, Rules, Server};
use crate::supervisor::{Listener, Supervisor, notify::Installed};
use crate::upcall::Surroundings;
use crate::{proc, procfiles};

/// Listeners at any one time. Each has a thread of its own: a program whose memory
/// cannot be read at once, because it answers for its own page faults, then holds up
/// nobody but its own container.
const LISTENERS_MAX: usize = 8192;
/// Who may look into one domain at the same time.
const LOOKERS_MAX: usize = 64;
/// In the epoll: the order to stop. Then the domains.
const STOP: u64 = 0;

/// A domain with what keeps it.
struct Entry {
    number: u64,
    server: Arc<Server>,
    listener_count: usize,
    /// Removed with the domain.
    door: Option<DoorFile>,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<Name, Entry>,
    by_number: HashMap<u64, Arc<Server>>,
    doors: Option<Doors>,
    last: u64,
    listener_count: usize,
}

/// All containers.
pub(crate) struct Containers {
    /// Ready when a domain's own epoll is.
    epoll: Epoll,
    stop: EventFd,
    bell: Sender<()>,
    to_close: Sender<Vec<OwnedFd>>,
    beginning: Beginning,
    table: Mutex<Table>,
}

impl Containers {
    /// None yet. `bell` rings when a domain wants housekeeping, `to_close` takes
    /// descriptors of strangers, `beginning` says how domains begin.
    pub(crate) fn new(
        doors: Option<Doors>,
        bell: Sender<()>,
        to_close: Sender<Vec<OwnedFd>>,
        beginning: Beginning,
    ) -> Result<Containers, Fault> {
        let broken = || Fault::system("cannot make an epoll", "raise the limit of open files");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(broken())?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(broken())?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(broken())?;
        let table = Mutex::new(Table { doors, ..Table::default() });
        Ok(Containers { epoll, stop, bell, to_close, beginning, table })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a container in: its calls are answered until its programs have ended.
    pub(crate) fn admit(self: &Arc<Self>, arrival: Arrival) -> Result<(), Fault> {
        let Arrival { introduction, owner, listener } = arrival;
        let name = Name::of(&introduction, owner);
        let server = self.join(&name)?;
        begin_session(&server, introduction.pid, &introduction.container);
        // Nobody says how the runtime has installed the filter.
        let installed = Installed { is_killable_only: false, has_renounced: false };
        let supervisor = Supervisor::new(&server, Listener { fd: listener, installed });
        // Only root's word is believed for which process it is: files of ours are put
        // into that one's namespace.
        let pid = Some(introduction.pid).filter(|&pid| owner == 0 && proc::is_filtered(pid));
        let (containers, leaving) = (Arc::clone(self), name.clone());
        let receiver = server::spawn("receiver".into(), move || {
            put_files(&server, pid);
            drop(server);
            supervisor.attend();
            drop(supervisor);
            containers.leave(&leaving);
        });
        if receiver.is_err() {
            self.leave(&name);
        }
        receiver.map(drop)
    }

    /// The domain of that name, for one listener more; made if it is new.
    fn join(&self, name: &Name) -> Result<Arc<Server>, Fault> {
        let mut table = self.table();
        if table.listener_count >= LISTENERS_MAX {
            return Err(Fault::Told(format!("there are {LISTENERS_MAX} listeners already")));
        }
        table.listener_count += 1;
        if let Some(entry) = table.by_name.get_mut(name) {
            entry.listener_count += 1;
            return Ok(Arc::clone(&entry.server));
        }
        let door = table.doors.as_ref().and_then(|doors| doors.make(name));
        let entry = self.found(table.last + 1, door);
        let entry = entry.inspect_err(|_| table.listener_count -= 1)?;
        table.last = entry.number;
        let server = Arc::clone(&entry.server);
        table.by_number.insert(entry.number, Arc::clone(&server));
        table.by_name.insert(name.clone(), entry);
        tracing::info!(%name, "a domain begins");
        Ok(server)
    }

    fn found(&self, number: u64, door: Option<(OwnedFd, DoorFile)>) -> Result<Entry, Fault> {
        let domain = Domain::new(&self.beginning)?;
        let (socket, door) = door.unzip();
        let calling = self.beginning.calling.clone();
        let rules = Rules {
            admission: Admission::Anyone,
            limits: Limits { total_max: LOOKERS_MAX, per_user_max: LOOKERS_MAX },
            lifetime: Lifetime::UntilStopped,
            over: None,
            helpers: calling.map(|calling| (calling, Surroundings::none())),
        };
        let notes = Notes::with_bell(self.bell.clone());
        let doors = socket.into_iter().collect();
        let server = Server::new(domain, doors, rules, notes, self.to_close.clone())?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, number);
        let watched = self.epoll.add(&server.epoll.0, event);
        watched.map_err(Fault::system("cannot watch a domain", "report this"))?;
        Ok(Entry { number, server, listener_count: 1, door })
    }

    /// One listener less. With the last one the domain ends, and its keys.
    fn leave(&self, name: &Name) {
        let mut table = self.table();
        table.listener_count -= 1;
        let Some(entry) = table.by_name.get_mut(name) else { return };
        entry.listener_count -= 1;
        if entry.listener_count > 0 {
            return;
        }
        let number = entry.number;
        // Before the next domain of that name makes its own.
        entry.door = None;
        table.by_number.remove(&number);
        let ended = table.by_name.remove(name);
        drop(table);
        // Whoever looks keeps nothing alive.
        if let Some(Entry { server, .. }) = &ended {
            let _ = self.epoll.delete(&server.epoll.0);
            for line in server.connections.all() {
                server.cut_off(line.connection.id, CutOff::Gone);
            }
        }
        tracing::info!(%name, "a domain ends");
    }

    /// The domains, each with its number.
    pub(crate) fn servers(&self) -> Vec<(u64, Arc<Server>)> {
        let table = self.table();
        table.by_number.iter().map(|(&number, server)| (number, Arc::clone(server))).collect()
    }

    /// Waits until somebody looks into a domain, or something happens in one. `None`
    /// at the end.
    pub(crate) fn wait(&self) -> Option<(u64, Option<Arc<Server>>)> {
        let mut events = [EpollEvent::empty()];
        loop {
            if self.epoll.wait(&mut events, EpollTimeout::NONE) != Ok(1) {
                continue;
            }
            let number = events[0].data();
            if number == STOP {
                return None;
            }
            return Some((number, self.table().by_number.get(&number).cloned()));
        }
    }

    /// Asks to be woken once more for that domain.
    pub(crate) fn rearm(&self, number: u64, server: &Server) {
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        // It may have ended meanwhile.
        let _ = self.epoll.modify(&server.epoll.0, &mut EpollEvent::new(interest, number));
    }

    /// Closes descriptors of unknown kind where it harms nobody.
    pub(crate) fn close(&self, descriptors: Vec<OwnedFd>) {
        let _ = self.to_close.try_send(descriptors);
    }

    /// Has everybody stop who waits here, and leaves no door behind.
    pub(crate) fn stop(&self) {
        let _ = self.stop.write(1);
        let mut table = self.table();
        for entry in table.by_name.values_mut() {
            entry.door = None;
        }
        table.doors = None;
    }
}

/// Has a container's programs find their keys under `/proc`, whatever the runtime has
/// put there.
fn put_files(server: &Arc<Server>, pid: Option<u32>) {
    let put = pid.map(|pid| procfiles::put_once(server, pid));
    if let Some(Err(fault)) = put {
        tracing::info!("a container has the runtime's files in /proc: {fault}");
    }
}

fn begin_session(server: &Server, pid: u32, container: &str) {
    let joined = server.domain().begin_session(pid, &session::name(container));
    if !matches!(joined, Ok(Ok(_))) {
        tracing::info!(pid, ?joined, "a container begins without a session keyring");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crossbeam::channel::bounded;

    use super::*;
    use crate::agent::protocol::Introduction;

    fn containers(doors: &Path) -> Containers {
        let doors = Doors::open(doors).unwrap();
        Containers::new(Some(doors), bounded(1).0, bounded(1).0, Beginning::plain(None)).unwrap()
    }

    fn name(id: &str, shared: Option<&str>) -> Name {
        let shared = shared.map(str::to_owned);
        let container = id.to_owned();
        let said = Introduction { container, shared, pid: 0, listener_at: 0 };
        Name::of(&said, nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn a_domain_lives_as_long_as_the_last_that_named_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let containers = containers(&path);
        let (one, pod) = (name("one", None), name("two", Some("pod")));
        let first = containers.join(&pod).unwrap();
        assert!(Arc::ptr_eq(&first, &containers.join(&name("three", Some("pod"))).unwrap()));
        assert!(!Arc::ptr_eq(&first, &containers.join(&one).unwrap()));
        containers.leave(&pod);
        assert!(path.join("@pod").exists());
        assert_eq!(containers.servers().len(), 2);
        containers.leave(&pod);
        assert!(!path.join("@pod").exists());
        assert_eq!(Arc::strong_count(&first), 1, "nobody else keeps an ended domain");
        assert!(!Arc::ptr_eq(&first, &containers.join(&pod).unwrap()), "it begins anew");
        containers.leave(&pod);
        containers.leave(&one);
        assert_eq!(containers.table().listener_count, 0);
        assert!(containers.servers().is_empty());
    }

    #[test]
    fn no_door_is_left_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let containers = containers(&path);
        containers.join(&name("one", None)).unwrap();
        assert!(path.join("one").exists());
        containers.stop();
        assert!(!path.exists());
        assert!(containers.wait().is_none());
        containers.join(&name("late", None)).unwrap();
    }

    #[test]
    fn a_listener_too_many_is_refused_and_not_counted() {
        let directory = tempfile::tempdir().unwrap();
        let containers = containers(&directory.path().join("d"));
        containers.table().listener_count = LISTENERS_MAX;
        assert!(containers.join(&name("one", None)).is_err());
        assert_eq!(containers.table().listener_count, LISTENERS_MAX);
    }
}
