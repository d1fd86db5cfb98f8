//! The face for services that live in the same program, as file systems and network
//! protocols live in the kernel: "Kernel services" of `Documentation/security/keys`.
//!
//! A service registers the types whose keys it uses ([`KeyService::register_type`]),
//! requests a key when it needs one, on behalf of a caller, holds it as long as it uses
//! it, and looks into it ([`KeyService::with_payload`]). Whether a key may still be used
//! is to be asked each time ([`KeyService::validate`]): a reference keeps a key alive,
//! not valid.

use alloc::sync::Arc;

use keyshim_abi::caller::{Caller, Gid, Uid};
use keyshim_abi::{Errno, KeyId, Perm, Request, Serial};

use crate::Now;
use crate::construction::{Claimant, Wanted};
use crate::effect::CallId;
use crate::held::HeldKey;
use crate::key::{Key, KeyRef};
use crate::key_type::KeyType;
use crate::lookup::{Call, Stop, Wait};
use crate::payload::Payload;
use crate::search::{Goal, Miss, Search};
use crate::service::KeyService;

/// What became of a service's request.
#[derive(Debug)]
pub enum KeyRequest {
    /// The key.
    Found(HeldKey),
    /// There is none: ENOKEY, EKEYREVOKED, EACCES, EDQUOT, a stored error.
    Refused(Errno),
    /// It is being made: an [`crate::Effect::Requested`] will bring it.
    Waiting,
}

/// What anybody may know of a key that holds it.
#[derive(Debug, Clone, Copy)]
pub struct KeyInfo<'a> {
    /// The name of its type; `.dead` when that has been unregistered.
    pub type_name: &'static str,
    /// Its description.
    pub description: &'a [u8],
    /// Its owner.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Its permission mask.
    pub perm: Perm,
    /// When it expires.
    pub expiry: Option<Now>,
}

impl KeyService {
    /// Adds a key type. EEXIST when one of that name is registered, ENOMEM after 65,535
    /// of them (`register_key_type`). [`KeyService::unregister_type`] takes it away.
    pub fn register_type(&mut self, key_type: Arc<dyn KeyType>) -> Result<(), Errno> {
        self.types.register(key_type)
    }

    /// Finds a key in a caller's keyrings, or has it made when there is callout
    /// information (`request_key`). It may have to be waited for, in which case `id` is
    /// the number under which it comes. Nothing but the end of the construction ends that
    /// wait.
    pub fn request_key(
        &mut self,
        now: Now,
        id: CallId,
        caller: &Caller<'_>,
        (type_name, description): (&[u8], &[u8]),
        callout: Option<&[u8]>,
    ) -> KeyRequest {
        let call = Call::new(now, id, caller);
        self.refresh_ids(&call);
        let request = match self.find_or_make(&call, (type_name, description), callout) {
            Ok(key) => KeyRequest::Found(key),
            Err(Stop::Refused(errno)) => KeyRequest::Refused(errno),
            Err(Stop::Waits(wait)) => {
                let request = Request::RequestKey {
                    type_name: Ok(type_name),
                    description: Ok(description),
                    callout: callout.map(Ok),
                    destination: KeyId(0),
                };
                self.begin_wait(&call, &request, wait);
                KeyRequest::Waiting
            }
        };
        self.settle(now);
        request
    }

    pub(crate) fn find_or_make(
        &mut self,
        call: &Call<'_>,
        (type_name, description): (&[u8], &[u8]),
        callout: Option<&[u8]>,
    ) -> Result<HeldKey, Stop> {
        let key_type = self.types.find(type_name).ok_or(Errno::ENOKEY)?;
        let claimant = Claimant::Service;
        let wanted = Wanted { key_type, description, callout, destination: None, claimant };
        let key = self.request(call, wanted)?;
        if self.store.get(key).flags.under_construction {
            return Err(Stop::Waits(Wait::Requested(key, claimant)));
        }
        self.state(call.now, key)?;
        Ok(self.held_key(key))
    }

    /// Searches a keyring, and those nested in it if `recurse`, with the rights of a
    /// caller who possesses it (`keyring_search`). ENOKEY for an unknown type, ENOTDIR,
    /// EACCES, EKEYREVOKED, EKEYEXPIRED, a stored error; EAGAIN (or what the
    /// profile says) when there is no such key.
    /// A key under construction is found like any other.
    pub fn keyring_search(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        ring: &HeldKey,
        (type_name, description): (&[u8], &[u8]),
        recurse: bool,
    ) -> Result<HeldKey, Errno> {
        let ring = self.key_of(ring).ok_or(Errno::ENOKEY)?;
        let type_ix = self.types.find(type_name).ok_or(Errno::ENOKEY)?;
        let matcher = Arc::clone(self.types.get(type_ix)).match_preparse(description)?;
        let search = Search {
            profile: &self.profile,
            store: &self.store,
            now,
            caller,
            index: self.index(type_ix, description),
            goal: Goal::Usable,
            recurse,
            matcher: matcher.as_deref(),
        };
        match search.below(KeyRef::possessed(ring)) {
            Ok(found) => Ok(self.held_key(found.key)),
            Err(Miss::Nothing) => Err(self.profile.nothing_found),
            Err(Miss::Because(errno)) => Err(errno),
        }
    }

    /// A reference to the key of that serial (`key_lookup`). ENOKEY.
    pub fn key_lookup(&mut self, serial: Serial) -> Result<HeldKey, Errno> {
        let key = self.store.find(serial).ok_or(Errno::ENOKEY)?;
        Ok(self.held_key(key))
    }

    /// Whether a key may still be used: ENOKEY invalidated, EKEYREVOKED revoked or of a
    /// type that is gone, EKEYEXPIRED (`key_validate`).
    pub fn validate(&self, now: Now, key: &HeldKey) -> Result<(), Errno> {
        self.held(key)?.validate(now)
    }

    /// What is known of a key. ENOKEY for a reference of another service.
    pub fn key_info(&self, key: &HeldKey) -> Result<KeyInfo<'_>, Errno> {
        let key = self.held(key)?;
        Ok(KeyInfo {
            type_name: self.types.get(key.key_type).name(),
            description: &key.description,
            uid: key.uid,
            gid: key.gid,
            perm: key.perm,
            expiry: key.expiry,
        })
    }

    /// Looks into a key: nobody changes its payload meanwhile. EIO under construction, a
    /// negative key's stored error, then what [`KeyService::validate`] says.
    pub fn with_payload<T>(
        &self,
        now: Now,
        key: &HeldKey,
        look: impl FnOnce(&Payload) -> T,
    ) -> Result<T, Errno> {
        let key = self.held(key)?;
        key.rejection()?;
        key.validate(now)?;
        if key.is_positive() { Ok(look(&key.payload)) } else { Err(Errno::EIO) }
    }

    fn held(&self, key: &HeldKey) -> Result<&Key, Errno> {
        self.key_of(key).map(|key| self.store.get(key)).ok_or(Errno::ENOKEY)
    }
}
