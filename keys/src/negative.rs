//! Keys that were asked for and refused.

use alloc::sync::Arc;

use keyshim_abi::caller::Caller;
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Need};

use crate::Now;
use crate::create::NewKey;
use crate::effect::CallId;
use crate::key::KeyState;
use crate::lookup::{Access, Call, Missing, Stop};
use crate::ops::Progress;
use crate::quota::Charge;
use crate::service::KeyService;

/// What a negative key stands for.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The type asked for.
    pub type_name: &'a [u8],
    /// The description asked for.
    pub description: &'a [u8],
    /// What whoever asks for it is told.
    pub error: Errno,
    /// How long it lives, in seconds; the kernel's own are 60.
    pub timeout_s: u32,
}

impl KeyService {
    /// Links a negative key into a keyring, such as a helper's refusal leaves behind
    /// (`key_reject_and_link`). Errors: the lookup's for the keyring, writable; ENODEV
    /// for an unknown type; ENOTDIR, EKEYREVOKED, EDQUOT, EPERM for a restricted
    /// keyring. Returns its serial.
    pub fn add_negative(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        keyring: KeyId,
        refusal: Refusal<'_>,
    ) -> Answer {
        let call = Call::new(now, CallId(u64::MAX), caller);
        self.refresh_ids(&call);
        let answer = match self.refuse(&call, keyring, refusal) {
            Ok(serial) => Ok(serial),
            Err(Stop::Refused(errno)) => Err(errno),
            // A key under construction, which is no keyring.
            Err(Stop::Waits(_)) => Err(Errno::ENOTDIR),
        };
        self.settle(now);
        answer
    }

    fn refuse(&mut self, call: &Call<'_>, keyring: KeyId, refusal: Refusal<'_>) -> Progress {
        let ring = self.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?.key;
        let type_ix = self.types.find(refusal.type_name).ok_or(Errno::ENODEV)?;
        let key_type = Arc::clone(self.types.get(type_ix));
        if self.store.get(ring).restriction.is_some() {
            return Err(Errno::EPERM.into());
        }
        let key = self.allocate(&NewKey {
            key_type: type_ix,
            description: refusal.description,
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
            perm: self.new_key_perm(type_ix, &*key_type),
            charge: Charge::Limited,
            namespace: call.caller.namespace().number,
        })?;
        self.store.get_mut(key).state = KeyState::Rejected(refusal.error);
        self.users.key_instantiated(call.caller.ids.fsuid);
        self.set_expiry(key, Some(call.now.plus(refusal.timeout_s)));
        let linked = self.link(ring, key);
        let serial = self.store.get(key).serial;
        self.put(key);
        linked?;
        Ok(serial.raw().unsigned_abs())
    }
}
