//! KEYCTL_CHOWN: change owner and group.
//!
//! Checks in order (`keyctl_chown_key`):
//! 1. an id that the caller's user namespace does not map: EINVAL; -1 leaves it alone
//! 2. both -1: 0, whatever the key
//! 3. the key with SETATTR, negative too: the lookup's errors
//! 4. another owner, or a group that is neither the key's nor the caller's, without
//!    CAP_SYS_ADMIN: EACCES
//! 5. another owner, where that is not done yet: EOPNOTSUPP; else its quota: EDQUOT

use keyshim_abi::caller::{Caller, Capability, Gid, Uid};
use keyshim_abi::{Errno, KeyId};

use super::Progress;
use crate::key::{Key, KeyIx, KeyState};
use crate::lookup::{Call, Missing};
use crate::service::KeyService;

const UNCHANGED: u32 = u32::MAX;

pub(super) fn chown(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    uid: u32,
    gid: u32,
) -> Progress {
    let namespace = &call.caller.namespace();
    let map = |id: u32, outward: Option<u32>| match id {
        UNCHANGED => Ok(None),
        _ => outward.map(Some).ok_or(Errno::EINVAL),
    };
    let uid = map(uid, namespace.uids.outward(uid))?.map(Uid);
    let gid = map(gid, namespace.gids.outward(gid))?.map(Gid);
    if uid.is_none() && gid.is_none() {
        return Ok(0);
    }
    let key = service.lookup(call, key, Missing::Create, service.attribute_access())?.key;
    if needs_privilege(service.store.get(key), call.caller, uid, gid)
        && !call.caller.privileges.capable(Capability::SysAdmin)
    {
        return Err(Errno::EACCES.into());
    }
    let is_given = uid.is_some_and(|uid| uid != service.store.get(key).uid);
    if is_given && !service.profile.chown_gives {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if let Some(uid) = uid {
        give(service, key, uid)?;
    }
    if let Some(gid) = gid {
        service.store.get_mut(key).gid = gid;
    }
    Ok(0)
}

fn needs_privilege(key: &Key, caller: &Caller<'_>, uid: Option<Uid>, gid: Option<Gid>) -> bool {
    let foreign =
        |gid: Gid| gid != key.gid && gid != caller.ids.fsgid && !caller.privileges.in_group(gid);
    uid.is_some_and(|uid| uid != key.uid) || gid.is_some_and(foreign)
}

/// Moves the key and its charge to another owner.
fn give(service: &mut KeyService, ix: KeyIx, uid: Uid) -> Result<(), Errno> {
    let key = service.store.get(ix);
    if key.uid == uid {
        return Ok(());
    }
    let in_quota = key.flags.in_quota.then_some(key.quota_len);
    let instantiated = !matches!(key.state, KeyState::Uninstantiated);
    let (from, to) = (key.charged_to, uid);
    if from != to {
        service.users.transfer((from, to), in_quota, instantiated, &service.knobs)?;
    }
    let key = service.store.get_mut(ix);
    key.charged_to = uid;
    key.uid = uid;
    Ok(())
}
