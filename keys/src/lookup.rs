//! From an id that a caller passes to a key (`lookup_user_key`).
//!
//! In order: a special keyring is found or made; a serial is looked up and tested
//! for possession; then the key's state; then the permission. State comes before
//! permission, so anybody can learn the state of any serial.

use keyshim_abi::caller::Caller;
use keyshim_abi::{Errno, KeyId, Need, Serial};

use crate::Now;
use crate::key::{KeyIx, KeyRef, KeyState};
use crate::permission;
use crate::search::{Goal, Index, Search};
use crate::service::KeyService;

/// One call: who makes it, and when.
#[derive(Clone, Copy)]
pub(crate) struct Call<'c> {
    pub(crate) now: Now,
    pub(crate) caller: &'c Caller<'c>,
}

/// What an operation wants of the key that it looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// A valid, positive key that grants this.
    Usable(Need),
    /// A valid key, negative or under construction too (`KEY_LOOKUP_PARTIAL`).
    Partial(Need),
    /// Any key, in any state, whatever it grants (`KEY_NEED_UNLINK`).
    Named,
    /// Any instantiated key; the operation itself looks at state and permission
    /// (`KEY_DEFER_PERM_CHECK`).
    Deferred,
}

/// Whether a missing special keyring is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Leave,
}

impl KeyService {
    /// The key of that id, with what [`Access`] asks. ENOKEY, EINVAL, the key's
    /// state, EACCES.
    pub(crate) fn lookup(
        &mut self,
        call: &Call<'_>,
        id: KeyId,
        missing: Missing,
        access: Access,
    ) -> Result<KeyRef, Errno> {
        let found = self.resolve(call, id, missing)?;
        let key = self.store.get(found.key);
        match access {
            Access::Named => return Ok(found),
            Access::Partial(_) => key.validate(call.now)?,
            Access::Usable(_) => key.rejection().and_then(|()| key.validate(call.now))?,
            Access::Deferred => {}
        }
        let uninstantiated = matches!(key.state, KeyState::Uninstantiated);
        match access {
            Access::Usable(_) | Access::Deferred if uninstantiated => Err(Errno::EIO),
            Access::Usable(need) | Access::Partial(need) => {
                permission::check(key, found.possessed, call.caller, need).map(|()| found)
            }
            _ => Ok(found),
        }
    }

    fn resolve(&mut self, call: &Call<'_>, id: KeyId, missing: Missing) -> Result<KeyRef, Errno> {
        let create = missing == Missing::Create;
        match id {
            KeyId::THREAD => self.thread_keyring(call, create).map(KeyRef::possessed),
            KeyId::PROCESS => self.process_keyring(call, create).map(KeyRef::possessed),
            KeyId::SESSION => self.session_keyring(call, create).map(KeyRef::possessed),
            KeyId::USER => {
                let rings = self.user_keyrings(call).map_err(|_| Errno::ENOKEY)?;
                Ok(KeyRef::possessed(rings.user))
            }
            KeyId::USER_SESSION => {
                let rings = self.user_keyrings(call).map_err(|_| Errno::ENOKEY)?;
                Ok(KeyRef::possessed(rings.user_session))
            }
            KeyId::GROUP => Err(Errno::EINVAL),
            // Nobody has authority, because no helper is called.
            KeyId::AUTH | KeyId::REQUESTOR => Err(Errno::ENOKEY),
            KeyId(raw) => {
                let serial = Serial::new(raw).ok_or(Errno::EINVAL)?;
                let key = self.store.find(serial).ok_or(Errno::ENOKEY)?;
                Ok(self.reference(call, key))
            }
        }
    }

    /// A key with the question answered whether the caller possesses it.
    pub(crate) fn reference(&self, call: &Call<'_>, key: KeyIx) -> KeyRef {
        let search = Search {
            store: &self.store,
            now: call.now,
            caller: call.caller,
            index: Index::of(self.store.get(key)),
            goal: Goal::Identity(key),
            recurse: true,
        };
        let rings = self.searched(call);
        search.among(&rings).unwrap_or(KeyRef::unpossessed(key))
    }
}
