//! KEYCTL_LINK: link a key into a keyring.
//!
//! Checks in order (`keyctl_keyring_link`):
//! 1. the keyring, writable, made if missing: the lookup's errors
//! 2. the key, linkable, made if it is a special keyring: the lookup's errors
//! 3. ENOTDIR, EKEYREVOKED, EDQUOT, the restriction, EDEADLK, ELOOP

use keyshim_abi::{KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn link(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    keyring: KeyId,
) -> Progress {
    let ring = service.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?;
    service.hold(ring.key);
    let linked = service
        .lookup(call, key, Missing::Create, Access::Usable(Need::Link))
        .and_then(|key| Ok(service.link(ring.key, key.key)?));
    service.put(ring.key);
    linked.map(|()| 0)
}
