//! A key's beginning and end: allocation, instantiation, charge, last use.

use keyshim_abi::caller::{Gid, Uid};
use keyshim_abi::{Errno, Need, Perm};

use crate::Now;
use crate::key::{Description, Flags, Key, KeyIx, KeyState, Parents};
use crate::key_type::{KeyType, Preparsed, TypeIx};
use crate::links::IndexHash;
use crate::payload::Payload;
use crate::profile::Grants;
use crate::quota::Charge;
use crate::search::Index;
use crate::service::KeyService;

/// What a new key is to be.
pub(crate) struct NewKey<'a> {
    pub(crate) key_type: TypeIx,
    pub(crate) description: &'a [u8],
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) perm: Perm,
    pub(crate) charge: Charge,
    /// The caller's user namespace, where a keyring's name will be known.
    pub(crate) namespace: u64,
}

impl KeyService {
    /// The mask of a new key: whoever it is for may do what the type can.
    pub(crate) fn new_key_perm(&self, type_ix: TypeIx, key_type: &dyn KeyType) -> Perm {
        let has_write = type_ix == TypeIx::KEYRING || key_type.updater().is_some();
        let rights = [
            Some(Need::View),
            Some(Need::Search),
            Some(Need::Link),
            key_type.reader().map(|_| Need::Read),
            has_write.then_some(Need::Write),
        ];
        let granted = |grant: fn(Need) -> Perm, first: Perm| {
            rights.into_iter().flatten().fold(first, |perm, need| perm.with(grant(need)))
        };
        match self.profile.new_key_grants {
            Grants::Owner => granted(Perm::user, Perm(0)),
            Grants::Possessor => {
                let first = Perm::user(Need::View).with(Perm::possessor(Need::Setattr));
                granted(Perm::possessor, first)
            }
        }
    }

    /// The mask of a key that is to be made because it was requested.
    pub(crate) fn requested_perm(&self, type_ix: TypeIx, key_type: &dyn KeyType) -> Perm {
        self.profile.requested_perm.unwrap_or_else(|| self.new_key_perm(type_ix, key_type))
    }

    pub(crate) fn index<'a>(&self, key_type: TypeIx, description: &'a [u8]) -> Index<'a> {
        let hash = self.hasher.hash(key_type.number(), description);
        Index { key_type, description, hash: IndexHash::new(hash, key_type == TypeIx::KEYRING) }
    }

    /// Allocates a key, not yet instantiated, with one use: the caller's. Errors in
    /// order (`key_alloc`): EINVAL without a description, the type's vetting, EDQUOT.
    pub(crate) fn allocate(&mut self, new: &NewKey<'_>) -> Result<KeyIx, Errno> {
        if new.description.is_empty() {
            return Err(Errno::EINVAL);
        }
        self.types.get(new.key_type).vet_description(new.description)?;
        let quota_len = new.description.len() as u32 + 1;
        self.users.add_key(new.uid, quota_len, new.charge, &self.knobs)?;
        let in_quota = new.charge != Charge::Free;
        let serial = self.store.free_serial(self.profile.serials, &mut *self.entropy);
        Ok(self.store.insert(Key {
            serial,
            key_type: new.key_type,
            description: Description::from_slice(new.description),
            hash: self.index(new.key_type, new.description).hash,
            state: KeyState::Uninstantiated,
            flags: Flags { in_quota, ..Flags::default() },
            uid: new.uid,
            gid: new.gid,
            perm: new.perm,
            expiry: None,
            payload: Payload::Empty,
            charged_to: new.uid,
            quota_len,
            data_len: 0,
            usage: 1,
            parents: Parents::None,
            restriction: None,
            namespace: new.namespace,
        }))
    }

    /// What a type makes of a payload, with the moment at which it expires.
    pub(crate) fn preparse(
        &self,
        now: Now,
        key_type: &dyn KeyType,
        data: &[u8],
    ) -> Result<Preparsed, Errno> {
        let mut prep = key_type.preparse(data)?;
        prep.expiry = prep.expiry.or(prep.life_s.map(|life_s| now.plus(life_s)));
        Ok(prep)
    }

    /// Gives a new key its payload. EDQUOT when it does not fit.
    pub(crate) fn instantiate(&mut self, ix: KeyIx, prep: Preparsed) -> Result<(), Errno> {
        self.reserve(ix, prep.quota_len)?;
        self.finish_instantiation(ix, prep.payload);
        if self.store.get(ix).key_type == TypeIx::KEYRING {
            self.names.publish(&self.store, ix, self.profile.reserves_dots);
        }
        if let Some(expiry) = prep.expiry {
            self.set_expiry(ix, Some(expiry));
        }
        Ok(())
    }

    /// Turns a key positive whose payload is paid for.
    pub(crate) fn finish_instantiation(&mut self, ix: KeyIx, payload: Payload) {
        let key = self.store.get_mut(ix);
        key.payload = payload;
        key.state = KeyState::Positive;
        self.users.key_instantiated(key.charged_to);
    }

    /// A new keyring, instantiated and linked nowhere, with one use: the caller's.
    pub(crate) fn allocate_keyring(&mut self, new: &NewKey<'_>) -> Result<KeyIx, Errno> {
        let ix = self.allocate(new)?;
        let prep = self.types.get(TypeIx::KEYRING).preparse(&[])?;
        match self.instantiate(ix, prep) {
            Ok(()) => Ok(ix),
            Err(errno) => {
                self.put(ix);
                Err(errno)
            }
        }
    }

    /// Charges `len` bytes for what a key holds instead of what was charged before
    /// (`key_payload_reserve`).
    pub(crate) fn reserve(&mut self, ix: KeyIx, len: u32) -> Result<(), Errno> {
        let key = self.store.get_mut(ix);
        if key.flags.in_quota && key.data_len != len {
            self.users.recharge(key.charged_to, key.data_len, len, &self.knobs)?;
            key.quota_len = key.quota_len - key.data_len + len;
        }
        key.data_len = len;
        Ok(())
    }

    /// Counts one more use of a key.
    pub(crate) fn hold(&mut self, ix: KeyIx) {
        self.store.get_mut(ix).usage += 1;
    }

    /// Gives back one use. With the last one the quota is free again and the key
    /// cannot be looked up; it is destroyed when the call has ended (`key_put`).
    pub(crate) fn put(&mut self, ix: KeyIx) {
        let key = self.store.get_mut(ix);
        key.usage -= 1;
        if key.usage > 0 {
            return;
        }
        if key.flags.in_quota {
            self.users.release(key.charged_to, key.quota_len);
        }
        self.graveyard.push(ix);
    }

    /// Gives back one use when the present input has ended.
    pub(crate) fn put_in_the_end(&mut self, ix: KeyIx) {
        self.used_until_the_end.push(ix);
    }

    /// Destroys the keys that nobody uses any more, and those that only they used.
    pub(crate) fn reap(&mut self) {
        while let Some(ix) = self.used_until_the_end.pop() {
            self.put(ix);
        }
        self.put_dropped();
        while let Some(ix) = self.graveyard.pop() {
            self.drop_links(ix);
            self.drop_authority(ix);
            let key = self.store.get(ix);
            debug_assert_eq!(key.usage, 0, "a key that was given up is not taken up again");
            if key.key_type == TypeIx::KEYRING {
                self.names.forget(key, ix);
            }
            let instantiated = !matches!(key.state, KeyState::Uninstantiated);
            self.users.remove_key(key.charged_to, instantiated);
            self.set_expiry(ix, None);
            self.store.remove(ix);
        }
    }
}
