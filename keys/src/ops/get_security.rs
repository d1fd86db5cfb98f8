//! KEYCTL_GET_SECURITY: the security label of a key. There is no security module here,
//! so it is the empty string.
//!
//! Checks: the key with VIEW, negative or under construction too: the lookup's errors
//! (`keyctl_get_security`). EACCES is excused by the authority to instantiate the key;
//! without that, the search for it says why: ENOKEY as a rule. Returns the length with
//! its NUL, 1.

use alloc::vec::Vec;

use keyshim_abi::{KeyId, Need};

use super::Progress;
use crate::lookup::{Call, Missing};
use crate::service::KeyService;

pub(super) fn get_security(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    room: Option<u64>,
    data: &mut Vec<u8>,
) -> Progress {
    service.lookup_or_authority(call, key, Missing::Leave, Need::View, |missing| missing)?;
    if room.is_some_and(|room| room > 0) {
        data.push(0);
    }
    Ok(1)
}
