//! What a caller may see of keys, for shells that show them as something else than calls
//! (as files, say). Nothing here changes anything, and nothing is told that `/proc/keys`,
//! DESCRIBE, READ and SEARCH would not tell the same caller.

use alloc::vec::Vec;

use keyshim_abi::caller::{Caller, Gid, Uid};
use keyshim_abi::{Errno, Need, Perm, Serial};

use crate::Now;
use crate::effect::CallId;
use crate::key::{Key, KeyState};
use crate::lookup::Call;
use crate::permission;
use crate::service::KeyService;

/// What is wrong with a key, if anything; of several things the one that a call would name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Valid,
    /// Somebody is making it: calls that want its payload wait.
    UnderConstruction,
    /// It stands for an error.
    Negative,
    /// Its time is over.
    Expired,
    /// It was revoked, or its type has gone.
    Revoked,
    /// It was invalidated.
    Invalidated,
}

/// A key as one caller sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its serial.
    pub serial: Serial,
    /// What the caller may do, in bits of [`Need`]; READ includes what a possessor may, or
    /// who finds it where nobody possesses.
    pub rights: u8,
    /// What is wrong with it, which no right is needed to learn.
    pub standing: Standing,
    /// Nothing without VIEW.
    pub about: Option<About>,
    /// True for a keyring, for whom has any right on it.
    pub is_keyring: bool,
}

/// What VIEW shows.
#[derive(Debug, Clone)]
pub struct About {
    /// Name of its type.
    pub type_name: &'static str,
    /// Its description.
    pub description: Vec<u8>,
    /// Its owner, as the outermost namespace counts.
    pub uid: Uid,
    /// Its group there.
    pub gid: Gid,
    /// Its mask.
    pub perm: Perm,
    /// When it expires.
    pub expiry: Option<Now>,
    /// Keyrings that link to it.
    pub linked_by: usize,
    /// Links in it.
    pub links: usize,
}

impl View {
    /// True if the caller has that right.
    #[must_use]
    pub const fn may(&self, need: Need) -> bool {
        self.rights & need as u8 != 0
    }
}

impl KeyService {
    /// The key of that serial as this caller sees it, in whatever state. ENOKEY when there
    /// is none.
    pub fn view(&mut self, now: Now, caller: &Caller<'_>, serial: Serial) -> Result<View, Errno> {
        let call = Call::new(now, CallId(u64::MAX), caller);
        self.refresh_ids(&call);
        let ix = self.store.find(serial).ok_or(Errno::ENOKEY)?;
        let reference = self.own_reference(&call, ix);
        let key = self.store.get(ix);
        let mut rights = permission::granted(key, reference.possessed, caller);
        if self.may_read(&call, reference) {
            rights |= Need::Read as u8;
        }
        let is_viewable = rights & Need::View as u8 != 0;
        let about = is_viewable.then(|| About {
            type_name: self.types.get(key.key_type).name(),
            description: key.description.to_vec(),
            uid: key.uid,
            gid: key.gid,
            perm: key.perm,
            expiry: key.expiry,
            linked_by: key.parents.as_slice().len(),
            links: key.links().map_or(0, crate::links::Links::len),
        });
        let is_keyring = rights != 0 && self.is_keyring(ix);
        Ok(View { serial, rights, standing: standing(key, now), about, is_keyring })
    }

    /// The key that a keyring links by that name, in whatever state and whoever asks.
    #[must_use]
    pub fn linked_as(&self, ring: Serial, type_name: &[u8], description: &[u8]) -> Option<Serial> {
        let ring = self.store.find(ring)?;
        let index = self.index(self.types.find(type_name)?, description);
        self.find_link(ring, &index).map(|key| self.store.get(key).serial)
    }

    /// True if the keyring links that very key.
    #[must_use]
    pub fn links_to(&self, ring: Serial, key: Serial) -> bool {
        let found = self.store.find(ring).zip(self.store.find(key));
        found.is_some_and(|(ring, key)| self.store.get(key).parents.as_slice().contains(&ring))
    }

    /// True if there is a key of that serial that can still be had.
    #[must_use]
    pub fn is_live(&self, now: Now, serial: Serial) -> bool {
        self.store.find(serial).is_some_and(|ix| self.store.get(ix).validate(now).is_ok())
    }

    /// Every key, in the order of serials. Who shows them asks [`KeyService::view`].
    #[must_use]
    pub fn serials(&self) -> Vec<Serial> {
        self.store.by_serial().into_iter().map(|ix| self.store.get(ix).serial).collect()
    }
}

fn standing(key: &Key, now: Now) -> Standing {
    match key.validate(now) {
        Err(Errno::ENOKEY) => Standing::Invalidated,
        Err(Errno::EKEYREVOKED) => Standing::Revoked,
        Err(_) => Standing::Expired,
        Ok(()) if key.flags.under_construction || !key.is_finished() => Standing::UnderConstruction,
        Ok(()) if matches!(key.state, KeyState::Rejected(_)) => Standing::Negative,
        Ok(()) => Standing::Valid,
    }
}
