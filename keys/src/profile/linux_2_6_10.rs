//! Linux 2.6.10, of December 2004: the first kernel with keys.
//!
//! Where its document and its code say different things, [`PROFILE`] does what the document
//! says if the code was merely wrong, and what the code did if the document was; [`QUIRKS`]
//! has the bugs as well.

use keyshim_abi::Perm;
use keyshim_abi::uapi::keyctl as op;

use super::{Grants, Profile, Serials};

/// Every right for the owner: the mask of all that the kernel makes itself.
const OWNER_ALL: Perm = Perm(0x001f_0000);

pub(super) const PROFILE: Profile = Profile {
    name: "linux-2.6.10",
    last_operation: op::NEGATE,
    legal_perm: Perm(0x001f_1f1f),
    has_setattr: false,
    new_key_grants: Grants::Owner,
    requested_perm: Some(OWNER_ALL),
    user_keyring_perm: OWNER_ALL,
    task_keyring_perm: OWNER_ALL,
    session_perm: OWNER_ALL,
    named_session_perm: OWNER_ALL,
    serials: Serials::Sequential,
    maxkeys: 100,
    maxbytes: 10_000,
    root_maxkeys: 100,
    root_maxbytes: 10_000,
};

pub(super) const QUIRKS: Profile = PROFILE;
