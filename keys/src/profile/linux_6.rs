//! Linux 6: the kernels of today, and what keyshim is unless told otherwise.

use keyshim_abi::limits;
use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::{Errno, Perm};

use super::{Grants, NotUpdatable, Profile, Rings, Serials, Tells, Unfinished};

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
    possession: true,
    unreadable: Errno::EACCES,
    add_payload_len_max: limits::ADD_PAYLOAD_LEN_MAX,
    text_len_max: limits::DESCRIPTION_BUFFER_LEN - 1,
    strict_type_names: true,
    reserves_dots: true,
    description_may_be_null: true,
    checks_ahead: true,
    unfinished: Unfinished::WaitsFor,
    negative_refuses: true,
    lowest_special: -8,
    rings: Rings::Indexed,
    not_updatable: NotUpdatable::IsDisplaced,
    search_tells: Tells::Obstacles,
    search_finds_its_top: true,
    nothing_found: Errno::EAGAIN,
    serials: Serials::Random,
    maxkeys: 200,
    maxbytes: 20_000,
    root_maxkeys: 1_000_000,
    root_maxbytes: 25_000_000,
};
