//! KEYCTL_GET_KEYRING_ID: the serial of a special keyring, made if `create` says so.
//!
//! Checks: the lookup's errors, with SEARCH. A serial is tested likewise and returned.

use keyshim_abi::{KeyId, Need};

use super::{Progress, serial_of};
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn get_keyring_id(
    service: &mut KeyService,
    call: &Call<'_>,
    id: KeyId,
    create: bool,
) -> Progress {
    let missing = if create { Missing::Create } else { Missing::Leave };
    let found = service.lookup(call, id, missing, Access::Usable(Need::Search))?;
    Ok(serial_of(service, found.key))
}
