//! KEYCTL_GET_PERSISTENT: link a user's persistent keyring, made when missing.
//!
//! Checks in order (`keyctl_get_persistent`):
//! 1. -1 is the caller's real user; else an id that the caller's user namespace does
//!    not map: EINVAL
//! 2. another user than the caller's real or effective one, without CAP_SETUID in that
//!    namespace: EPERM
//! 3. the keyring, writable, made if missing: the lookup's errors; ENOTDIR
//! 4. LINK on the persistent keyring EACCES, then the link's errors
//!
//! Each success lets it live for `persistent_keyring_expiry` seconds.

use alloc::format;

use keyshim_abi::caller::{Capability, Gid, Uid};
use keyshim_abi::{Errno, KeyId, Need};

use super::{Progress, serial_of};
use crate::create::NewKey;
use crate::key::KeyIx;
use crate::key_type::TypeIx;
use crate::lookup::{Access, Call, Missing};
use crate::permission;
use crate::process_keys::PERSISTENT_PERM;
use crate::quota::Charge;
use crate::service::KeyService;

const OWN: u32 = u32::MAX;

pub(super) fn get_persistent(
    service: &mut KeyService,
    call: &Call<'_>,
    uid: u32,
    keyring: KeyId,
) -> Progress {
    let uid = permitted_user(call, uid)?;
    let ring = service.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?;
    if !service.is_keyring(ring.key) {
        return Err(Errno::ENOTDIR.into());
    }
    let persistent = find_or_create(service, call, uid)?;
    permission::check(service.store.get(persistent), true, call.caller, Need::Link)?;
    service.link(ring.key, persistent)?;
    let expiry_s = service.knobs.persistent_keyring_expiry_s;
    let expiry = (expiry_s > 0).then(|| call.now.plus(expiry_s));
    service.set_expiry(persistent, expiry);
    Ok(serial_of(service, persistent))
}

fn permitted_user(call: &Call<'_>, uid: u32) -> Result<Uid, Errno> {
    let caller = call.caller;
    if uid == OWN {
        return Ok(caller.ids.uid);
    }
    let uid = caller.namespace().uids.outward(uid).map(Uid).ok_or(Errno::EINVAL)?;
    let own = uid == caller.ids.uid || uid == caller.ids.euid;
    if own || caller.privileges.capable_in_own_namespace(Capability::SetUid) {
        Ok(uid)
    } else {
        Err(Errno::EPERM)
    }
}

/// The user's persistent keyring, expired or not.
fn find_or_create(service: &mut KeyService, call: &Call<'_>, uid: Uid) -> Result<KeyIx, Errno> {
    let namespace = call.caller.namespace();
    let inside = namespace.uids.inward(uid.0).unwrap_or(u32::MAX);
    let name = format!("_persistent.{inside}");
    let register = register(service, call)?;
    let index = service.index(TypeIx::KEYRING, name.as_bytes());
    if let Some(found) = service.find_key_to_update(register, &index) {
        return Ok(found);
    }
    let ring = service.allocate_keyring(&kernel_made(name.as_bytes(), uid, Gid::INVALID, call))?;
    let linked = service.link(register, ring);
    service.put(ring);
    linked.map(|()| ring)
}

fn register(service: &mut KeyService, call: &Call<'_>) -> Result<KeyIx, Errno> {
    let number = call.caller.namespace().number;
    if let Some(register) = service.namespaces.get(&number).and_then(|r| r.persistent) {
        return Ok(register);
    }
    let new = kernel_made(b".persistent_register", Uid::ROOT, Gid(0), call);
    let register = service.allocate_keyring(&new)?;
    service.namespaces.entry(number).or_default().persistent = Some(register);
    Ok(register)
}

fn kernel_made<'a>(description: &'a [u8], uid: Uid, gid: Gid, call: &Call<'_>) -> NewKey<'a> {
    NewKey {
        key_type: TypeIx::KEYRING,
        description,
        uid,
        gid,
        perm: PERSISTENT_PERM,
        charge: Charge::Free,
        namespace: call.caller.namespace().number,
    }
}
