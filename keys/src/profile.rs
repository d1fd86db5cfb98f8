//! Which kernel a domain behaves like: everything in which kernels differ, by name.
//!
//! There is one service. Where kernels part, it asks `service.profile.NAME` at that very
//! place; no operation exists twice, and nothing asks which profile it is. A profile is plain
//! data, one constant in a file of its own, so a further one is a further file
//! (docs/PROFILES.md, which lists every point as well). `S58` and the like are rows of the
//! seed document, the kernel's text of 2004 on which this project stands (docs/SEED.md).

mod choices;
mod linux_2_6_10;
mod linux_6;

pub use choices::*;
use keyshim_abi::{Errno, Perm};

/// One kernel's ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// What `--profile` calls it.
    pub name: &'static str,
    /// The highest operation of `keyctl(2)`; any above is EOPNOTSUPP. S54, S169.
    pub last_operation: u32,
    /// The bits that SETPERM takes; any other is EINVAL. S58, S133.
    pub legal_perm: Perm,
    /// Whether SETPERM and CHOWN want SETATTR on the key, which must be valid then. Else
    /// they ask only who calls, and take a key in any state. S64, S132.
    pub has_setattr: bool,
    /// To whom a new key grants what its type can do. S66, S103.
    pub new_key_grants: Grants,
    /// The mask of a key that is requested and made; that of any new key, if none. S66.
    pub requested_perm: Option<Perm>,
    /// The mask of a user's two keyrings. S43.
    pub user_keyring_perm: Perm,
    /// The mask of thread and process keyrings. S34, S35.
    pub task_keyring_perm: Perm,
    /// The mask of a session keyring without a name. S40.
    pub session_perm: Perm,
    /// The mask of a session keyring with a name. S123.
    pub named_session_perm: Perm,
    /// Whether who reaches a key from its own keyrings possesses it, and may what its mask
    /// grants a possessor. S58, S60, S65.
    pub possession: bool,
    /// What READ says without the right to read. S157.
    pub unreadable: Errno,
    /// Bytes of the largest payload for a new key; more are EINVAL. S110, S165.
    pub add_payload_len_max: u64,
    /// Whether a payload at NULL is no payload, which is for the type to judge; else it is
    /// EFAULT unless it is empty. S105, S126.
    pub null_payload_is_none: bool,
    /// Bytes of the longest description, name or callout information; more are EINVAL. S110.
    pub text_len_max: usize,
    /// Whether an empty type name, or one of more than 31 bytes, is EINVAL. Else it is just
    /// unknown. S110.
    pub strict_type_names: bool,
    /// Whether types and keyrings with a leading dot are not for callers, EPERM. S106, S108.
    pub reserves_dots: bool,
    /// Whether add_key may be given no description, for the type to invent one; else EFAULT.
    /// S32.
    pub description_may_be_null: bool,
    /// Whether add_key looks at payload and link before anything is made or updated; else
    /// in its course, each when its turn comes. S102, S104.
    pub checks_ahead: bool,
    /// What becomes of a lookup of a key under construction. S20, S172.
    pub unfinished: Unfinished,
    /// Whether a lookup of a negative key is refused with its stored error. S22, S23.
    pub negative_refuses: bool,
    /// The lowest id of a special keyring; any below is EINVAL. S99, S170.
    pub lowest_special: i32,
    /// What keyrings are made of. S2, S84, S144, S147, S148, S151.
    pub rings: Rings,
    /// What add_key does where an equal key is that cannot be updated. S101.
    pub not_updatable: NotUpdatable,
    /// What a search that finds nothing tells of what it met. S116, S155.
    pub search_tells: Tells,
    /// Whether the keyring where a search begins may itself be what is found. S151.
    pub search_finds_its_top: bool,
    /// What a service is told that finds nothing in a keyring. S188.
    pub nothing_found: Errno,
    /// How the kernel names thread, process and session keyrings. S34, S37, S40.
    pub ring_names: RingNames,
    /// Whether an execve brings a new process keyring at once, and a fork one to the child
    /// of who has one; else they are made when they are needed. S35, S37.
    pub process_keyring_at_once: bool,
    /// Whether a thread whose maker has a thread keyring begins with one. S33.
    pub thread_keyring_begets: bool,
    /// Whether the keyrings of before an execve live on for as long as its program runs,
    /// whose file was opened with them. S33, S37.
    pub programs_keep_keyrings: bool,
    /// Which keyrings belong to whom their thread acts for. S42.
    pub follow_ids: FollowIds,
    /// What access to a missing session keyring brings. S46.
    pub missing_session: MissingSession,
    /// Whether thread, process and unnamed session keyrings count against quota, which they
    /// may overrun. S40, S51.
    pub task_keyrings_count: bool,
    /// When a user's two keyrings are made, and for how long they are there. S43.
    pub user_keyrings: UserKeyringsLive,
    /// Whether JOIN_SESSION_KEYRING gives 0 to who has that session already. S122.
    pub rejoining_gives_0: bool,
    /// What DESCRIBE and READ copy into a buffer that is too small. S134, S160.
    pub short_buffer: ShortBuffer,
    /// Bytes, without the NUL, of the longest text that DESCRIBE gives whole; of a longer one
    /// it gives a page with two NULs at its end. S134.
    pub describe_len_max: usize,
    /// Hexadecimal digits of a mask. S70, S136.
    pub perm_digits: usize,
    /// Whether a group that is none is shown as -1, and not as the overflow group. S82.
    pub no_group_is_minus_1: bool,
    /// Whether `/proc/keys` lists all keys, and not only what its reader may view. S59, S68.
    pub proc_lists_all: bool,
    /// How many of the flags `IRDQUNi` there are. S70, S79.
    pub proc_flags: usize,
    /// Whether `/proc/keys` sums up a key also before it has a payload. S85.
    pub proc_sums_up_all: bool,
    /// Keys that root's line in `/proc/key-users` counts beyond those that there are. S90.
    pub root_keys_extra: u32,
    /// Uses that it counts beyond these. S89.
    pub root_uses_extra: u32,
    /// The key types that there are without anybody registering them. S29.
    pub types: TypesKnown,
    /// What becomes of keys whose type has gone. S12, S27, S75.
    pub dead_keys: DeadKeys,
    /// Whether a revoked key loses its links or payload, and its quota with them; it expires
    /// then as well. Else it is only marked. S26.
    pub revoking_empties: bool,
    /// Whether links to expired and revoked keys are collected. S24.
    pub collects: bool,
    /// Quota bytes that a keyring costs beyond its description and links. S49, S93.
    pub keyring_len: u32,
    /// When there is no room for a new key. S52.
    pub quota_test: QuotaTest,
    /// Whether CHOWN can give a key to another user; else EOPNOTSUPP. S53, S131.
    pub chown_gives: bool,
    /// Whether REVOKE returns 0 even where it fails. S127.
    pub revoke_hides_errors: bool,
    /// Who makes a key that is requested and not found, and how. S162, S163, S167, S204,
    /// S205, S209, S211, S215.
    pub construction: ConstructedBy,
    /// Whether a key that a request finds must grant LINK to be linked. S112.
    pub request_wants_link: bool,
    /// Whether somebody is called for keyrings, too; else EPERM. S117a.
    pub keyrings_are_requested: bool,
    /// Whether a signal ends the wait for somebody else's request. S216.
    pub waits_are_interruptible: bool,
    /// How new keys are numbered. S7.
    pub serials: Serials,
    /// Keys that a user may have, unless a knob says otherwise. S47, S91.
    pub maxkeys: u32,
    /// Bytes that these keys may take. S47, S92.
    pub maxbytes: u32,
    /// Keys that root may have. S47.
    pub root_maxkeys: u32,
    /// Bytes that root's keys may take. S47.
    pub root_maxbytes: u32,
}

impl Profile {
    /// Linux 6, as it is today.
    pub const LINUX_6: Profile = linux_6::PROFILE;
    /// Linux 2.6.10, as its document says.
    pub const LINUX_2_6_10: Profile = linux_2_6_10::PROFILE;
    /// Linux 2.6.10 with the bugs of its code.
    pub const LINUX_2_6_10_QUIRKS: Profile = linux_2_6_10::QUIRKS;

    /// Every profile, without and with the bugs of its time.
    pub const ALL: [[Profile; 2]; 2] = [
        [Profile::LINUX_6, Profile::LINUX_6],
        [Profile::LINUX_2_6_10, Profile::LINUX_2_6_10_QUIRKS],
    ];

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str, quirks: bool) -> Option<Profile> {
        let found = Profile::ALL.into_iter().find(|[profile, _]| profile.name == name);
        found.map(|[plain, quirky]| if quirks { quirky } else { plain })
    }
}

impl Default for Profile {
    /// Linux 6: what programs of today expect.
    fn default() -> Profile {
        Profile::LINUX_6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_name() {
        assert_eq!(Profile::named("linux-6", true), Some(Profile::LINUX_6));
        assert_eq!(Profile::named("linux-2.6.10", false), Some(Profile::LINUX_2_6_10));
        assert_eq!(Profile::named("linux-2.6.10", true), Some(Profile::LINUX_2_6_10_QUIRKS));
        assert_eq!(Profile::named("linux-5", false), None);
        assert_eq!(Profile::default(), Profile::LINUX_6);
    }
}
