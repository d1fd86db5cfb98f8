//! The authority to instantiate a key, and what comes with it (`request_key_auth.c`).
//!
//! An authorisation key names one key under construction and keeps the credentials of
//! whoever requested it. A helper finds it in its session keyring and assumes it; from
//! then on it, and whatever it forks and executes, may finish that key, and searches
//! the requester's keyrings after its own, with the requester's rights. The authority
//! ends when the key is finished: the authorisation key is invalidated then, and revoked
//! when the helper has gone.

use alloc::format;
use alloc::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_abi::{Errno, KeyId, Perm, Serial};
use zeroize::Zeroizing;

use crate::create::NewKey;
use crate::credentials::Credentials;
use crate::key::{KeyIx, KeyRef};
use crate::key_type::{Match, TypeIx};
use crate::lookup::Call;
use crate::payload::{Payload, Secret};
use crate::process_keys::Subscriptions;
use crate::quota::Charge;
use crate::search::{Goal, Index, Miss, Search};
use crate::service::KeyService;

/// Possessor: view, read, search, link. User: view.
const AUTHORITY_PERM: Perm = Perm(0x1b01_0000);

/// What an authorisation key holds. Nobody outside the service looks into it.
#[derive(Debug)]
pub struct Authority {
    /// The key under construction.
    pub(crate) target: KeyIx,
    /// The keyring that the requester wants it in.
    pub(crate) destination: KeyIx,
    pub(crate) requester: Arc<Requester>,
    callout: Secret,
}

/// For whom a helper acts: the first requester, also where a helper requests keys itself.
#[derive(Debug)]
pub(crate) struct Requester {
    pub(crate) credentials: Credentials,
    rings: Subscriptions,
}

impl Authority {
    /// What the requester said about the key that it wants.
    pub(crate) fn callout(&self) -> &[u8] {
        &self.callout
    }

    /// Every key that it uses.
    pub(crate) fn each_use(&self) -> impl Iterator<Item = KeyIx> {
        [self.target, self.destination].into_iter().chain(self.requester.rings.each())
    }
}

impl KeyService {
    /// The authorisation key that a task has assumed.
    pub(crate) fn assumed(&self, task: TaskId) -> Option<KeyIx> {
        self.subscriptions(task).authority
    }

    /// What an authorisation key holds, unless it has been revoked.
    pub(crate) fn authority(&self, key: KeyIx) -> Option<&Authority> {
        self.store.get(key).payload.authority()
    }

    /// Makes the authorisation key for a key under construction, with one use: the
    /// caller's. EKEYREVOKED when the caller acts for somebody whose key is finished
    /// (`request_key_auth_new`).
    pub(crate) fn new_authority(
        &mut self,
        call: &Call<'_>,
        target: KeyIx,
        destination: KeyIx,
        callout: &[u8],
    ) -> Result<KeyIx, Errno> {
        let requester = match self.assumed(call.caller.task) {
            Some(key) => {
                let authority = self.authority(key).ok_or(Errno::EKEYREVOKED)?;
                Arc::clone(&authority.requester)
            }
            None => Arc::new(Requester {
                credentials: Credentials::of(call.caller),
                rings: self.subscriptions(call.caller.task),
            }),
        };
        let serial = self.store.get(target).serial;
        let key = self.allocate(&NewKey {
            key_type: TypeIx::REQUEST_KEY_AUTH,
            description: format!("{:x}", serial.raw()).as_bytes(),
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
            perm: AUTHORITY_PERM,
            charge: Charge::Free,
            namespace: call.caller.namespace().number,
        })?;
        let callout = Zeroizing::new(callout.into());
        let authority = Authority { target, destination, requester, callout };
        for used in authority.each_use() {
            self.hold(used);
        }
        self.finish_instantiation(key, Payload::Authority(authority.into()));
        Ok(key)
    }

    /// Lets go of what an authorisation key holds.
    pub(crate) fn drop_authority(&mut self, key: KeyIx) {
        if let Some(authority) = self.store.get_mut(key).payload.take_authority() {
            for used in authority.each_use() {
                self.put(used);
            }
        }
    }

    /// The authorisation key for the key of that id, in the caller's own keyrings: the
    /// search's error, ENOKEY as a rule (`key_get_instantiation_authkey`).
    pub(crate) fn find_authority(&self, call: &Call<'_>, id: KeyId) -> Result<KeyIx, Errno> {
        let description = format!("{:x}", id.0);
        let index = self.index(TypeIx::REQUEST_KEY_AUTH, description.as_bytes());
        let found = self.search_process(call, index, Goal::Usable, None).map_err(Miss::errno)?;
        Ok(found.key)
    }

    /// The assumed authority for the key of that id. EPERM without one or for another
    /// key, EKEYREVOKED when it has ended.
    pub(crate) fn authority_for(&self, call: &Call<'_>, id: KeyId) -> Result<KeyIx, Errno> {
        let key = self.assumed(call.caller.task).ok_or(Errno::EPERM)?;
        let authority = self.authority(key).ok_or(Errno::EKEYREVOKED)?;
        let target = self.store.get(authority.target).serial;
        if Serial::new(id.0) == Some(target) { Ok(key) } else { Err(Errno::EPERM) }
    }

    /// Assumes an authority, or drops the present one.
    pub(crate) fn assume(&mut self, task: TaskId, authority: Option<KeyIx>) {
        let Some(record) = self.tasks.get_mut(&task) else { return };
        let old = core::mem::replace(&mut record.rings.authority, authority);
        if let Some(new) = authority {
            self.hold(new);
        }
        if let Some(old) = old {
            self.put(old);
        }
    }

    /// Searches the caller's keyrings and then, with assumed authority, those of the
    /// requester with the requester's rights; authorisation keys only in the caller's
    /// own. Of two failures ENOKEY counts most; else EACCES gives way to what the
    /// second search says (`search_process_keyrings_rcu`).
    pub(crate) fn search_process(
        &self,
        call: &Call<'_>,
        index: Index<'_>,
        goal: Goal,
        matcher: Option<&dyn Match>,
    ) -> Result<KeyRef, Miss> {
        let own = self.subscriptions(call.caller.task);
        let first = match self.search_rings(call, own, index, goal, matcher) {
            Err(miss) => miss,
            found => return found,
        };
        let denied = Miss::Because(Errno::EACCES);
        let second = match self.usable_authority(call) {
            Some(authority) if index.key_type != TypeIx::REQUEST_KEY_AUTH => {
                let requester = &authority.requester;
                let caller = requester.credentials.caller();
                let call = Call { caller: &caller, ..*call };
                match self.search_rings(&call, requester.rings, index, goal, matcher) {
                    Err(miss) => miss,
                    found => return found,
                }
            }
            _ => denied,
        };
        let no_key = Miss::Because(Errno::ENOKEY);
        Err(match (first, second) {
            (first, second) if first == no_key || second == no_key => no_key,
            (first, second) if first == denied => second,
            (first, _) => first,
        })
    }

    fn usable_authority(&self, call: &Call<'_>) -> Option<&Authority> {
        let key = self.assumed(call.caller.task)?;
        self.store.get(key).validate(call.now).ok()?;
        self.authority(key)
    }

    /// Searches the keyrings of one task's credentials (`search_cred_keyrings_rcu`).
    pub(crate) fn search_rings(
        &self,
        call: &Call<'_>,
        rings: Subscriptions,
        index: Index<'_>,
        goal: Goal,
        matcher: Option<&dyn Match>,
    ) -> Result<KeyRef, Miss> {
        let search = Search {
            profile: &self.profile,
            store: &self.store,
            now: call.now,
            caller: call.caller,
            index,
            goal,
            recurse: true,
            matcher,
        };
        search.among(&self.searched(call, rings))
    }
}
