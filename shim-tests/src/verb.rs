//! Every call that a history can make, as a row of a table: parsing, printing,
//! marshalling and random generation all follow it.

use keyshim_abi::marshal::Entry;
use keyshim_abi::uapi::keyctl as op;

/// What an argument is, and so which registers it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key or special keyring.
    Key,
    /// A string with its NUL, NULL, or a bad pointer.
    Text,
    /// Bytes, then their number: two registers.
    Payload,
    /// A buffer for the answer, then its length in bytes: two registers.
    Room,
    /// A user id.
    Uid,
    /// A group id.
    Gid,
    /// A number.
    Number,
    /// A permission mask, written in hexadecimal.
    Mask,
    /// A scattered payload, its pieces divided by bars: two registers.
    Pieces,
}

/// What a success means, and so how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// A number.
    Number,
    /// The serial of a key of the type that argument names.
    KeyOfType(usize),
    /// The serial of a keyring, or 0.
    Keyring,
    /// The serial of an authorisation key, or 0.
    Authority,
    /// Bytes in the buffer.
    Bytes,
    /// What a key holds: serials when it is a keyring, bytes otherwise.
    Content,
    /// The text of DESCRIBE.
    Label,
}

/// One row.
#[derive(Debug)]
pub struct Verb {
    /// The word in a script.
    pub name: &'static str,
    /// Which system call.
    pub entry: Entry,
    /// The operation of `keyctl(2)`; 0 for the other calls.
    pub operation: u32,
    /// Its arguments, in the order of registers.
    pub args: &'static [Kind],
    /// What it gives.
    pub gives: Gives,
}

const fn keyctl(name: &'static str, operation: u32, args: &'static [Kind], gives: Gives) -> Verb {
    Verb { name, entry: Entry::Keyctl, operation, args, gives }
}

use Gives as G;
use Kind as K;

/// Every call. `keyctl` takes any operation number as its first argument.
pub static VERBS: [Verb; 30] = [
    Verb {
        name: "add_key",
        entry: Entry::AddKey,
        operation: 0,
        args: &[K::Text, K::Text, K::Payload, K::Key],
        gives: G::KeyOfType(0),
    },
    Verb {
        name: "request_key",
        entry: Entry::RequestKey,
        operation: 0,
        args: &[K::Text, K::Text, K::Text, K::Key],
        gives: G::KeyOfType(0),
    },
    keyctl("get_keyring_id", op::GET_KEYRING_ID, &[K::Key, K::Number], G::Keyring),
    keyctl("join_session_keyring", op::JOIN_SESSION_KEYRING, &[K::Text], G::Keyring),
    keyctl("update", op::UPDATE, &[K::Key, K::Payload], G::Number),
    keyctl("revoke", op::REVOKE, &[K::Key], G::Number),
    keyctl("chown", op::CHOWN, &[K::Key, K::Uid, K::Gid], G::Number),
    keyctl("setperm", op::SETPERM, &[K::Key, K::Mask], G::Number),
    keyctl("describe", op::DESCRIBE, &[K::Key, K::Room], G::Label),
    keyctl("clear", op::CLEAR, &[K::Key], G::Number),
    keyctl("link", op::LINK, &[K::Key, K::Key], G::Number),
    keyctl("unlink", op::UNLINK, &[K::Key, K::Key], G::Number),
    keyctl("search", op::SEARCH, &[K::Key, K::Text, K::Text, K::Key], G::KeyOfType(1)),
    keyctl("read", op::READ, &[K::Key, K::Room], G::Content),
    keyctl("instantiate", op::INSTANTIATE, &[K::Key, K::Payload, K::Key], G::Number),
    keyctl("negate", op::NEGATE, &[K::Key, K::Number, K::Key], G::Number),
    keyctl("set_reqkey_keyring", op::SET_REQKEY_KEYRING, &[K::Number], G::Number),
    keyctl("set_timeout", op::SET_TIMEOUT, &[K::Key, K::Number], G::Number),
    keyctl("assume_authority", op::ASSUME_AUTHORITY, &[K::Key], G::Authority),
    keyctl("get_security", op::GET_SECURITY, &[K::Key, K::Room], G::Bytes),
    keyctl("session_to_parent", op::SESSION_TO_PARENT, &[], G::Number),
    keyctl("reject", op::REJECT, &[K::Key, K::Number, K::Number, K::Key], G::Number),
    keyctl("instantiate_iov", op::INSTANTIATE_IOV, &[K::Key, K::Pieces, K::Key], G::Number),
    keyctl("invalidate", op::INVALIDATE, &[K::Key], G::Number),
    keyctl("get_persistent", op::GET_PERSISTENT, &[K::Uid, K::Key], G::Keyring),
    keyctl("restrict_keyring", op::RESTRICT_KEYRING, &[K::Key, K::Text, K::Text], G::Number),
    keyctl("move", op::MOVE, &[K::Key, K::Key, K::Key, K::Number], G::Number),
    keyctl("capabilities", op::CAPABILITIES, &[K::Room], G::Bytes),
    // A length without a buffer, and operations of other numbers.
    keyctl("read_null", op::READ, &[K::Key, K::Number, K::Number], G::Number),
    keyctl("keyctl", u32::MAX, &[K::Number, K::Number, K::Number, K::Number, K::Number], G::Number),
];

/// The row of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// The row of that name, which is known to exist.
#[must_use]
pub fn get(name: &'static str) -> &'static Verb {
    match find(name) {
        Some(verb) => verb,
        None => unreachable!("no verb {name}"),
    }
}
