//! Linux 6: the kernels of today, and what keyshim is unless told otherwise.

use keyshim_abi::Perm;
use keyshim_abi::uapi::keyctl as op;

use super::{Grants, Profile, Serials};

pub(super) const PROFILE: Profile = Profile {
    name: "linux-6",
    last_operation: op::WATCH_KEY,
    legal_perm: Perm::LEGAL,
    has_setattr: true,
    new_key_grants: Grants::Possessor,
    requested_perm: None,
    user_keyring_perm: Perm(0x1f3f_0000),
    task_keyring_perm: Perm(0x3f01_0000),
    session_perm: Perm(0x3f03_0000),
    named_session_perm: Perm(0x3f13_0000),
    serials: Serials::Random,
    maxkeys: 200,
    maxbytes: 20_000,
    root_maxkeys: 1_000_000,
    root_maxbytes: 25_000_000,
};
