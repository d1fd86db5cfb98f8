//! KEYCTL_REJECT and KEYCTL_NEGATE: make a key under construction negative, with an
//! error of the helper's choice or ENOKEY, for some seconds.
//!
//! Checks in order (`keyctl_reject_key`):
//! 1. an error of 0, above 4094, or one of the kernel's restart codes: EINVAL
//! 2. no authority assumed EPERM, ended EKEYREVOKED, for another key EPERM
//! 3. the keyring, as for INSTANTIATE
//! 4. the keyring is restricted: EPERM, and the key stays as it is
//! 5. the key is finished already: EBUSY
//! 6. the link: ENOTDIR, EKEYREVOKED, EDQUOT, though the key is finished then
//!
//! Success ends the authority; after an error of the link it is ended but still assumed.

use keyshim_abi::{Errno, KeyId};

use super::{Progress, instantiate};
use crate::lookup::Call;
use crate::service::KeyService;

/// ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK.
const RESTART_CODES: [u32; 4] = [512, 513, 514, 516];

pub(super) fn reject(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    (timeout_s, error): (u32, u32),
    keyring: KeyId,
) -> Progress {
    let legal = i32::try_from(error).ok().and_then(Errno::new);
    let error = legal.filter(|_| !RESTART_CODES.contains(&error)).ok_or(Errno::EINVAL)?;
    let target = instantiate::target(service, call, key)?;
    let ring = instantiate::destination(service, call, target, keyring)?;
    let refusal = (timeout_s, error);
    service.reject_and_link(call.now, target.key, refusal, ring, target.authority_key)?;
    service.assume(call.caller.task, None);
    Ok(0)
}
