//! Linux 2.6.10, of December 2004: the first kernel with keys.
//!
//! Where its document and its code say different things, [`PROFILE`] does what the document
//! says if the code was merely wrong, and what the code did if the document was; [`QUIRKS`]
//! has the bugs as well.

use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::{Errno, Perm};

use super::Profile;
use super::choices::*;

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
    null_payload_is_none: true,
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
    ring_names: RingNames::Numbered,
    process_keyring_at_once: true,
    thread_keyring_begets: false,
    programs_keep_keyrings: false,
    follow_ids: FollowIds::ThreadAndProcess,
    missing_session: MissingSession::UserSession,
    task_keyrings_count: false,
    user_keyrings: UserKeyringsLive::WithTheUser,
    rejoining_gives_0: false,
    short_buffer: ShortBuffer::Part,
    describe_len_max: usize::MAX,
    perm_digits: 6,
    no_group_is_minus_1: true,
    proc_lists_all: true,
    proc_flags: 6,
    proc_sums_up_all: true,
    root_keys_extra: 0,
    root_uses_extra: 1,
    types: TypesKnown::UserAndKeyring,
    dead_keys: DeadKeys::AreHidden,
    revoking_empties: false,
    collects: false,
    keyring_len: 8,
    quota_test: QuotaTest::Either,
    chown_gives: false,
    revoke_hides_errors: false,
    construction: ConstructedBy::AnyWriter,
    request_wants_link: false,
    keyrings_are_requested: true,
    waits_are_interruptible: false,
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
    // The wrong one of two results was returned.
    revoke_hides_errors: true,
    // A page was thought to be enough.
    describe_len_max: 4095,
    // The two tests were joined by an and.
    quota_test: QuotaTest::BothReached,
    ..PROFILE
};
