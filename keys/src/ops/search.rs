//! KEYCTL_SEARCH: find a key below one keyring.
//!
//! Checks in order (`keyctl_keyring_search`):
//! 1. type EFAULT, EINVAL, EPERM; description EFAULT, EINVAL
//! 2. the keyring, searchable: the lookup's errors
//! 3. destination, writable, made if missing: the lookup's errors
//! 4. unknown type: ENOKEY; what the type says about the description
//! 5. the search: ENOTDIR, EACCES, EKEYREVOKED, EKEYEXPIRED, a stored error, ENOKEY
//! 6. with a destination: LINK on the key EACCES, then the link's errors

use alloc::sync::Arc;

use keyshim_abi::{Errno, Fetched, KeyId, Need};

use super::{Progress, checked_text, checked_type_name, serial_of};
use crate::key::{KeyIx, KeyRef};
use crate::lookup::{Access, Call, Missing, Stop};
use crate::permission;
use crate::search::{Goal, Miss, Search};
use crate::service::KeyService;

pub(super) fn search(
    service: &mut KeyService,
    call: &Call<'_>,
    keyring: KeyId,
    (type_name, description): (Fetched<&[u8]>, Fetched<&[u8]>),
    destination_id: KeyId,
) -> Progress {
    let type_name = checked_type_name(service, type_name)?;
    let description = checked_text(service, description)?;
    let ring = service.lookup(call, keyring, Missing::Leave, Access::Usable(Need::Search))?;
    let destination = destination(service, call, destination_id)?;
    let key_type = service.types.find(type_name).ok_or(Errno::ENOKEY)?;
    let matcher = Arc::clone(service.types.get(key_type)).match_preparse(description)?;
    let search = Search {
        profile: &service.profile,
        store: &service.store,
        now: call.now,
        caller: call.caller,
        index: service.index(key_type, description),
        goal: Goal::Usable,
        recurse: true,
        matcher: matcher.as_deref(),
    };
    let found = search.below(ring).map_err(Miss::errno)?;
    link_found(service, call, found, destination)?;
    Ok(serial_of(service, found.key))
}

/// The keyring that is to get what is found; 0 names none.
pub(super) fn destination(
    service: &mut KeyService,
    call: &Call<'_>,
    id: KeyId,
) -> Result<Option<KeyIx>, Stop> {
    if id.is_none() {
        return Ok(None);
    }
    service
        .lookup(call, id, Missing::Create, Access::Usable(Need::Write))
        .map(|ring| Some(ring.key))
}

/// Links what was found to its destination, if there is one.
pub(super) fn link_found(
    service: &mut KeyService,
    call: &Call<'_>,
    found: KeyRef,
    destination: Option<KeyIx>,
) -> Result<(), Errno> {
    let Some(destination) = destination else { return Ok(()) };
    permission::check(service.store.get(found.key), found.possessed, call.caller, Need::Link)?;
    service.link(destination, found.key)
}
