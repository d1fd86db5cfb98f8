//! KEYCTL_CLEAR: drop every link of a keyring.
//!
//! Checks: the keyring, writable, made if missing: the lookup's errors; then ENOTDIR
//! (`keyctl_keyring_clear`). Root's way round them is for keyrings that are not here.

use keyshim_abi::{Errno, KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn clear(service: &mut KeyService, call: &Call<'_>, keyring: KeyId) -> Progress {
    let ring = service.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?;
    if !service.is_keyring(ring.key) {
        return Err(Errno::ENOTDIR.into());
    }
    service.clear(ring.key);
    Ok(0)
}
