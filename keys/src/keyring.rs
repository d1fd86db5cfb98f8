//! Links: making, moving and dropping them (`keyring.c`).
//!
//! A link costs its ring's owner four bytes of quota unless it takes the place of an
//! equal one (same type and description). What may go wrong, in the kernel's order:
//! ENOTDIR, EKEYREVOKED, EDQUOT, ENFILE, the restriction's error, EDEADLK or ELOOP.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use keyshim_abi::Errno;
use keyshim_abi::limits::LINK_QUOTA_LEN;

use crate::key::KeyIx;
use crate::key_type::{LinkCheck, TypeIx};
use crate::links::ORDERED_LINKS_MAX;
use crate::payload::Payload;
use crate::profile::Rings;
use crate::search::{Index, Nesting, nesting};
use crate::service::KeyService;

/// What may be linked into a keyring.
pub(crate) enum Restriction {
    /// Nothing: EPERM.
    Reject,
    /// What a key type's check lets pass.
    Checked { by: TypeIx, check: Box<dyn LinkCheck> },
}

impl core::fmt::Debug for Restriction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Restriction::Reject => "Reject",
            Restriction::Checked { .. } => "Checked",
        })
    }
}

/// A link that has been paid for but not made: the place of an equal key, or a new one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PreparedLink {
    ring: KeyIx,
    /// The equal key that it will displace.
    pub(crate) displaces: Option<KeyIx>,
}

impl KeyService {
    pub(crate) fn is_keyring(&self, ix: KeyIx) -> bool {
        self.store.get(ix).key_type == TypeIx::KEYRING
    }

    /// The key of that index in a ring, in whatever state.
    pub(crate) fn find_link(&self, ring: KeyIx, index: &Index<'_>) -> Option<KeyIx> {
        let links = self.store.get(ring).links()?;
        links.find(index.hash, |ix| index.matches(self.store.get(ix)))
    }

    /// The key of that index in a ring that an update may take (`find_key_to_update`).
    pub(crate) fn find_key_to_update(&self, ring: KeyIx, index: &Index<'_>) -> Option<KeyIx> {
        let links = self.store.get(ring).links()?;
        links.find(index.hash, |ix| {
            let key = self.store.get(ix);
            index.matches(key) && !key.is_revoked_or_invalidated()
        })
    }

    /// The key whose place in the ring a new link to a key of that index takes.
    pub(crate) fn displaced_by(&self, ring: KeyIx, index: &Index<'_>) -> Option<KeyIx> {
        match self.profile.rings {
            Rings::Indexed => self.find_link(ring, index),
            Rings::Listed { .. } => None,
        }
    }

    /// Pays for a link that will take the place of the equal key in the ring, if there
    /// is one. ENOTDIR, EKEYREVOKED, EDQUOT, ENFILE (`__key_link_begin`).
    pub(crate) fn prepare_link(
        &mut self,
        ring: KeyIx,
        displaces: Option<KeyIx>,
    ) -> Result<PreparedLink, Errno> {
        if !self.is_keyring(ring) {
            return Err(Errno::ENOTDIR);
        }
        if self.store.get(ring).flags.revoked {
            return Err(Errno::EKEYREVOKED);
        }
        if displaces.is_none() {
            let len = self.store.get(ring).data_len;
            self.reserve(ring, len + LINK_QUOTA_LEN)?;
            if self.store.get(ring).links().is_some_and(|links| !links.has_room()) {
                self.unreserve_link(ring);
                return Err(Errno::ENFILE);
            }
        }
        Ok(PreparedLink { ring, displaces })
    }

    /// The same for a link to that key.
    pub(crate) fn prepare_link_to(
        &mut self,
        ring: KeyIx,
        key: KeyIx,
    ) -> Result<PreparedLink, Errno> {
        let displaces = self.displaced_by(ring, &Index::of(self.store.get(key)));
        self.prepare_link(ring, displaces)
    }

    /// Gives back what a link that is not made was charged.
    pub(crate) fn cancel_link(&mut self, link: PreparedLink) {
        if link.displaces.is_none() {
            self.unreserve_link(link.ring);
        }
    }

    fn unreserve_link(&mut self, ring: KeyIx) {
        let len = self.store.get(ring).data_len.saturating_sub(LINK_QUOTA_LEN);
        // Giving quota back cannot be refused.
        let _ = self.reserve(ring, len);
    }

    pub(crate) fn check_restriction(
        &self,
        ring: KeyIx,
        key_type: TypeIx,
        payload: &Payload,
    ) -> Result<(), Errno> {
        match &self.store.get(ring).restriction {
            None => Ok(()),
            Some(Restriction::Reject) => Err(Errno::EPERM),
            Some(Restriction::Checked { check, .. }) => {
                check.check(self.types.get(key_type).name(), payload)
            }
        }
    }

    fn check_nesting(&self, ring: KeyIx, key: KeyIx) -> Result<(), Errno> {
        if !self.is_keyring(key) {
            return Ok(());
        }
        match nesting(&self.store, ring, key) {
            Nesting::Sound => Ok(()),
            Nesting::Cycle => Err(Errno::EDEADLK),
            Nesting::TooDeep => Err(Errno::ELOOP),
        }
    }

    /// Makes a link that has been prepared.
    pub(crate) fn finish_link(&mut self, link: PreparedLink, key: KeyIx) -> Result<(), Errno> {
        let hash = self.store.get(key).hash;
        let links = self.store.get_mut(link.ring).payload.links_mut().ok_or(Errno::ENOTDIR)?;
        links.insert(hash, key, link.displaces);
        let (links_len, is_list) = (links.len(), links.is_list());
        self.order_is_undefined |= links_len > ORDERED_LINKS_MAX && !is_list;
        self.hold(key);
        self.store.get_mut(key).parents.add(link.ring);
        if let Some(old) = link.displaces {
            self.unlinked(link.ring, old);
        }
        Ok(())
    }

    fn unlinked(&mut self, ring: KeyIx, key: KeyIx) {
        self.store.get_mut(key).parents.remove(ring);
        self.put(key);
    }

    /// Links a key (`key_link`).
    pub(crate) fn link(&mut self, ring: KeyIx, key: KeyIx) -> Result<(), Errno> {
        let takes_links = self.is_keyring(ring) && !self.store.get(ring).flags.revoked;
        if takes_links && !self.profile.checks_ahead {
            // Before anybody asks whether there is room.
            self.check_nesting(ring, key)?;
        }
        let link = self.prepare_link_to(ring, key)?;
        match self.check_link(ring, key) {
            Ok(()) => self.finish_link(link, key),
            Err(errno) => {
                self.cancel_link(link);
                Err(errno)
            }
        }
    }

    fn check_link(&self, ring: KeyIx, key: KeyIx) -> Result<(), Errno> {
        let linked = self.store.get(key);
        self.check_restriction(ring, linked.key_type, &linked.payload)?;
        self.check_nesting(ring, key)
    }

    /// The link that UNLINK would remove: by type and description, not by identity, but
    /// for lists. ENOTDIR, ENOENT.
    fn link_like(&self, ring: KeyIx, key: KeyIx) -> Result<KeyIx, Errno> {
        if !self.is_keyring(ring) {
            return Err(Errno::ENOTDIR);
        }
        let found = match self.profile.rings {
            Rings::Indexed => self.find_link(ring, &Index::of(self.store.get(key))),
            Rings::Listed { .. } => self.holds(ring, key).then_some(key),
        };
        found.ok_or(Errno::ENOENT)
    }

    /// True when a ring links that very key.
    fn holds(&self, ring: KeyIx, key: KeyIx) -> bool {
        let hash = self.store.get(key).hash;
        self.store.get(ring).links().is_some_and(|links| links.find(hash, |ix| ix == key).is_some())
    }

    /// Removes the link to a key, or to one equal to it (`key_unlink`).
    pub(crate) fn unlink(&mut self, ring: KeyIx, key: KeyIx) -> Result<(), Errno> {
        let linked = self.link_like(ring, key)?;
        let hash = self.store.get(linked).hash;
        if let Some(links) = self.store.get_mut(ring).payload.links_mut() {
            links.remove(hash, linked);
        }
        self.unreserve_link(ring);
        self.unlinked(ring, linked);
        Ok(())
    }

    /// Moves a link (`key_move`). Nothing when both rings are one; else ENOTDIR,
    /// ENOENT, EKEYREVOKED, EDQUOT, EEXIST when `exclusive`, restriction, EDEADLK, ELOOP.
    pub(crate) fn move_link(
        &mut self,
        key: KeyIx,
        from: KeyIx,
        to: KeyIx,
        exclusive: bool,
    ) -> Result<(), Errno> {
        if from == to {
            return Ok(());
        }
        if !self.is_keyring(from) || !self.is_keyring(to) {
            return Err(Errno::ENOTDIR);
        }
        self.link_like(from, key)?;
        let displaces = self.displaced_by(to, &Index::of(self.store.get(key)));
        let link = self.prepare_link(to, displaces)?;
        let checked = match link.displaces {
            Some(_) if exclusive => Err(Errno::EEXIST),
            _ => self.check_link(to, key),
        };
        if let Err(errno) = checked {
            self.cancel_link(link);
            return Err(errno);
        }
        self.hold(key);
        let done = self.unlink(from, key).and_then(|()| self.finish_link(link, key));
        self.put(key);
        done
    }

    /// Drops every link of a ring and what they cost (`keyring_clear`).
    pub(crate) fn clear(&mut self, ring: KeyIx) {
        self.drop_links(ring);
        // Giving quota back cannot be refused.
        let _ = self.reserve(ring, self.profile.keyring_len);
    }

    /// Drops every link of a ring, if it is one.
    pub(crate) fn drop_links(&mut self, ring: KeyIx) {
        let mut linked = Vec::new();
        if let Some(links) = self.store.get_mut(ring).payload.links_mut() {
            linked.reserve(links.len());
            links.clear(|key| linked.push(key));
        }
        for key in linked {
            self.unlinked(ring, key);
        }
    }

    /// Removes a link because the key behind it is dead (`keyring_gc`).
    pub(crate) fn collect_link(&mut self, ring: KeyIx, key: KeyIx) {
        let hash = self.store.get(key).hash;
        let found = self
            .store
            .get_mut(ring)
            .payload
            .links_mut()
            .is_some_and(|links| links.collect(hash, key));
        if found {
            self.unlinked(ring, key);
        }
    }

    /// ENOTDIR, unknown type ENOKEY, type without restrictions ENOENT, its parsing,
    /// EEXIST (`keyring_restrict`).
    pub(crate) fn restrict(
        &mut self,
        ring: KeyIx,
        by: Option<(&[u8], &[u8])>,
    ) -> Result<(), Errno> {
        if !self.is_keyring(ring) {
            return Err(Errno::ENOTDIR);
        }
        let restriction = match by {
            None => Restriction::Reject,
            Some((type_name, text)) => {
                let by = self.types.find(type_name).ok_or(Errno::ENOKEY)?;
                let key_type = Arc::clone(self.types.get(by));
                let check = key_type.restricter().ok_or(Errno::ENOENT)?.lookup(text)?;
                Restriction::Checked { by, check }
            }
        };
        let ring = self.store.get_mut(ring);
        if ring.restriction.is_some() {
            return Err(Errno::EEXIST);
        }
        ring.restriction = Some(restriction);
        Ok(())
    }
}
