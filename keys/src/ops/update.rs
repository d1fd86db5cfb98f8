//! KEYCTL_UPDATE: replace a key's payload.
//!
//! Checks in order (`keyctl_update_key`, `key_update`):
//! 1. payload above one page: EINVAL; at a bad address: EFAULT
//! 2. the key, writable: the lookup's errors
//! 3. the type has no update: EOPNOTSUPP
//! 4. its preparse, its update, EDQUOT
//!
//! The expiry is cleared, or becomes what the payload says; a negative key becomes
//! positive.

use alloc::sync::Arc;

use keyshim_abi::limits::UPDATE_PAYLOAD_LEN_MAX;
use keyshim_abi::{Errno, KeyId, Need, Payload};

use super::{Progress, fetched};
use crate::key::{KeyIx, KeyState};
use crate::key_type::{KeyType, Preparsed};
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn update(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    payload: Payload<'_>,
) -> Progress {
    if payload.len() > UPDATE_PAYLOAD_LEN_MAX {
        return Err(Errno::EINVAL.into());
    }
    let payload = fetched(service, payload)?;
    let key = service.lookup(call, key, Missing::Leave, Access::Usable(Need::Write))?.key;
    let key_type = Arc::clone(service.types.get(service.store.get(key).key_type));
    if key_type.updater().is_none() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let prep = service.preparse(call.now, &*key_type, payload.ok_or(Errno::EINVAL)?)?;
    replace_payload(service, key, &*key_type, prep)?;
    Ok(0)
}

/// What a type's update comes to, for UPDATE and add_key alike.
pub(super) fn replace_payload(
    service: &mut KeyService,
    ix: KeyIx,
    key_type: &dyn KeyType,
    prep: Preparsed,
) -> Result<(), Errno> {
    let updater = key_type.updater().ok_or(Errno::EOPNOTSUPP)?;
    let charged_len = service.store.get(ix).data_len;
    service.reserve(ix, updater.reserve_len(&prep))?;
    match updater.update(&service.store.get(ix).payload, prep.payload) {
        Ok(payload) => service.store.get_mut(ix).payload = payload,
        Err(errno) => {
            let _ = service.reserve(ix, charged_len);
            return Err(errno);
        }
    }
    service.reserve(ix, prep.quota_len)?;
    if updater.takes_expiry() {
        service.set_expiry(ix, prep.expiry);
    }
    let key = service.store.get_mut(ix);
    key.state = KeyState::Positive;
    Ok(())
}
