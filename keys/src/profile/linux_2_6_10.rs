//! Linux 2.6.10, of December 2004: the first kernel with keys.
//!
//! Where its document and its code say different things, [`PROFILE`] does what the document
//! says if the code was merely wrong, and what the code did if the document was; [`QUIRKS`]
//! has the bugs as well.

use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::{Errno, Perm};

use super::{Grants, NotUpdatable, Profile, Rings, Serials, Tells, Unfinished};

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
    possession: false,
    unreadable: Errno::ENOKEY,
    add_payload_len_max: 32_767,
    text_len_max: 4094,
    strict_type_names: false,
    reserves_dots: false,
    description_may_be_null: false,
    checks_ahead: false,
    unfinished: Unfinished::Eio,
    negative_refuses: false,
    lowest_special: -6,
    rings: Rings::Listed { places_max: 510 },
    not_updatable: NotUpdatable::Exists,
    search_tells: Tells::NegativeKeys,
    search_finds_its_top: false,
    nothing_found: Errno::ENOKEY,
    serials: Serials::Sequential,
    maxkeys: 100,
    maxbytes: 10_000,
    root_maxkeys: 100,
    root_maxbytes: 10_000,
};

pub(super) const QUIRKS: Profile = Profile {
    // The size of a key was taken for that of a pointer to one.
    rings: Rings::Listed { places_max: 24 },
    nothing_found: Errno::EAGAIN,
    ..PROFILE
};
