//! KEYCTL_SETPERM: change the permission mask.
//!
//! Checks in order (`keyctl_setperm_key`):
//! 1. bits outside 3f3f3f3f (or what the profile has): EINVAL
//! 2. the key with SETATTR, negative too: the lookup's errors
//! 3. neither owner by fsuid nor CAP_SYS_ADMIN: EACCES

use keyshim_abi::caller::Capability;
use keyshim_abi::{Errno, KeyId, Perm};

use super::Progress;
use crate::lookup::{Call, Missing};
use crate::service::KeyService;

pub(super) fn setperm(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    perm: Perm,
) -> Progress {
    if !perm.is_within(service.profile.legal_perm) {
        return Err(Errno::EINVAL.into());
    }
    let key = service.lookup(call, key, Missing::Create, service.attribute_access())?.key;
    let owned = service.store.get(key).uid == call.caller.ids.fsuid;
    if !owned && !call.caller.privileges.capable(Capability::SysAdmin) {
        return Err(Errno::EACCES.into());
    }
    service.store.get_mut(key).perm = perm;
    Ok(0)
}
