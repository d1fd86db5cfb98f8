//! KEYCTL_SET_TIMEOUT: let a key expire that many seconds from now; 0 clears it.
//!
//! Checks: the key with SETATTR, negative or under construction too: the lookup's errors
//! (`keyctl_set_timeout`). EACCES is excused by the authority to instantiate the key. An expired key is EKEYEXPIRED and cannot be revived.

use keyshim_abi::{Errno, KeyId, Need};

use super::Progress;
use crate::lookup::{Call, Missing};
use crate::service::KeyService;

pub(super) fn set_timeout(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    timeout_s: u32,
) -> Progress {
    let denied = |_| Errno::EACCES;
    let found = service.lookup_or_authority(call, key, Missing::Create, Need::Setattr, denied)?;
    let expiry = (timeout_s > 0).then(|| call.now.plus(timeout_s));
    service.set_expiry(found.key, expiry);
    Ok(0)
}
