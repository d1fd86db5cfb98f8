//! User namespaces of callers, numbered in the order in which they were met.
//!
//! The broker's own is number 0: ids, quotas and capabilities of the domain are
//! those of that namespace.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};

use keyshim_abi::caller::{IdMap, IdRun, Uid, UserNamespace};

use crate::sys;

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
    known: HashMap<Name, Known>,
}

/// The texts of `uid_map` and `gid_map`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Maps {
    uids: String,
    gids: String,
}

/// A namespace that a caller is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership(Option<Name>);

impl Membership {
    /// True for the broker's own namespace.
    pub(crate) fn is_outermost(&self) -> bool {
        self.0.is_none()
    }
}

impl Namespaces {
    /// Knows only our own.
    pub(crate) fn new() -> Namespaces {
        Namespaces {
            own: link("self").map(Name::Link),
            own_maps: maps("self").unwrap_or(Maps { uids: String::new(), gids: String::new() }),
            known: HashMap::new(),
        }
    }

    /// The namespace that a thread is in now. `None` when it has gone, or when
    /// there are too many namespaces.
    pub(crate) fn of(&mut self, pid: u32, tid: u32) -> Option<Membership> {
        let task = format!("{pid}/task/{tid}");
        let name = match link(&task) {
            Some(link) => Name::Link(link),
            None => self.name_by_maps(pid)?,
        };
        if self.own.as_ref() == Some(&name) || name == Name::Maps(hash(&self.own_maps)) {
            return Some(Membership(None));
        }
        // A map is written at most once: while it is empty, look again.
        let settled = self.known.get(&name).is_some_and(|known| !known.uids.is_empty());
        if !settled {
            self.learn(&name, pid, &task)?;
        }
        Some(Membership(Some(name)))
    }

    fn name_by_maps(&self, pid: u32) -> Option<Name> {
        maps(&pid.to_string()).map(|maps| Name::Maps(hash(&maps)))
    }

    fn learn(&mut self, name: &Name, pid: u32, task: &str) -> Option<()> {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            tracing::warn!(known = KNOWN_MAX, "too many user namespaces; a caller is refused");
            return None;
        }
        let maps = maps(&pid.to_string())?;
        let pin = fs::File::open(format!("/proc/{task}/ns/user")).ok().map(OwnedFd::from);
        let owner = pin.as_ref().and_then(|pin| sys::namespace_owner(pin.as_fd()).ok());
        let number = self.known.get(name).map_or(self.known.len() as u64 + 1, |k| k.number);
        let known = Known {
            number,
            owner: Uid(owner.unwrap_or(Uid::ROOT.0)),
            uids: runs(&maps.uids),
            gids: runs(&maps.gids),
            _pin: pin,
        };
        self.known.insert(name.clone(), known);
        Some(())
    }

    /// The namespace as the core wants it.
    pub(crate) fn view(&self, membership: &Membership) -> UserNamespace<'_> {
        let known = membership.0.as_ref().and_then(|name| self.known.get(name));
        known.map_or(UserNamespace::OUTERMOST, |known| UserNamespace {
            number: known.number,
            owner: known.owner,
            uids: IdMap(&known.uids),
            gids: IdMap(&known.gids),
        })
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
        let membership = namespaces.of(pid, pid).unwrap();
        assert!(membership.is_outermost());
        assert_eq!(namespaces.view(&membership).number, 0);
    }
}
