//! KEYCTL_UNLINK: remove a link.
//!
//! Checks in order (`keyctl_keyring_unlink`):
//! 1. the keyring, writable: the lookup's errors
//! 2. the key, in any state, whatever it grants: EINVAL, ENOKEY
//! 3. ENOTDIR, ENOENT
//!
//! The link goes that has the key's type and description, even if it leads to another
//! key.

use keyshim_abi::{KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn unlink(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    keyring: KeyId,
) -> Progress {
    let ring = service.lookup(call, keyring, Missing::Leave, Access::Usable(Need::Write))?;
    let key = service.lookup(call, key, Missing::Leave, Access::Named)?;
    service.unlink(ring.key, key.key)?;
    Ok(0)
}
