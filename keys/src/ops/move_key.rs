//! KEYCTL_MOVE: move a link from one keyring to another.
//!
//! Checks in order (`keyctl_keyring_move`, `key_move`):
//! 1. flags other than EXCL: EINVAL
//! 2. the key, linkable, made if it is a special keyring: the lookup's errors
//! 3. the keyring it leaves, writable: the lookup's errors
//! 4. the keyring it goes to, writable, made if missing: the lookup's errors
//! 5. both the same: 0
//! 6. ENOTDIR, ENOENT, EKEYREVOKED, EDQUOT, EEXIST with EXCL, the restriction, EDEADLK,
//!    ELOOP

use keyshim_abi::uapi::MOVE_EXCL;
use keyshim_abi::{Errno, KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn move_key(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    (from, to): (KeyId, KeyId),
    flags: u32,
) -> Progress {
    if flags & !MOVE_EXCL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let write = Access::Usable(Need::Write);
    let key = service.lookup(call, key, Missing::Create, Access::Usable(Need::Link))?.key;
    service.hold(key);
    let moved = service.lookup(call, from, Missing::Leave, write).and_then(|from| {
        service.hold(from.key);
        let moved = service
            .lookup(call, to, Missing::Create, write)
            .and_then(|to| Ok(service.move_link(key, from.key, to.key, flags & MOVE_EXCL != 0)?));
        service.put(from.key);
        moved
    });
    service.put(key);
    moved.map(|()| 0)
}
