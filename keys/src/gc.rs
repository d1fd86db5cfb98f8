//! Expiry and the collection of garbage (`gc.c`).
//!
//! A key whose time has come stays linked for `gc_delay` seconds, so that callers
//! are told why they cannot have it; then its links go. The links of an invalidated
//! or dead key go at once. Nothing is collected out of a revoked or invalidated
//! keyring. A collected link gives no quota back before its ring is cleared or gone.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use keyshim_abi::{Errno, Perm};

use crate::Now;
use crate::key::KeyIx;
use crate::key_type::TypeIx;
use crate::keyring::Restriction;
use crate::payload::Payload;
use crate::profile::DeadKeys;
use crate::service::KeyService;

impl KeyService {
    /// Sets or clears the moment from which a key is expired.
    pub(crate) fn set_expiry(&mut self, ix: KeyIx, expiry: Option<Now>) {
        let key = self.store.get_mut(ix);
        let old = core::mem::replace(&mut key.expiry, expiry);
        let at_once = self.types.get(key.key_type).is_reaped_at_once();
        if let Some(old) = old {
            self.deaths.remove(&(old, ix));
            self.deaths_at_once.remove(&(old, ix));
        }
        if let Some(new) = expiry {
            let deaths = if at_once { &mut self.deaths_at_once } else { &mut self.deaths };
            deaths.insert((new, ix));
        }
    }

    /// Collects garbage that is due: links to keys that expired or were revoked
    /// `gc_delay` seconds ago, or just now where their type says so. Not all kernels do.
    pub fn collect(&mut self, now: Now) {
        if !self.profile.collects {
            return self.reap();
        }
        let delay_s = self.knobs.gc_delay_s;
        while let Some(ix) = take_due(&mut self.deaths, |expiry| expiry.plus(delay_s) <= now) {
            self.collect_links_to(ix);
        }
        while let Some(ix) = take_due(&mut self.deaths_at_once, |expiry| expiry <= now) {
            self.collect_links_to(ix);
        }
        self.reap();
    }

    /// When [`KeyService::collect`] next has something to do.
    #[must_use]
    pub fn next_collection(&self) -> Option<Now> {
        if !self.profile.collects {
            return None;
        }
        let late = self.deaths.first().map(|(expiry, _)| expiry.plus(self.knobs.gc_delay_s));
        let at_once = self.deaths_at_once.first().map(|&(expiry, _)| expiry);
        [late, at_once].into_iter().flatten().min()
    }

    /// Drops every link to a key, but for those of rings that are no longer valid.
    pub(crate) fn collect_links_to(&mut self, ix: KeyIx) {
        let parents: Vec<KeyIx> = self.store.get(ix).parents.as_slice().into();
        for ring in parents {
            if !self.store.get(ring).is_revoked_or_invalidated() {
                self.collect_link(ring, ix);
            }
        }
    }

    /// Makes a key unusable for good and lets go of what it held (`key_revoke`).
    pub(crate) fn revoke(&mut self, ix: KeyIx, now: Now) {
        if core::mem::replace(&mut self.store.get_mut(ix).flags.revoked, true) {
            return;
        }
        self.drop_authority(ix);
        if !self.profile.revoking_empties {
            return;
        }
        if self.is_keyring(ix) {
            self.clear(ix);
        } else {
            let key_type = Arc::clone(self.types.get(self.store.get(ix).key_type));
            if key_type.wipes_when_revoked() {
                // Giving quota back cannot be refused.
                let _ = self.reserve(ix, 0);
                key_type.revoke(&mut self.store.get_mut(ix).payload);
            }
        }
        if self.store.get(ix).expiry.is_none_or(|expiry| expiry > now) {
            self.set_expiry(ix, Some(now));
        }
    }

    /// Makes a key unfindable at once (`key_invalidate`).
    pub(crate) fn invalidate(&mut self, ix: KeyIx) {
        self.store.get_mut(ix).flags.invalidated = true;
        self.collect_links_to(ix);
    }

    /// Takes a key type off the list. Its keys become dead (flag `D`, EKEYREVOKED):
    /// they lose permissions, links and payload, or what the profile says; restrictions by the type then refuse
    /// every link. ENOKEY when there is no such type, EINVAL for those on which everything
    /// stands: `keyring`, `.request_key_auth` and `.dead` (`key_gc_keytype`).
    pub fn unregister_type(&mut self, name: &[u8]) -> Result<(), Errno> {
        let key_type = self.types.find(name).ok_or(Errno::ENOKEY)?;
        if [TypeIx::KEYRING, TypeIx::REQUEST_KEY_AUTH, TypeIx::DEAD].contains(&key_type) {
            return Err(Errno::EINVAL);
        }
        self.types.unregister(key_type);
        let all: Vec<KeyIx> = self.store.iter().map(|(ix, _)| ix).collect();
        for ix in all {
            let key = self.store.get_mut(ix);
            match key.restriction {
                Some(Restriction::Checked { by, .. }) if by == key_type => {
                    key.restriction = Some(Restriction::Reject);
                }
                _ => {}
            }
            if key.key_type == key_type {
                key.flags.dead = true;
                if self.profile.dead_keys == DeadKeys::AreRevoked {
                    key.perm = Perm(0);
                    self.collect_links_to(ix);
                }
                let key = self.store.get_mut(ix);
                key.key_type = TypeIx::DEAD;
                key.payload = Payload::Empty;
            }
        }
        self.reap();
        Ok(())
    }
}

/// Takes the first key whose time has come.
fn take_due(deaths: &mut BTreeSet<(Now, KeyIx)>, is_due: impl Fn(Now) -> bool) -> Option<KeyIx> {
    deaths.first().filter(|(expiry, _)| is_due(*expiry))?;
    deaths.pop_first().map(|(_, ix)| ix)
}
