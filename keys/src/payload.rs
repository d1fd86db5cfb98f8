//! What a key holds.

use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

use zeroize::Zeroizing;

use crate::auth::Authority;
use crate::links::Links;

/// Bytes that are overwritten before their memory is given back.
pub type Secret = Zeroizing<Box<[u8]>>;

/// The payload of a key. Only its size is ever printed.
pub enum Payload {
    /// Nothing.
    Empty,
    /// Bytes, as most types keep.
    Bytes(Secret),
    /// What bytes of that length have left behind after the key was revoked.
    Wiped(usize),
    /// A value of the key type's own making; wiping secrets in it when it is
    /// dropped is the type's part.
    Object(Box<dyn Any + Send>),
    /// The links of a keyring.
    Keyring(Box<Links>),
    /// What an authorisation key stands for.
    Authority(Box<Authority>),
}

impl Payload {
    /// A payload that is a copy of these bytes.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Payload {
        Payload::Bytes(Zeroizing::new(bytes.into()))
    }

    /// The bytes; none where it holds none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(secret) => secret,
            _ => &[],
        }
    }

    /// How many bytes it holds, or held before it was wiped.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Payload::Wiped(len) => *len,
            other => other.bytes().len(),
        }
    }

    /// True when it holds no bytes and never did.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the bytes but not how many they were.
    pub fn wipe(&mut self) {
        *self = Payload::Wiped(self.len());
    }

    pub(crate) fn links(&self) -> Option<&Links> {
        match self {
            Payload::Keyring(links) => Some(links),
            _ => None,
        }
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        match self {
            Payload::Authority(authority) => Some(authority),
            _ => None,
        }
    }

    /// Leaves nothing where an authority was.
    pub(crate) fn take_authority(&mut self) -> Option<Box<Authority>> {
        match core::mem::replace(self, Payload::Empty) {
            Payload::Authority(authority) => Some(authority),
            other => {
                *self = other;
                None
            }
        }
    }

    pub(crate) fn links_mut(&mut self) -> Option<&mut Links> {
        match self {
            Payload::Keyring(links) => Some(links),
            _ => None,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Empty => f.write_str("nothing"),
            Payload::Bytes(secret) => write!(f, "{} bytes", secret.len()),
            Payload::Wiped(len) => write!(f, "{len} bytes, wiped"),
            Payload::Object(_) => f.write_str("an object"),
            Payload::Keyring(links) => write!(f, "{} links", links.len()),
            Payload::Authority(_) => f.write_str("an authority"),
        }
    }
}
