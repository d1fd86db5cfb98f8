//! User namespaces of callers, numbered in the order in which they were met.
//!
//! The broker's own is number 0: ids, quotas and capabilities of the domain are
//! those of that namespace.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use keyshim_abi::caller::{IdMap, IdRun, NamespaceLookup, Uid, UserNamespace};

use crate::sys;
use crate::tasks::Place;

/// Namespaces that a domain will tell apart. A caller in one more is refused.
const KNOWN_MAX: usize = 4096;
/// Runs of one id map (`user_namespaces(7)`).
const RUNS_MAX: usize = 340;

/// What a namespace is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    /// The text of `/proc/PID/ns/user`.
    Link(Vec<u8>),
    /// Where the link may not be read (a process that is not ours and not
    /// dumpable): a hash of its maps, which anybody may read.
    Maps(u64),
}

#[derive(Debug)]
struct Known {
    number: u64,
    owner: Uid,
    uids: Vec<IdRun>,
    gids: Vec<IdRun>,
    /// Held open so that the kernel cannot give the same name to a later namespace.
    _pin: Option<OwnedFd>,
}

/// The namespaces met so far.
pub(crate) struct Namespaces {
    own: Option<Name>,
    own_maps: Maps,
    known: HashMap<Name, Arc<Known>>,
    /// Lookups that have failed.
    failures: u64,
}

/// The texts of `uid_map` and `gid_map`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Maps {
    uids: String,
    gids: String,
}

/// A namespace that a caller is in: another than the broker's own, or that.
#[derive(Debug, Clone)]
pub(crate) struct Membership(Option<Arc<Known>>);

impl Membership {
    /// True for the broker's own namespace.
    fn is_outermost(&self) -> bool {
        self.0.is_none()
    }

    /// The namespace as the core wants it.
    fn view(&self) -> UserNamespace<'_> {
        self.0.as_ref().map_or(UserNamespace::OUTERMOST, |known| UserNamespace {
            number: known.number,
            owner: known.owner,
            uids: IdMap(&known.uids),
            gids: IdMap(&known.gids),
        })
    }
}

/// The namespace of a thread during one call, looked up when somebody first asks.
/// A thread that waits for its answer changes it no more.
pub(crate) struct Lookup<'a> {
    namespaces: RefCell<&'a mut Namespaces>,
    place: Place,
    found: OnceCell<Membership>,
    has_failed: Cell<bool>,
}

impl<'a> Lookup<'a> {
    /// Of the thread there.
    pub(crate) fn new(namespaces: &'a mut Namespaces, place: Place) -> Lookup<'a> {
        let (found, has_failed) = (OnceCell::new(), Cell::new(false));
        Lookup { namespaces: RefCell::new(namespaces), place, found, has_failed }
    }

    /// True when somebody has asked in vain: the thread has gone, or there are too many
    /// namespaces. What was done then was done in one that nobody else is in, and where
    /// nobody has an id.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// True when the thread is in the broker's own namespace.
    pub(crate) fn is_outermost(&self) -> bool {
        self.found().is_outermost()
    }

    fn found(&self) -> &Membership {
        self.found.get_or_init(|| {
            let mut namespaces = self.namespaces.borrow_mut();
            namespaces.of(self.place).unwrap_or_else(|| {
                self.has_failed.set(true);
                namespaces.nowhere()
            })
        })
    }
}

impl NamespaceLookup for Lookup<'_> {
    fn namespace(&self) -> UserNamespace<'_> {
        self.found().view()
    }
}

impl Namespaces {
    /// Knows only our own.
    pub(crate) fn new() -> Namespaces {
        Namespaces {
            own: link("self").map(Name::Link),
            own_maps: maps("self").unwrap_or(Maps { uids: String::new(), gids: String::new() }),
            known: HashMap::new(),
            failures: 0,
        }
    }

    /// The namespace that a thread is in now. `None` when it has gone, or when
    /// there are too many namespaces.
    fn of(&mut self, Place { pid, tid }: Place) -> Option<Membership> {
        let task = format!("{pid}/task/{tid}");
        let name = match link(&task) {
            Some(link) => Name::Link(link),
            None => self.name_by_maps(pid)?,
        };
        if self.own.as_ref() == Some(&name) || name == Name::Maps(hash(&self.own_maps)) {
            return Some(Membership(None));
        }
        // A map is written at most once: while it is empty, look again.
        let known = self.known.get(&name).filter(|known| !known.uids.is_empty());
        let known = known.cloned().or_else(|| self.learn(&name, pid, &task))?;
        Some(Membership(Some(known)))
    }

    /// A namespace of its own for somebody of whom it is not known.
    fn nowhere(&mut self) -> Membership {
        self.failures += 1;
        let (uids, gids) = (Vec::new(), Vec::new());
        let number = u64::MAX - self.failures;
        Membership(Some(Arc::new(Known { number, owner: Uid::ROOT, uids, gids, _pin: None })))
    }

    fn name_by_maps(&self, pid: u32) -> Option<Name> {
        maps(&pid.to_string()).map(|maps| Name::Maps(hash(&maps)))
    }

    fn learn(&mut self, name: &Name, pid: u32, task: &str) -> Option<Arc<Known>> {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            tracing::warn!(known = KNOWN_MAX, "too many user namespaces; a caller is refused");
            return None;
        }
        let maps = maps(&pid.to_string())?;
        let pin = fs::File::open(format!("/proc/{task}/ns/user")).ok().map(OwnedFd::from);
        let owner = pin.as_ref().and_then(|pin| sys::namespace_owner(pin.as_fd()).ok());
        let number = self.known.get(name).map_or(self.known.len() as u64 + 1, |k| k.number);
        let known = Arc::new(Known {
            number,
            owner: Uid(owner.unwrap_or(Uid::ROOT.0)),
            uids: runs(&maps.uids),
            gids: runs(&maps.gids),
            _pin: pin,
        });
        self.known.insert(name.clone(), Arc::clone(&known));
        Some(known)
    }
}

fn link(task: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let target = fs::read_link(format!("/proc/{task}/ns/user")).ok()?;
    Some(target.into_os_string().into_vec())
}

fn maps(process: &str) -> Option<Maps> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).ok();
    Some(Maps { uids: read("uid_map")?, gids: read("gid_map")? })
}

fn hash(maps: &Maps) -> u64 {
    let mut hasher = DefaultHasher::new();
    maps.hash(&mut hasher);
    hasher.finish()
}

/// `/proc/PID/uid_map` or `gid_map`: lines of inside, outside and count.
fn runs(text: &str) -> Vec<IdRun> {
    let run = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(IdRun { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(run).take(RUNS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_taken_apart() {
        let map = runs("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(map.len(), 2);
        assert_eq!(map[1], IdRun { inside: 1, outside: 100_000, count: 65_536 });
        assert!(runs("").is_empty());
    }

    #[test]
    fn we_are_in_our_own_namespace() {
        let pid = std::process::id();
        let mut namespaces = Namespaces::new();
        let lookup = Lookup::new(&mut namespaces, Place { pid, tid: pid });
        assert!(lookup.is_outermost());
        assert_eq!(lookup.namespace().number, 0);
        assert!(!lookup.has_failed());
    }

    #[test]
    fn those_of_whom_nothing_is_known_share_nothing() {
        let mut namespaces = Namespaces::new();
        let place = Place { pid: i32::MAX as u32, tid: i32::MAX as u32 };
        let mut number = || {
            let lookup = Lookup::new(&mut namespaces, place);
            assert!(!lookup.has_failed());
            let namespace = lookup.namespace();
            assert!(lookup.has_failed() && !lookup.is_outermost());
            assert_eq!(namespace.uids.inward(0), None);
            (namespace.number, lookup.namespace().number)
        };
        let (first, second) = (number(), number());
        assert_eq!(first.0, first.1);
        assert!(first.0 != second.0 && first.0 != 0);
    }
}
