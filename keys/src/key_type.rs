//! What a key type supplies, and the list of types.
//!
//! A type is one file in `types/` and one line in [`Types::builtin`]; a program
//! that links this crate registers its own. Methods that a caller can tell to be
//! missing (no update: EOPNOTSUPP, and no write permission on new keys) are
//! optional abilities, so that having one and being able to are the same question.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use keyshim_abi::caller::{Gid, Uid};
use keyshim_abi::{Errno, Serial};

use crate::Now;
use crate::payload::{Payload, Secret};
use crate::profile::{Profile, TypesKnown};
use crate::types;

/// A payload that the type has checked, ready to go into a key
/// (`struct key_preparsed_payload`).
#[derive(Debug)]
pub struct Preparsed {
    /// What the key will hold.
    pub payload: Payload,
    /// Quota bytes that the payload costs.
    pub quota_len: u32,
    /// A description that the type invents where the caller gave none.
    pub description: Option<Box<[u8]>>,
    /// An expiry that the payload itself carries.
    pub expiry: Option<Now>,
    /// Seconds that a key with this payload lives, where no expiry is carried.
    pub life_s: Option<u32>,
}

impl Preparsed {
    /// A payload that costs its own length and carries nothing else.
    #[must_use]
    pub fn copied(data: &[u8]) -> Preparsed {
        Preparsed {
            payload: Payload::copied(data),
            quota_len: u32::try_from(data.len()).unwrap_or(u32::MAX),
            description: None,
            expiry: None,
            life_s: None,
        }
    }
}

/// What `/proc/keys` may say of a key besides its description.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// The payload; a secret, of which a summary tells no more than the size.
    pub payload: &'a Payload,
    /// Bytes charged for it: 0 once a revoked key has given them back.
    pub data_len: u32,
}

/// A type of key (`struct key_type`).
pub trait KeyType: Send + Sync {
    /// Its name, 1 to 31 bytes. One that begins with a dot cannot be used by callers.
    fn name(&self) -> &'static str;

    /// Checks a payload and takes it in. Called before any key exists; the error goes
    /// to the caller (EINVAL, EBADMSG...).
    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno>;

    /// Refuses a description, with EINVAL as a rule.
    fn vet_description(&self, _description: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    /// Writes what follows the description in `/proc/keys`, for a positive key; in old
    /// kernels for any, which may hold nothing yet.
    fn summarize(&self, _summary: Summary<'_>, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    /// Parses a description that is searched for, where it need not be the very one of
    /// the key: `None`, as a rule, finds exact ones. The error goes to the caller.
    fn match_preparse(&self, _description: &[u8]) -> Result<Option<Box<dyn Match>>, Errno> {
        Ok(None)
    }

    /// True when links to an expired or revoked key are collected at once and not
    /// `gc_delay` seconds later (`KEY_TYPE_INSTANT_REAP`).
    fn is_reaped_at_once(&self) -> bool {
        false
    }

    /// True when revoking a key wipes its payload and gives back its quota.
    fn wipes_when_revoked(&self) -> bool {
        false
    }

    /// What revoking does to the payload of a key of a type that wipes it.
    fn revoke(&self, payload: &mut Payload) {
        payload.wipe();
    }

    /// The ability to replace a payload.
    fn updater(&self) -> Option<&dyn UpdateKey> {
        None
    }

    /// The ability to show a payload.
    fn reader(&self) -> Option<&dyn ReadKey> {
        None
    }

    /// The ability to make keys that are requested and not found, instead of a helper.
    fn maker(&self) -> Option<&dyn MakeKey> {
        None
    }

    /// The ability to restrict what is linked into a keyring.
    fn restricter(&self) -> Option<&dyn RestrictKeyring> {
        None
    }
}

/// Replacing a payload (`update`).
pub trait UpdateKey {
    /// Quota bytes that must be free before the replacement, which is then charged at
    /// `prep.quota_len`.
    fn reserve_len(&self, prep: &Preparsed) -> u32 {
        prep.quota_len
    }

    /// True when the key takes the expiry of the new payload, which is none as a
    /// rule; false when it keeps its own.
    fn takes_expiry(&self) -> bool {
        true
    }

    /// Makes the new payload of the old and what the caller sent.
    fn update(&self, _old: &Payload, new: Payload) -> Result<Payload, Errno> {
        Ok(new)
    }
}

/// Showing a payload (`read`).
pub trait ReadKey {
    /// The bytes that READ gives.
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno>;
}

/// A description that has been parsed to be searched for (`match_preparse`). Every key
/// of the type in a keyring is asked, in the order of the keyring.
pub trait Match {
    /// True for the description of a key that is meant.
    fn matches(&self, description: &[u8]) -> bool;
}

/// Making keys on demand (`request_key`).
pub trait MakeKey {
    /// Makes the payload of a key that was requested and not found. The key is under
    /// construction and linked already.
    fn make(&self, requested: &Requested<'_>) -> Made;
}

/// A key that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Requested<'a> {
    /// Its serial.
    pub serial: Serial,
    /// Its description.
    pub description: &'a [u8],
    /// What the requester says about it.
    pub callout: &'a [u8],
    /// The requester's file-system user.
    pub uid: Uid,
    /// The requester's file-system group.
    pub gid: Gid,
}

/// What became of a key that was to be made.
pub enum Made {
    /// What the type's `preparse` is to take in; the requester gets its error, if any.
    Payload(Secret),
    /// A negative key for so many seconds, with the error that whoever asks for it gets.
    Rejected {
        /// The error.
        error: Errno,
        /// Seconds until it expires.
        timeout_s: u32,
    },
    /// A negative key for a minute; the requester gets this error.
    Failed(Errno),
    /// Not yet: an [`crate::Effect::StartUpcall`] goes to the shell, which brings the
    /// result by [`crate::KeyService::finish_upcall`].
    Later,
}

/// Restricting links (`lookup_restriction`).
pub trait RestrictKeyring {
    /// Parses the text of KEYCTL_RESTRICT_KEYRING; EINVAL or ENOKEY.
    fn lookup(&self, restriction: &[u8]) -> Result<Box<dyn LinkCheck>, Errno>;
}

/// A restriction that has been parsed.
pub trait LinkCheck: Send {
    /// Refuses a link to a key of that type and payload.
    fn check(&self, key_type: &str, payload: &Payload) -> Result<(), Errno>;
}

/// The number of a type within a domain; the built-in ones have fixed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TypeIx(u16);

impl TypeIx {
    pub(crate) const KEYRING: TypeIx = TypeIx(0);
    pub(crate) const DEAD: TypeIx = TypeIx(1);
    /// Authorisation keys: their name begins with a dot, so nobody can add one.
    pub(crate) const REQUEST_KEY_AUTH: TypeIx = TypeIx(2);

    const USER: TypeIx = TypeIx(3);

    pub(crate) fn number(self) -> u64 {
        u64::from(self.0)
    }
}

struct Entry {
    key_type: Arc<dyn KeyType>,
    registered: bool,
}

/// The types of a domain.
pub(crate) struct Types(Vec<Entry>);

impl Types {
    pub(crate) fn builtin(profile: &Profile) -> Types {
        let all: [Arc<dyn KeyType>; 7] = [
            Arc::new(types::keyring::Keyring {
                rings: profile.rings,
                quota_len: profile.keyring_len,
            }),
            Arc::new(types::dead::Dead(if profile.reserves_dots { ".dead" } else { "dead" })),
            Arc::new(types::request_key_auth::RequestKeyAuth),
            Arc::new(types::user::User),
            Arc::new(types::logon::Logon),
            Arc::new(types::big_key::BigKey),
            Arc::new(types::dns_resolver::DnsResolver),
        ];
        let is_known = |ix: TypeIx| match profile.types {
            TypesKnown::All => true,
            TypesKnown::UserAndKeyring => {
                [TypeIx::KEYRING, TypeIx::DEAD, TypeIx::USER].contains(&ix)
            }
        };
        let entry = |(number, key_type)| Entry { key_type, registered: is_known(TypeIx(number)) };
        Types((0..).zip(all).map(entry).collect())
    }

    pub(crate) fn get(&self, ix: TypeIx) -> &Arc<dyn KeyType> {
        &self.0[usize::from(ix.0)].key_type
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<TypeIx> {
        let found = self
            .0
            .iter()
            .position(|entry| entry.registered && entry.key_type.name().as_bytes() == name)?;
        u16::try_from(found).ok().map(TypeIx)
    }

    /// Adds a type. EEXIST when one of that name is there, ENOMEM after 65,535.
    pub(crate) fn register(&mut self, key_type: Arc<dyn KeyType>) -> Result<(), Errno> {
        if self.find(key_type.name().as_bytes()).is_some() {
            return Err(Errno::EEXIST);
        }
        if self.0.len() > usize::from(u16::MAX) {
            return Err(Errno::ENOMEM);
        }
        self.0.push(Entry { key_type, registered: true });
        Ok(())
    }

    /// Takes a type off the list; its number is not used again.
    pub(crate) fn unregister(&mut self, ix: TypeIx) {
        self.0[usize::from(ix.0)].registered = false;
    }
}
