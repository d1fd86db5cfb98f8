//! One system call with its arguments fetched from the caller's memory.

use crate::errno::Errno;
use crate::perm::Perm;
use crate::serial::KeyId;
use crate::uapi::keyctl as op;

/// An argument behind a pointer, or the error of fetching it (EFAULT, or EINVAL
/// for a string that does not end in time). An operation raises the error at the
/// point where Linux copies, which is not always the beginning.
pub type Fetched<T> = Result<T, Errno>;

/// The payload of add_key, UPDATE or INSTANTIATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload<'a> {
    /// The bytes.
    Carried(&'a [u8]),
    /// That many bytes, readable, but more than a key of this type can hold:
    /// not worth a copy, because the type will refuse them for their length.
    Omitted(u64),
    /// That many bytes at a bad address.
    Unreadable(u64),
    /// That many bytes, and a NULL pointer.
    Absent(u64),
}

impl<'a> Payload<'a> {
    /// The length that the caller gave, in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Payload::Carried(bytes) => bytes.len() as u64,
            Payload::Omitted(len) | Payload::Unreadable(len) | Payload::Absent(len) => *len,
        }
    }

    /// True when the caller gave no payload at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes where Linux would have copied them; `None` when they were not
    /// worth carrying. EFAULT when they could not be read.
    pub const fn fetched(&self) -> Fetched<Option<&'a [u8]>> {
        match self {
            Payload::Carried(bytes) => Ok(Some(bytes)),
            Payload::Omitted(_) => Ok(None),
            Payload::Unreadable(_) | Payload::Absent(_) => Err(Errno::EFAULT),
        }
    }

    /// The same for a kernel that reads nothing at NULL, whatever the length is said to be.
    pub const fn fetched_unless_null(&self) -> Fetched<Option<&'a [u8]>> {
        match self {
            Payload::Absent(_) => Ok(None),
            _ => self.fetched(),
        }
    }
}

impl core::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Payload::Carried(bytes) => write!(f, "{} bytes", bytes.len()),
            Payload::Omitted(len) => write!(f, "{len} bytes, omitted"),
            Payload::Unreadable(len) => write!(f, "{len} bytes, unreadable"),
            Payload::Absent(len) => write!(f, "{len} bytes, absent"),
        }
    }
}

/// One call. Buffers of the caller appear as the room they offer, in bytes;
/// `None` stands for a NULL pointer. Names follow the man pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Request<'a> {
    /// `add_key(2)`.
    AddKey {
        type_name: Fetched<&'a [u8]>,
        description: Option<Fetched<&'a [u8]>>,
        payload: Payload<'a>,
        keyring: KeyId,
    },
    /// `request_key(2)`.
    RequestKey {
        type_name: Fetched<&'a [u8]>,
        description: Fetched<&'a [u8]>,
        callout: Option<Fetched<&'a [u8]>>,
        destination: KeyId,
    },
    /// `keyctl_get_keyring_ID(3)`.
    GetKeyringId { id: KeyId, create: bool },
    /// `keyctl_join_session_keyring(3)`.
    JoinSessionKeyring { name: Option<Fetched<&'a [u8]>> },
    /// `keyctl_update(3)`.
    Update { key: KeyId, payload: Payload<'a> },
    /// `keyctl_revoke(3)`.
    Revoke { key: KeyId },
    /// `keyctl_chown(3)`; -1 leaves an id as it is.
    Chown { key: KeyId, uid: u32, gid: u32 },
    /// `keyctl_setperm(3)`.
    Setperm { key: KeyId, perm: Perm },
    /// `keyctl_describe(3)`.
    Describe { key: KeyId, room: Option<u32> },
    /// `keyctl_clear(3)`.
    Clear { keyring: KeyId },
    /// `keyctl_link(3)`.
    Link { key: KeyId, keyring: KeyId },
    /// `keyctl_unlink(3)`.
    Unlink { key: KeyId, keyring: KeyId },
    /// `keyctl_search(3)`.
    Search {
        keyring: KeyId,
        type_name: Fetched<&'a [u8]>,
        description: Fetched<&'a [u8]>,
        destination: KeyId,
    },
    /// `keyctl_read(3)`.
    Read { key: KeyId, room: Option<u64> },
    /// `keyctl_instantiate(3)`.
    Instantiate { key: KeyId, payload: Payload<'a>, keyring: KeyId },
    /// `keyctl_instantiate_iov(3)`: the same, gathered.
    InstantiateIov { key: KeyId, payload: Payload<'a>, keyring: KeyId },
    /// `keyctl_negate(3)`.
    Negate { key: KeyId, timeout_s: u32, keyring: KeyId },
    /// `keyctl_reject(3)`.
    Reject { key: KeyId, timeout_s: u32, error: u32, keyring: KeyId },
    /// `keyctl_set_reqkey_keyring(3)`.
    SetReqkeyKeyring { default: i32 },
    /// `keyctl_set_timeout(3)`; 0 clears it.
    SetTimeout { key: KeyId, timeout_s: u32 },
    /// `keyctl_assume_authority(3)`.
    AssumeAuthority { key: KeyId },
    /// `keyctl_get_security(3)`.
    GetSecurity { key: KeyId, room: Option<u64> },
    /// `keyctl_session_to_parent(3)`.
    SessionToParent,
    /// `keyctl_invalidate(3)`.
    Invalidate { key: KeyId },
    /// `keyctl_get_persistent(3)`; -1 is the caller's own real user.
    GetPersistent { uid: u32, keyring: KeyId },
    /// `keyctl_restrict_keyring(3)`.
    RestrictKeyring {
        keyring: KeyId,
        type_name: Option<Fetched<&'a [u8]>>,
        restriction: Option<Fetched<&'a [u8]>>,
    },
    /// `keyctl_move(3)`.
    Move { key: KeyId, from: KeyId, to: KeyId, flags: u32 },
    /// `keyctl_capabilities(3)`.
    Capabilities { room: u64 },
    /// Any other operation of `keyctl(2)`.
    Other { operation: u32 },
}

impl Request<'_> {
    /// The operation's number of `keyctl(2)`; none for a system call of its own.
    #[must_use]
    pub const fn operation(&self) -> Option<u32> {
        Some(match *self {
            Request::AddKey { .. } | Request::RequestKey { .. } => return None,
            Request::GetKeyringId { .. } => op::GET_KEYRING_ID,
            Request::JoinSessionKeyring { .. } => op::JOIN_SESSION_KEYRING,
            Request::Update { .. } => op::UPDATE,
            Request::Revoke { .. } => op::REVOKE,
            Request::Chown { .. } => op::CHOWN,
            Request::Setperm { .. } => op::SETPERM,
            Request::Describe { .. } => op::DESCRIBE,
            Request::Clear { .. } => op::CLEAR,
            Request::Link { .. } => op::LINK,
            Request::Unlink { .. } => op::UNLINK,
            Request::Search { .. } => op::SEARCH,
            Request::Read { .. } => op::READ,
            Request::Instantiate { .. } => op::INSTANTIATE,
            Request::Negate { .. } => op::NEGATE,
            Request::SetReqkeyKeyring { .. } => op::SET_REQKEY_KEYRING,
            Request::SetTimeout { .. } => op::SET_TIMEOUT,
            Request::AssumeAuthority { .. } => op::ASSUME_AUTHORITY,
            Request::GetSecurity { .. } => op::GET_SECURITY,
            Request::SessionToParent => op::SESSION_TO_PARENT,
            Request::Reject { .. } => op::REJECT,
            Request::InstantiateIov { .. } => op::INSTANTIATE_IOV,
            Request::Invalidate { .. } => op::INVALIDATE,
            Request::GetPersistent { .. } => op::GET_PERSISTENT,
            Request::RestrictKeyring { .. } => op::RESTRICT_KEYRING,
            Request::Move { .. } => op::MOVE,
            Request::Capabilities { .. } => op::CAPABILITIES,
            Request::Other { operation } => operation,
        })
    }

    /// True when bytes of a payload have been fetched: whoever holds them clears them.
    #[must_use]
    pub fn carries_payload(&self) -> bool {
        match self {
            Request::AddKey { payload, .. }
            | Request::Update { payload, .. }
            | Request::Instantiate { payload, .. }
            | Request::InstantiateIov { payload, .. } => !matches!(payload, Payload::Omitted(_)),
            _ => false,
        }
    }
}
