//! Looking for a key below a keyring, and across those of a task.
//!
//! The rules (`search_nested_keyrings`, `search_cred_keyrings_rcu`): a ring's own
//! keys come before those of rings nested in it; nested rings are visited in slot
//! order, six levels down; rings that are revoked, invalidated or not searchable
//! are passed over. A candidate that matches but may not be had leaves its error
//! behind, and a later one overwrites it.

use core::ops::ControlFlow;

use keyshim_abi::caller::Caller;
use keyshim_abi::limits::SEARCH_DEPTH_MAX;
use keyshim_abi::{Errno, Need};

use crate::Now;
use crate::key::{Key, KeyIx, KeyRef, KeyState};
use crate::key_type::{Match, TypeIx};
use crate::links::{IndexHash, Links};
use crate::permission;
use crate::process_keys::Subscriptions;
use crate::profile::{Profile, Tells};
use crate::store::Store;

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// There is no such key where the caller may look.
    Nothing,
    /// There was one, or a ring, that answered with this error.
    Because(Errno),
}

impl Miss {
    /// What a caller is told: no key is ENOKEY.
    pub(crate) fn errno(self) -> Errno {
        match self {
            Miss::Nothing => Errno::ENOKEY,
            Miss::Because(errno) => errno,
        }
    }
}

/// Type and description, with their hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Index<'a> {
    pub(crate) key_type: TypeIx,
    pub(crate) description: &'a [u8],
    pub(crate) hash: IndexHash,
}

impl<'a> Index<'a> {
    pub(crate) fn of(key: &'a Key) -> Index<'a> {
        Index { key_type: key.key_type, description: &key.description, hash: key.hash }
    }

    pub(crate) fn matches(&self, key: &Key) -> bool {
        key.key_type == self.key_type && *key.description == *self.description
    }
}

/// What is looked for, and how strictly.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) store: &'a Store,
    pub(crate) now: Now,
    pub(crate) caller: &'a Caller<'a>,
    pub(crate) index: Index<'a>,
    pub(crate) goal: Goal,
    /// Look into nested rings too.
    pub(crate) recurse: bool,
    /// What the type makes of the description; without it, descriptions are equal.
    pub(crate) matcher: Option<&'a dyn Match>,
}

/// What makes a candidate the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It has the index, is valid, and grants SEARCH.
    Usable,
    /// The same, but an expired key leaves no error behind (request_key).
    UsableOrExpired,
    /// It is this very key, in whatever state, and grants SEARCH: possession.
    Identity(KeyIx),
    /// It is this very key, is valid, and grants SEARCH.
    UsableIdentity(KeyIx),
}

impl Goal {
    fn checks_state(self) -> bool {
        !matches!(self, Goal::Identity(_))
    }
}

/// What a candidate turned out to be.
enum Verdict {
    Found,
    /// Not what is looked for.
    Mismatch,
    /// What is looked for, but not to be had; with an error to remember, or without.
    Refused(Option<Errno>),
}

/// One walk below one ring.
struct Walk<'a> {
    search: &'a Search<'a>,
    possessed: bool,
    miss: Miss,
}

impl<'a> Search<'a> {
    /// Searches below one ring. ENOTDIR when it is none, EACCES when it may not be
    /// searched (`keyring_search_rcu`).
    pub(crate) fn below(&self, ring: KeyRef) -> Result<KeyRef, Miss> {
        let top = self.store.get(ring.key);
        if top.key_type != TypeIx::KEYRING {
            return Err(Miss::Because(Errno::ENOTDIR));
        }
        permission::check(top, ring.possessed, self.caller, Need::Search).map_err(Miss::Because)?;
        let mut walk = Walk { search: self, possessed: ring.possessed, miss: Miss::Nothing };
        match walk.begin(ring.key) {
            Some(key) => Ok(KeyRef { key, possessed: ring.possessed }),
            None => Err(walk.miss),
        }
    }

    /// Searches thread, process and session keyring in turn, or the user-session
    /// keyring where there is no session. The first success wins; else ENOKEY, else
    /// nothing, else the last other error.
    pub(crate) fn among(&self, rings: &Subscriptions) -> Result<KeyRef, Miss> {
        let mut no_key = None;
        let mut error = Miss::Nothing;
        for ring in [rings.thread, rings.process, rings.session].into_iter().flatten() {
            match self.below(KeyRef::possessed(ring)) {
                Ok(found) => return Ok(found),
                Err(miss @ Miss::Because(Errno::ENOKEY)) => no_key = Some(miss),
                Err(Miss::Nothing) => no_key = no_key.or(Some(Miss::Nothing)),
                Err(miss) => error = miss,
            }
        }
        Err(no_key.unwrap_or(error))
    }

    fn judge(&self, key: &Key, ix: KeyIx, possessed: bool) -> Verdict {
        if key.key_type != self.index.key_type {
            return Verdict::Mismatch;
        }
        if self.goal.checks_state() {
            if key.is_revoked_or_invalidated() {
                return self.obstacle(Errno::EKEYREVOKED);
            }
            if key.has_expired(self.now) {
                return match self.goal {
                    Goal::UsableOrExpired => Verdict::Refused(None),
                    _ => self.obstacle(Errno::EKEYEXPIRED),
                };
            }
        }
        let wanted = match self.goal {
            Goal::Identity(wanted) | Goal::UsableIdentity(wanted) => wanted == ix,
            _ => match self.matcher {
                Some(matcher) => matcher.matches(&key.description),
                None => *key.description == *self.index.description,
            },
        };
        if !wanted {
            return Verdict::Mismatch;
        }
        if let Err(errno) = permission::check(key, possessed, self.caller, Need::Search) {
            return self.obstacle(errno);
        }
        match (&key.state, self.profile.search_tells) {
            (KeyState::Rejected(errno), tells) if self.goal.checks_state() => match tells {
                Tells::Obstacles => Verdict::Refused(Some(*errno)),
                Tells::NegativeKeys => Verdict::Refused(Some(Errno::ENOKEY)),
            },
            _ => Verdict::Found,
        }
    }

    fn obstacle(&self, errno: Errno) -> Verdict {
        Verdict::Refused((self.profile.search_tells == Tells::Obstacles).then_some(errno))
    }
}

impl Walk<'_> {
    /// The ring where the search begins may be the key itself; if it has the index
    /// but may not be had, the search ends there.
    fn begin(&mut self, ring: KeyIx) -> Option<KeyIx> {
        let key = self.search.store.get(ring);
        let may_be_it = self.search.profile.search_finds_its_top;
        if may_be_it && (self.search.matcher.is_some() || self.search.index.matches(key)) {
            match self.search.judge(key, ring, self.possessed) {
                Verdict::Found => return Some(ring),
                Verdict::Refused(errno) => {
                    self.remember(errno);
                    return None;
                }
                Verdict::Mismatch => {}
            }
        }
        self.descend(ring, 0)
    }

    fn remember(&mut self, errno: Option<Errno>) {
        if let Some(errno) = errno {
            self.miss = Miss::Because(errno);
        }
    }

    fn descend(&mut self, ring: KeyIx, depth: usize) -> Option<KeyIx> {
        let store = self.search.store;
        let keyring = store.get(ring);
        if keyring.is_revoked_or_invalidated() {
            return None;
        }
        let links = keyring.links()?;
        let index = self.search.index;
        let found = match self.search.matcher.is_some() || links.is_list() {
            true => self.inspect_each(links),
            false => links
                .find(index.hash, |ix| index.matches(store.get(ix)))
                .and_then(|found| self.inspect(found)),
        };
        if found.is_some() {
            return found;
        }
        if !self.search.recurse {
            return None;
        }
        let broken = links.each_keyring(&mut |nested| self.visit(nested, depth));
        match broken {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) => None,
        }
    }

    fn inspect(&mut self, ix: KeyIx) -> Option<KeyIx> {
        match self.search.judge(self.search.store.get(ix), ix, self.possessed) {
            Verdict::Found => return Some(ix),
            Verdict::Refused(errno) => self.remember(errno),
            Verdict::Mismatch => {}
        }
        None
    }

    /// Every link in its order, until one is what is looked for.
    fn inspect_each(&mut self, links: &Links) -> Option<KeyIx> {
        let mut found = None;
        links.each(&mut |ix| {
            if found.is_none() {
                found = self.inspect(ix);
            }
        });
        found
    }

    /// Breaks off with the key found, or with none where it is too deep to go on.
    fn visit(&mut self, nested: KeyIx, depth: usize) -> ControlFlow<Option<KeyIx>> {
        if depth == SEARCH_DEPTH_MAX {
            return ControlFlow::Break(None);
        }
        let key = self.search.store.get(nested);
        if permission::check(key, self.possessed, self.search.caller, Need::Search).is_err() {
            return ControlFlow::Continue(());
        }
        match self.descend(nested, depth + 1) {
            Some(found) => ControlFlow::Break(Some(found)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Whether a ring may be linked into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nesting {
    Sound,
    /// The outer ring lies within the inner one.
    Cycle,
    /// More than six levels lie below.
    TooDeep,
}

/// Looks for `outer` below and including `inner`, heeding no permission
/// (`keyring_detect_cycle`).
pub(crate) fn nesting(store: &Store, outer: KeyIx, inner: KeyIx) -> Nesting {
    if inner == outer {
        return Nesting::Cycle;
    }
    nesting_below(store, outer, inner, 0)
}

fn nesting_below(store: &Store, outer: KeyIx, ring: KeyIx, depth: usize) -> Nesting {
    let keyring = store.get(ring);
    let Some(links) = keyring.links().filter(|_| !keyring.is_revoked_or_invalidated()) else {
        return Nesting::Sound;
    };
    let hash = store.get(outer).hash;
    if links.find(hash, |ix| ix == outer).is_some() {
        return Nesting::Cycle;
    }
    let broken = links.each_keyring(&mut |nested| {
        if depth == SEARCH_DEPTH_MAX {
            return ControlFlow::Break(Nesting::TooDeep);
        }
        match nesting_below(store, outer, nested, depth + 1) {
            Nesting::Sound => ControlFlow::Continue(()),
            bad => ControlFlow::Break(bad),
        }
    });
    match broken {
        ControlFlow::Break(bad) => bad,
        ControlFlow::Continue(()) => Nesting::Sound,
    }
}
