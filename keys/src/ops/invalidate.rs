//! KEYCTL_INVALIDATE: make a key unfindable at once.
//!
//! Checks: the lookup's errors, with SEARCH (`keyctl_invalidate_key`). Root's way
//! round them is for keys of types that are not here. The links go at once; in the
//! kernel a moment later.

use keyshim_abi::{KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn invalidate(service: &mut KeyService, call: &Call<'_>, key: KeyId) -> Progress {
    let found = service.lookup(call, key, Missing::Leave, Access::Usable(Need::Search))?;
    service.invalidate(found.key);
    Ok(0)
}
