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
//! assumed. In old kernels WRITE on the key takes the place of all authority, and any
//! keyring is the caller's own.

use keyshim_abi::{Errno, KeyId, Need, Payload};

use super::Progress;
use crate::key::KeyIx;
use crate::lookup::{Access, Call, Missing, Stop};
use crate::profile::ConstructedBy;
use crate::service::KeyService;

pub(super) fn instantiate(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    payload: Payload<'_>,
    keyring: KeyId,
) -> Progress {
    if payload.len() > service.profile.add_payload_len_max {
        return Err(Errno::EINVAL.into());
    }
    let target = target(service, call, key)?;
    let payload = payload.fetched()?;
    let ring = destination(service, call, target, keyring)?;
    // A payload that was not worth carrying is one that its type refuses.
    let payload = payload.ok_or(Errno::EINVAL)?;
    service.instantiate_and_link(call.now, target.key, payload, ring, target.authority_key)?;
    service.assume(call.caller.task, None);
    Ok(0)
}

/// A key that the caller may finish.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) key: KeyIx,
    pub(super) authority_key: Option<KeyIx>,
}

/// The key of that id: by the authority to instantiate it, or where there is no such thing,
/// by WRITE, under construction or not.
pub(super) fn target(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
) -> Result<Target, Stop> {
    match service.profile.construction {
        ConstructedBy::Authority => {
            let authority_key = service.authority_for(call, key)?;
            let key = service.authority(authority_key).ok_or(Errno::EKEYREVOKED)?.target;
            Ok(Target { key, authority_key: Some(authority_key) })
        }
        ConstructedBy::AnyWriter => {
            let access = Access::Partial(Need::Write);
            let key = service.lookup(call, key, Missing::Leave, access)?.key;
            Ok(Target { key, authority_key: None })
        }
    }
}

/// The keyring that a helper names (`get_instantiation_keyring`).
pub(super) fn destination(
    service: &mut KeyService,
    call: &Call<'_>,
    target: Target,
    keyring: KeyId,
) -> Result<Option<KeyIx>, Stop> {
    match (keyring, target.authority_key) {
        (KeyId(0), _) => Ok(None),
        (KeyId(1..), _) | (_, None) => {
            let access = Access::Usable(Need::Write);
            Ok(Some(service.lookup(call, keyring, Missing::Create, access)?.key))
        }
        (KeyId::AUTH, _) => Err(Errno::EINVAL.into()),
        (KeyId(-8..), Some(key)) => {
            Ok(service.authority(key).map(|authority| authority.destination))
        }
        _ => Err(Errno::ENOKEY.into()),
    }
}
