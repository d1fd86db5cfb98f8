//! KEYCTL_INSTANTIATE and KEYCTL_INSTANTIATE_IOV: give a key under construction its
//! payload.
//!
//! Checks in order (`keyctl_instantiate_key_common`):
//! 1. payload above 1 MiB - 1: EINVAL
//! 2. no authority assumed EPERM, ended EKEYREVOKED, for another key EPERM
//! 3. payload at a bad address: EFAULT
//! 4. the keyring: 0 is none; a serial's lookup errors, writable; -7 EINVAL; any other
//!    special keyring is the requester's destination; below -8 ENOKEY
//! 5. the type's preparse; ENOTDIR, EKEYREVOKED, EDQUOT, the restriction
//! 6. the key is finished already: EBUSY; EDQUOT
//!
//! Success ends the authority: the authorisation key is invalidated and no longer
//! assumed.

use keyshim_abi::limits::ADD_PAYLOAD_LEN_MAX;
use keyshim_abi::{Errno, KeyId, Need, Payload};

use super::Progress;
use crate::key::KeyIx;
use crate::lookup::{Access, Call, Missing, Stop};
use crate::service::KeyService;

pub(super) fn instantiate(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    payload: Payload<'_>,
    keyring: KeyId,
) -> Progress {
    if payload.len() > ADD_PAYLOAD_LEN_MAX {
        return Err(Errno::EINVAL.into());
    }
    let authority_key = service.authority_for(call, key)?;
    let payload = payload.fetched()?;
    let ring = destination(service, call, authority_key, keyring)?;
    let target = service.authority(authority_key).ok_or(Errno::EKEYREVOKED)?.target;
    // A payload that was not worth carrying is one that its type refuses.
    let payload = payload.ok_or(Errno::EINVAL)?;
    service.instantiate_and_link(call.now, target, payload, ring, Some(authority_key))?;
    service.assume(call.caller.task, None);
    Ok(0)
}

/// The keyring that a helper names (`get_instantiation_keyring`).
pub(super) fn destination(
    service: &mut KeyService,
    call: &Call<'_>,
    authority_key: KeyIx,
    keyring: KeyId,
) -> Result<Option<KeyIx>, Stop> {
    match keyring {
        KeyId(0) => Ok(None),
        KeyId(1..) => {
            let access = Access::Usable(Need::Write);
            Ok(Some(service.lookup(call, keyring, Missing::Create, access)?.key))
        }
        KeyId::AUTH => Err(Errno::EINVAL.into()),
        KeyId(-8..) => Ok(service.authority(authority_key).map(|authority| authority.destination)),
        _ => Err(Errno::ENOKEY.into()),
    }
}
