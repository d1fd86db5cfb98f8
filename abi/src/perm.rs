//! The permission mask: four classes of six rights each.

use core::fmt;

/// What an operation needs of a key (`enum key_need_perm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Need {
    /// See its attributes.
    View = 0x01,
    /// Read its payload, or list a keyring.
    Read = 0x02,
    /// Change its payload, or a keyring's links.
    Write = 0x04,
    /// Find it, and look into a keyring.
    Search = 0x08,
    /// Link to it.
    Link = 0x10,
    /// Change owner, group, mask, expiry.
    Setattr = 0x20,
}

/// A mask: possessor, user, group and other, from the top byte down.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Perm(pub u32);

impl Perm {
    /// Every right of every class: bits outside are EINVAL to SETPERM.
    pub const LEGAL: Perm = Perm(0x3f3f_3f3f);
    /// Every right of the possessor.
    pub const POSSESSOR_ALL: Perm = Perm(0x3f00_0000);
    /// Every right of the group.
    pub const GROUP_ALL: Perm = Perm(0x0000_3f00);

    /// That right for the possessor.
    #[must_use]
    pub const fn possessor(need: Need) -> Perm {
        Perm((need as u32) << 24)
    }

    /// That right for the owner.
    #[must_use]
    pub const fn user(need: Need) -> Perm {
        Perm((need as u32) << 16)
    }

    /// Both masks together.
    #[must_use]
    pub const fn with(self, other: Perm) -> Perm {
        Perm(self.0 | other.0)
    }

    /// This mask without the bits of the other.
    #[must_use]
    pub const fn without(self, other: Perm) -> Perm {
        Perm(self.0 & !other.0)
    }

    /// True when both masks have a bit in common.
    #[must_use]
    pub const fn meets(self, other: Perm) -> bool {
        self.0 & other.0 != 0
    }

    /// True when every bit is one of that mask.
    #[must_use]
    pub const fn is_within(self, mask: Perm) -> bool {
        self.0 & !mask.0 == 0
    }

    /// The possessor's byte.
    #[must_use]
    pub const fn possessor_byte(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The owner's byte.
    #[must_use]
    pub const fn user_byte(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The group's byte.
    #[must_use]
    pub const fn group_byte(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Everyone else's byte.
    #[must_use]
    pub const fn other_byte(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Debug for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
