//! KEYCTL_GET_SECURITY: the security label of a key. There is no security module here,
//! so it is the empty string.
//!
//! Checks: the key with VIEW, negative too: the lookup's errors
//! (`keyctl_get_security`). EACCES would be excused by the authority to instantiate the
//! key; looking for that authority, which nobody has here, ends in its own error,
//! ENOKEY as a rule. Returns the length with its NUL, 1.

use alloc::vec::Vec;

use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Need};

use super::assume_authority::find_authority;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn get_security(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    room: Option<u64>,
    data: &mut Vec<u8>,
) -> Answer {
    match service.lookup(call, key, Missing::Leave, Access::Partial(Need::View)) {
        Err(Errno::EACCES) => return Err(find_authority(service, call, key)),
        found => found?,
    };
    if room.is_some_and(|room| room > 0) {
        data.push(0);
    }
    Ok(1)
}
