//! One key.

use core::num::NonZeroU32;

use keyshim_abi::caller::{Gid, Uid};
use keyshim_abi::{Errno, Perm, Serial};
use smallvec::SmallVec;

use crate::Now;
use crate::key_type::TypeIx;
use crate::keyring::Restriction;
use crate::links::IndexHash;
use crate::payload::Payload;

/// Where a key lies in the store. Valid while somebody counts a use of the key;
/// never leaves the crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyIx(NonZeroU32);

impl KeyIx {
    /// The key at that place, of which there are fewer than 2^32.
    pub(crate) const fn at(place: u32) -> KeyIx {
        KeyIx(NonZeroU32::MIN.saturating_add(place))
    }

    pub(crate) const fn place(self) -> u32 {
        self.0.get() - 1
    }
}

/// A key, and whether the caller possesses it (`key_ref_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRef {
    pub(crate) key: KeyIx,
    pub(crate) possessed: bool,
}

impl KeyRef {
    pub(crate) fn possessed(key: KeyIx) -> KeyRef {
        KeyRef { key, possessed: true }
    }

    pub(crate) fn unpossessed(key: KeyIx) -> KeyRef {
        KeyRef { key, possessed: false }
    }
}

/// How far a key has come; there is no fourth way.
#[derive(Debug)]
pub(crate) enum KeyState {
    Uninstantiated,
    Positive,
    /// Negatively instantiated: whoever asks for it gets this error.
    Rejected(Errno),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) revoked: bool,
    /// Its type has been unregistered.
    pub(crate) dead: bool,
    pub(crate) in_quota: bool,
    pub(crate) under_construction: bool,
    pub(crate) invalidated: bool,
    /// A user's or user-session keyring, which a session must not take for its own.
    pub(crate) uid_keyring: bool,
}

/// The keyrings that link to a key: one, as a rule.
#[derive(Debug, Default)]
pub(crate) enum Parents {
    #[default]
    None,
    One(KeyIx),
    Many(alloc::vec::Vec<KeyIx>),
}

impl Parents {
    pub(crate) fn as_slice(&self) -> &[KeyIx] {
        match self {
            Parents::None => &[],
            Parents::One(ring) => core::slice::from_ref(ring),
            Parents::Many(rings) => rings,
        }
    }

    pub(crate) fn add(&mut self, ring: KeyIx) {
        match self {
            Parents::None => *self = Parents::One(ring),
            Parents::One(first) => *self = Parents::Many(alloc::vec![*first, ring]),
            Parents::Many(rings) => rings.push(ring),
        }
    }

    pub(crate) fn remove(&mut self, ring: KeyIx) {
        match self {
            Parents::One(only) if *only == ring => *self = Parents::None,
            Parents::Many(rings) => {
                if let Some(at) = rings.iter().position(|&r| r == ring) {
                    rings.swap_remove(at);
                }
                if let [only] = rings[..] {
                    *self = Parents::One(only);
                }
            }
            _ => {}
        }
    }
}

/// Bytes up to which a description stands in the key itself, as nearly all do.
const DESCRIPTION_INLINE_LEN: usize = 32;

/// What a key is called. No secret: anybody who may view the key is told.
pub(crate) type Description = SmallVec<[u8; DESCRIPTION_INLINE_LEN]>;

/// A key (`struct key`).
///
/// In a domain of many keys, a search waits for memory and for little else. What it
/// reads of a key is therefore in the first two of the three lines that a key takes:
/// first what is asked of every key, then its name. Both arrive at once.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Key {
    pub(crate) serial: Serial,
    /// Links and subscriptions that keep it alive.
    pub(crate) usage: u32,
    pub(crate) key_type: TypeIx,
    pub(crate) flags: Flags,
    pub(crate) state: KeyState,
    /// Who owns it.
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) perm: Perm,
    /// When it expires; revoking brings it forward to the present.
    pub(crate) expiry: Option<Now>,
    pub(crate) hash: IndexHash,
    pub(crate) description: Description,
    pub(crate) payload: Payload,
    /// Whose quota it counts against. Differs from `uid` only for a thread keyring
    /// whose thread has changed its ids.
    pub(crate) charged_to: Uid,
    /// Bytes charged, description included.
    pub(crate) quota_len: u32,
    /// Bytes charged for the payload or the links.
    pub(crate) data_len: u32,
    pub(crate) parents: Parents,
    pub(crate) restriction: Option<Restriction>,
    /// The user namespace in which a keyring's name can be joined.
    pub(crate) namespace: u64,
}

impl Key {
    /// The error of a key that is no longer valid, in the kernel's order: ENOKEY
    /// invalidated, EKEYREVOKED revoked or dead, EKEYEXPIRED (`key_validate`).
    pub(crate) fn validate(&self, now: Now) -> Result<(), Errno> {
        if self.flags.invalidated {
            Err(Errno::ENOKEY)
        } else if self.flags.revoked || self.flags.dead {
            Err(Errno::EKEYREVOKED)
        } else if self.has_expired(now) {
            Err(Errno::EKEYEXPIRED)
        } else {
            Ok(())
        }
    }

    pub(crate) fn has_expired(&self, now: Now) -> bool {
        self.expiry.is_some_and(|expiry| now >= expiry)
    }

    /// The error that a negative key was given.
    pub(crate) fn rejection(&self) -> Result<(), Errno> {
        match self.state {
            KeyState::Rejected(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        !matches!(self.state, KeyState::Uninstantiated)
    }

    pub(crate) fn is_positive(&self) -> bool {
        matches!(self.state, KeyState::Positive)
    }

    /// A name that cannot be found any more takes part in nothing.
    pub(crate) fn is_revoked_or_invalidated(&self) -> bool {
        self.flags.revoked || self.flags.invalidated
    }

    pub(crate) fn links(&self) -> Option<&crate::links::Links> {
        self.payload.links()
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    const LINE: usize = 64;

    #[test]
    fn a_search_reads_two_lines_of_a_key_that_takes_three() {
        assert_eq!(size_of::<Option<Key>>(), 3 * LINE);
        assert!(offset_of!(Key, hash) < LINE);
        assert!(offset_of!(Key, payload) <= 2 * LINE);
    }
}
