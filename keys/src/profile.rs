//! Which kernel a domain behaves like: everything in which kernels differ, by name.
//!
//! There is one service. Where kernels part, it asks `service.profile.NAME` at that very
//! place; no operation exists twice, and nothing asks which profile it is. A profile is plain
//! data, one constant in a file of its own, so a further one is a further file
//! (docs/PROFILES.md, which lists every point as well). `S58` and the like are rows of the
//! seed document, the kernel's text of 2004 on which this project stands (docs/SEED.md).

mod linux_2_6_10;
mod linux_6;

use keyshim_abi::Perm;

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

/// To whom a new key grants what its type can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grants {
    /// To its possessor, with SETATTR; its owner may look at it.
    Possessor,
    /// To its owner.
    Owner,
}

/// How new keys are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serials {
    /// At random, from 3 up.
    Random,
    /// One after the other from 3; after the last, from 3 again, where there is room.
    Sequential,
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
