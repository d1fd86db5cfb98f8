//! `request_key(2)`: find a key in the caller's keyrings.
//!
//! Checks in order (`keyctl.c`, `request_key.c`):
//! 1. type EFAULT, EINVAL, EPERM; description EFAULT, EINVAL; callout EFAULT, EINVAL
//! 2. destination, writable, made if missing: the lookup's errors
//! 3. unknown type: ENOKEY
//! 4. the search through thread, process and session keyring; an expired key counts as
//!    none. Found, with a destination: LINK on the key EACCES, then the link's errors
//! 5. not found: EPERM for a keyring with callout information, else ENOKEY. Linux would
//!    call a helper to make the key; here none is called yet

use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Fetched, KeyId};

use super::{checked_type_name, serial_of};
use crate::key_type::TypeIx;
use crate::lookup::Call;
use crate::search::{Goal, Miss, Search};
use crate::service::KeyService;

/// What is requested.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) type_name: Fetched<&'a [u8]>,
    pub(super) description: Fetched<&'a [u8]>,
    pub(super) callout: Option<Fetched<&'a [u8]>>,
}

pub(super) fn request_key(
    service: &mut KeyService,
    call: &Call<'_>,
    wanted: Wanted<'_>,
    destination: KeyId,
) -> Answer {
    let type_name = checked_type_name(wanted.type_name)?;
    let description = wanted.description?;
    let callout = wanted.callout.transpose()?;
    let destination = super::search::destination(service, call, destination)?;
    let key_type = service.types.find(type_name).ok_or(Errno::ENOKEY)?;
    let rings = service.searched(call);
    let search = Search {
        store: &service.store,
        now: call.now,
        caller: call.caller,
        index: service.index(key_type, description),
        goal: Goal::UsableOrExpired,
        recurse: true,
    };
    let found = search.among(&rings).map_err(|miss| match miss {
        Miss::Nothing if callout.is_some() && key_type == TypeIx::KEYRING => Errno::EPERM,
        miss => miss.errno(),
    })?;
    super::search::link_found(service, call, found, destination)?;
    service.store.get(found.key).validate(call.now)?;
    Ok(serial_of(service, found.key))
}
