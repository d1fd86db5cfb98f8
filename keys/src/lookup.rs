//! From an id that a caller passes to a key (`lookup_user_key`).
//!
//! In order: a special keyring is found or made; a serial is looked up and tested
//! for possession; then the key's state; then the permission. State comes before
//! permission, so anybody can learn the state of any serial.

use keyshim_abi::caller::Caller;
use keyshim_abi::{Errno, KeyId, Need, Serial};

use crate::Now;
use crate::construction::Claimant;
use crate::effect::CallId;
use crate::key::{KeyIx, KeyRef, KeyState};
use crate::permission;
use crate::profile::{DeadKeys, Unfinished};
use crate::search::{Goal, Index};
use crate::service::KeyService;

/// One call: who makes it, and when.
#[derive(Clone, Copy)]
pub(crate) struct Call<'c> {
    pub(crate) now: Now,
    pub(crate) id: CallId,
    pub(crate) caller: &'c Caller<'c>,
    /// The keys that this call has waited for, as it found them.
    pub(crate) resolved: &'c [KeyRef],
}

impl<'c> Call<'c> {
    pub(crate) fn new(now: Now, id: CallId, caller: &'c Caller<'c>) -> Call<'c> {
        Call { now, id, caller, resolved: &[] }
    }
}

/// Why an operation does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has failed.
    Refused(Errno),
    /// It waits.
    Waits(Wait),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Refused(errno)
    }
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A key that it looked up; then it begins anew.
    Lookup(KeyRef),
    /// A key that it requested and somebody else is having made.
    Requested(KeyIx, Claimant),
    /// A key like the one that it requested, which somebody else is having made; then it
    /// begins anew.
    Elsewhere(KeyIx, Claimant),
    /// The end of the upcall that it has caused.
    Upcall,
}

/// What an operation wants of the key that it looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// A valid, positive key that grants this.
    Usable(Need),
    /// A valid key, negative or under construction too (`KEY_LOOKUP_PARTIAL`).
    Partial(Need),
    /// A valid key whatever it grants, for who has the authority to instantiate it
    /// (`KEY_AUTHTOKEN_OVERRIDE`).
    Authorised,
    /// Any key, in any state, whatever it grants (`KEY_NEED_UNLINK`); but one under
    /// construction only where others would wait for it.
    Named,
    /// Any key whatever.
    Any,
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
    /// The key of that id, with what [`Access`] asks. ENOKEY, EINVAL, the key's state,
    /// EACCES. Only a partial access does not wait for a key under construction.
    pub(crate) fn lookup(
        &mut self,
        call: &Call<'_>,
        id: KeyId,
        missing: Missing,
        access: Access,
    ) -> Result<KeyRef, Stop> {
        let resolved = Serial::new(id.0).and_then(|serial| {
            call.resolved.iter().copied().find(|found| self.store.get(found.key).serial == serial)
        });
        let found = match resolved {
            Some(found) => found,
            None => self.resolve(call, id, missing)?,
        };
        let key = self.store.get(found.key);
        let finished = !key.flags.under_construction;
        let waits = self.profile.unfinished == Unfinished::WaitsFor;
        match access {
            Access::Any => return Ok(found),
            Access::Named if waits => return Ok(found),
            Access::Partial(_) | Access::Authorised => key.validate(call.now)?,
            Access::Usable(_) | Access::Deferred if waits && !finished => {
                return Err(Stop::Waits(Wait::Lookup(found)));
            }
            Access::Usable(_) if self.profile.negative_refuses => {
                self.state(call.now, found.key)?
            }
            Access::Usable(_) => key.validate(call.now)?,
            Access::Deferred | Access::Named => {}
        }
        let uninstantiated = matches!(key.state, KeyState::Uninstantiated);
        match access {
            Access::Usable(_) | Access::Deferred | Access::Named if uninstantiated => {
                Err(Errno::EIO.into())
            }
            Access::Usable(need) | Access::Partial(need) => {
                permission::check(key, found.possessed, call.caller, need)?;
                Ok(found)
            }
            _ => Ok(found),
        }
    }

    /// What SETPERM and CHOWN want of a key.
    pub(crate) fn attribute_access(&self) -> Access {
        match self.profile.has_setattr {
            true => Access::Partial(Need::Setattr),
            false => Access::Any,
        }
    }

    /// The key of that id as [`Access::Partial`] gives it; EACCES is excused for who has
    /// the authority to instantiate it. `denied` says what it is without that authority,
    /// given why there is none.
    pub(crate) fn lookup_or_authority(
        &mut self,
        call: &Call<'_>,
        id: KeyId,
        missing: Missing,
        need: Need,
        denied: impl Fn(Errno) -> Errno,
    ) -> Result<KeyRef, Stop> {
        match self.lookup(call, id, missing, Access::Partial(need)) {
            Err(Stop::Refused(Errno::EACCES)) => {
                self.find_authority(call, id).map_err(denied)?;
                self.lookup(call, id, Missing::Leave, Access::Authorised)
            }
            found => found,
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
            KeyId(..0) if id.0 < self.profile.lowest_special => Err(Errno::EINVAL),
            KeyId::AUTH => {
                self.assumed(call.caller.task).map(KeyRef::possessed).ok_or(Errno::ENOKEY)
            }
            KeyId::REQUESTOR => {
                let key = self.assumed(call.caller.task).ok_or(Errno::ENOKEY)?;
                let authority = self.authority(key).ok_or(Errno::EKEYREVOKED)?;
                Ok(KeyRef::possessed(authority.destination))
            }
            KeyId(raw) => {
                let serial = Serial::new(raw).ok_or(Errno::EINVAL)?;
                let key = self.store.find(serial).filter(|&key| !self.is_hidden(key));
                Ok(self.reference(call, key.ok_or(Errno::ENOKEY)?))
            }
        }
    }

    fn is_hidden(&self, key: KeyIx) -> bool {
        self.profile.dead_keys == DeadKeys::AreHidden && self.store.get(key).flags.dead
    }

    /// A key with the question answered whether the caller possesses it, by its own
    /// keyrings or by those of whom it acts for.
    fn reference(&self, call: &Call<'_>, key: KeyIx) -> KeyRef {
        if !self.profile.possession {
            return KeyRef::unpossessed(key);
        }
        let index = Index::of(self.store.get(key));
        self.search_process(call, index, Goal::Identity(key), None)
            .unwrap_or(KeyRef::unpossessed(key))
    }

    /// The same by the caller's own keyrings alone.
    pub(crate) fn own_reference(&self, call: &Call<'_>, key: KeyIx) -> KeyRef {
        match self.profile.possession && self.is_found(call, key, Goal::Identity(key)) {
            true => KeyRef::possessed(key),
            false => KeyRef::unpossessed(key),
        }
    }

    /// Whether the caller reaches a key from its own keyrings, with SEARCH all the way.
    fn is_found(&self, call: &Call<'_>, key: KeyIx, goal: Goal) -> bool {
        let index = Index::of(self.store.get(key));
        let own = self.subscriptions(call.caller.task);
        self.search_rings(call, own, index, goal, None).is_ok()
    }

    /// Whether READ may show a key: to who has that right, and to who possesses it, or
    /// where there is no possession, finds it.
    pub(crate) fn may_read(&self, call: &Call<'_>, found: KeyRef) -> bool {
        let has =
            |need| permission::check(self.store.get(found.key), false, call.caller, need).is_ok();
        if self.profile.possession {
            return found.possessed || has(Need::Read);
        }
        let goal = Goal::UsableIdentity(found.key);
        has(Need::Read) || (has(Need::Search) && self.is_found(call, found.key, goal))
    }
}
