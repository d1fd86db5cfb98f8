//! What must hold between any two calls.

use alloc::collections::BTreeMap;
use alloc::format;
use core::fmt;

use keyshim_abi::caller::Uid;
use keyshim_abi::limits::LINK_QUOTA_LEN;

use crate::auth::Authority;
use crate::construction::Construction;
use crate::key::{Key, KeyIx, KeyState};
use crate::quota::User;
use crate::search::Index;
use crate::service::KeyService;

/// An invariant that does not hold: a fault of ours, never of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The serial of the key where it was noticed, or the user's id.
    pub at: i64,
    /// What should have been.
    pub rule: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.rule, self.at)
    }
}

impl KeyService {
    /// Checks every invariant. The first that does not hold is returned.
    pub fn audit(&self) -> Result<(), Violation> {
        if !self.graveyard.is_empty() {
            return Err(Violation { at: 0, rule: "no key waits for its end between calls" });
        }
        let uses = self.count_uses();
        for (ix, key) in self.store.iter() {
            self.audit_key(ix, key, uses.get(&ix).copied().unwrap_or_default())?;
            self.audit_links(ix, key)?;
        }
        self.audit_constructions()?;
        self.audit_users()
    }

    /// Who waits, for what, and who has the authority to end it.
    fn audit_constructions(&self) -> Result<(), Violation> {
        let broken =
            |ix: KeyIx, rule| Err(Violation { at: self.store.get(ix).serial.raw().into(), rule });
        let running = &self.constructions.running;
        for (ix, key) in self.store.iter() {
            let begun = running.values().any(|construction| construction.key == ix);
            if key.flags.under_construction && !begun {
                return broken(ix, "a key under construction has an upcall that makes it");
            }
            if key.flags.under_construction == key.is_finished() {
                return broken(ix, "a key is under construction until it is finished");
            }
            let Some(authority) = key.payload.authority() else { continue };
            let target = self.store.get(authority.target).serial.raw();
            if *key.description != *format!("{target:x}").as_bytes() || key.flags.revoked {
                return broken(ix, "an authorisation key names its key until it is revoked");
            }
        }
        for construction in running.values() {
            let waits_twice = running.values().filter(|other| other.call == construction.call);
            if waits_twice.count() > 1 || self.waiters.waits(construction.call) {
                return broken(construction.key, "a call waits once");
            }
        }
        for (ix, _) in self.waiters.iter() {
            if !self.store.get(ix).flags.under_construction {
                return broken(ix, "what is waited for is under construction");
            }
        }
        match self.waiters.is_sound() && self.finished.is_empty() {
            true => Ok(()),
            false => Err(Violation { at: 0, rule: "each call that waits is found by its number" }),
        }
    }

    /// How often each key is linked, subscribed to, waited for or held.
    fn count_uses(&self) -> BTreeMap<KeyIx, u32> {
        let mut uses = BTreeMap::new();
        let mut count = |ix: KeyIx| *uses.entry(ix).or_insert(0) += 1;
        for (_, key) in self.store.iter() {
            if let Some(links) = key.links() {
                links.each(&mut count);
            }
        }
        let tasks = self.tasks.values().map(|task| task.rings);
        let images = self.images.values().map(|image| image.rings);
        for rings in tasks.chain(images) {
            rings.each().for_each(&mut count);
        }
        for registers in self.namespaces.values() {
            [registers.user, registers.persistent].into_iter().flatten().for_each(&mut count);
        }
        for (_, key) in self.store.iter() {
            let authority = key.payload.authority();
            authority.into_iter().flat_map(Authority::each_use).for_each(&mut count);
        }
        let running = self.constructions.running.values();
        running.flat_map(Construction::each_use).for_each(&mut count);
        self.waiters.iter().for_each(|(key, _)| count(key));
        self.held.each().for_each(&mut count);
        self.residents.each_use().for_each(&mut count);
        uses
    }

    fn audit_key(&self, ix: KeyIx, key: &Key, uses: u32) -> Result<(), Violation> {
        let rules = [
            (key.usage == uses, "a key's uses are those that can be named"),
            (key.usage > 0, "a key that nobody uses is gone"),
            (self.store.find(key.serial) == Some(ix), "a serial leads to its key"),
            (
                key.expiry.is_none()
                    || key.expiry.is_some_and(|expiry| {
                        self.deaths.contains(&(expiry, ix))
                            || self.deaths_at_once.contains(&(expiry, ix))
                            || key.parents.as_slice().is_empty()
                            || key
                                .parents
                                .as_slice()
                                .iter()
                                .all(|&ring| self.store.get(ring).is_revoked_or_invalidated())
                    }),
                "a key that expires is known to the collector",
            ),
            (
                key.quota_len >= key.data_len || !key.flags.in_quota,
                "a charge covers what the key holds",
            ),
            (
                key.perm.is_within(self.profile.legal_perm),
                "a mask has no bits that SETPERM refuses",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Violation { at: key.serial.raw().into(), rule }),
            None => Ok(()),
        }
    }

    fn audit_links(&self, ring: KeyIx, key: &Key) -> Result<(), Violation> {
        let Some(links) = key.links() else { return Ok(()) };
        let broken = |rule| Err(Violation { at: key.serial.raw().into(), rule });
        let mut count = 0;
        let mut sound = true;
        links.each(&mut |linked| {
            let index = Index::of(self.store.get(linked));
            count += 1;
            sound &= links.find(index.hash, |ix| ix == linked) == Some(linked);
            let first = links.find(index.hash, |ix| index.matches(self.store.get(ix)));
            sound &= links.is_list() || first == Some(linked);
            sound &= self.store.get(linked).parents.as_slice().contains(&ring);
        });
        if !sound {
            return broken("each link can be found, alone of its name, and knows its ring");
        }
        if count != links.len() {
            return broken("a ring counts its links");
        }
        if (key.data_len as usize) < links.len() * LINK_QUOTA_LEN as usize {
            return broken("a ring pays for each link");
        }
        Ok(())
    }

    fn audit_users(&self) -> Result<(), Violation> {
        let mut counted: BTreeMap<Uid, User> = BTreeMap::new();
        for (_, key) in self.store.iter() {
            let user = counted.entry(key.charged_to).or_default();
            user.keys += 1;
            user.instantiated += u32::from(!matches!(key.state, KeyState::Uninstantiated));
            user.quota_keys += u32::from(key.flags.in_quota);
            user.quota_len += if key.flags.in_quota { key.quota_len } else { 0 };
        }
        for (uid, user) in self.users.iter() {
            let expected = counted.remove(&uid).unwrap_or_default();
            if *user != expected {
                return Err(Violation { at: uid.0.into(), rule: "a user's counts add up" });
            }
        }
        match counted.into_keys().next() {
            Some(uid) => Err(Violation { at: uid.0.into(), rule: "each owner is counted" }),
            None => Ok(()),
        }
    }
}
