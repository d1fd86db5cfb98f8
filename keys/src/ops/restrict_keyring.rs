//! KEYCTL_RESTRICT_KEYRING: say what may be linked into a keyring.
//!
//! Checks in order (`keyctl_restrict_keyring`, `keyring_restrict`):
//! 1. the keyring with SETATTR: the lookup's errors
//! 2. a type without a restriction, or the reverse: EINVAL
//! 3. type EFAULT, EINVAL, EPERM; restriction EFAULT, EINVAL
//! 4. ENOTDIR
//! 5. unknown type ENOKEY; a type without restrictions ENOENT; its parsing
//! 6. restricted already: EEXIST
//!
//! Without a type every link is refused from then on.

use keyshim_abi::{Errno, Fetched, KeyId, Need};

use super::{Progress, checked_type_name};
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn restrict_keyring(
    service: &mut KeyService,
    call: &Call<'_>,
    keyring: KeyId,
    type_name: Option<Fetched<&[u8]>>,
    restriction: Option<Fetched<&[u8]>>,
) -> Progress {
    let ring = service.lookup(call, keyring, Missing::Leave, Access::Usable(Need::Setattr))?;
    let by = match (type_name, restriction) {
        (None, None) => None,
        (Some(type_name), Some(restriction)) => {
            Some((checked_type_name(service, type_name)?, restriction?))
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    service.restrict(ring.key, by)?;
    Ok(0)
}
