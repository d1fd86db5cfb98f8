//! KEYCTL_ASSUME_AUTHORITY: take the authority to instantiate a key.
//!
//! Checks in order (`keyctl_assume_authority`):
//! 1. a special id: EINVAL
//! 2. 0 drops the authority, which nobody has here: 0
//! 3. the authorisation key, in the caller's keyrings: the search's error, ENOKEY as a
//!    rule. No helper is called yet, so there is never one to find

use alloc::format;

use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId};

use crate::key_type::TypeIx;
use crate::lookup::Call;
use crate::search::{Goal, Search};
use crate::service::KeyService;

pub(super) fn assume_authority(service: &mut KeyService, call: &Call<'_>, key: KeyId) -> Answer {
    match key.0 {
        ..0 => Err(Errno::EINVAL),
        0 => Ok(0),
        _ => Err(find_authority(service, call, key)),
    }
}

/// Why there is no authorisation key for that id (`key_get_instantiation_authkey`).
pub(super) fn find_authority(service: &KeyService, call: &Call<'_>, key: KeyId) -> Errno {
    let description = format!("{:x}", key.0);
    let search = Search {
        store: &service.store,
        now: call.now,
        caller: call.caller,
        index: service.index(TypeIx::REQUEST_KEY_AUTH, description.as_bytes()),
        goal: Goal::Usable,
        recurse: true,
    };
    match search.among(&service.searched(call)) {
        Ok(_) => Errno::ENOKEY,
        Err(miss) => miss.errno(),
    }
}
