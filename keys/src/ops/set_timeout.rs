//! KEYCTL_SET_TIMEOUT: let a key expire that many seconds from now; 0 clears it.
//!
//! Checks: the key with SETATTR, negative too: the lookup's errors
//! (`keyctl_set_timeout`). EACCES would be excused by the authority to instantiate the
//! key, which nobody has here. An expired key is EKEYEXPIRED and cannot be revived.

use keyshim_abi::reply::Answer;
use keyshim_abi::{KeyId, Need};

use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn set_timeout(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    timeout_s: u32,
) -> Answer {
    let found = service.lookup(call, key, Missing::Create, Access::Partial(Need::Setattr))?;
    let expiry = (timeout_s > 0).then(|| call.now.plus(timeout_s));
    service.set_expiry(found.key, expiry);
    Ok(0)
}
