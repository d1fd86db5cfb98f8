//! KEYCTL_REVOKE: make a key unusable for good.
//!
//! Checks: the lookup's errors, with WRITE; if that is EACCES, again with SETATTR
//! (`keyctl_revoke_key`). A keyring is cleared, a `user` or `logon` payload wiped; in old
//! kernels neither.

use keyshim_abi::{Errno, KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing, Stop};
use crate::service::KeyService;

pub(super) fn revoke(service: &mut KeyService, call: &Call<'_>, key: KeyId) -> Progress {
    match find_and_revoke(service, call, key) {
        Err(Stop::Refused(_)) if service.profile.revoke_hides_errors => Ok(0),
        done => done,
    }
}

fn find_and_revoke(service: &mut KeyService, call: &Call<'_>, key: KeyId) -> Progress {
    let mut lookup = |need| service.lookup(call, key, Missing::Leave, Access::Usable(need));
    let key = match lookup(Need::Write) {
        Err(Stop::Refused(Errno::EACCES)) => lookup(Need::Setattr)?,
        found => found?,
    };
    service.revoke(key.key, call.now);
    Ok(0)
}
