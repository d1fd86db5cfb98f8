//! KEYCTL_ASSUME_AUTHORITY: take the authority to instantiate a key.
//!
//! Checks in order (`keyctl_assume_authority`):
//! 1. a special id: EINVAL
//! 2. 0 drops the authority: 0
//! 3. the authorisation key, in the caller's own keyrings: the search's error, ENOKEY as
//!    a rule
//!
//! Returns the authorisation key's serial.

use keyshim_abi::{Errno, KeyId};

use super::{Progress, serial_of};
use crate::lookup::Call;
use crate::service::KeyService;

pub(super) fn assume_authority(service: &mut KeyService, call: &Call<'_>, key: KeyId) -> Progress {
    let authority_key = match key.0 {
        ..0 => return Err(Errno::EINVAL.into()),
        0 => None,
        _ => Some(service.find_authority(call, key)?),
    };
    service.task(call);
    service.assume(call.caller.task, authority_key);
    Ok(authority_key.map_or(0, |key| serial_of(service, key)))
}
