//! The table of operations: number, name, how far each is supported.

use crate::uapi::keyctl as op;

/// How far keyshim goes with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// As the kernel does it.
    Full,
    /// As the kernel does it, but for what the text names.
    Partial(&'static str),
    /// EOPNOTSUPP, as a kernel built without it; the text says why.
    Absent(&'static str),
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Number of `keyctl(2)`; `None` for a system call of its own.
    pub number: Option<u32>,
    /// Name as in the man page.
    pub name: &'static str,
    /// File stem under `keys/src/ops/`; empty where the operation is absent.
    pub file: &'static str,
    /// How far it is supported.
    pub support: Support,
}

const fn call(name: &'static str, file: &'static str, support: Support) -> Operation {
    Operation { number: None, name, file, support }
}

const fn full(number: u32, name: &'static str, file: &'static str) -> Operation {
    Operation { number: Some(number), name, file, support: Support::Full }
}

const fn partial(
    number: u32,
    name: &'static str,
    file: &'static str,
    what: &'static str,
) -> Operation {
    Operation { number: Some(number), name, file, support: Support::Partial(what) }
}

const fn absent(number: u32, name: &'static str, why: &'static str) -> Operation {
    Operation { number: Some(number), name, file: "", support: Support::Absent(why) }
}

const NO_ASYMMETRIC: &str = "there is no asymmetric type";

/// Every operation that Linux 6 knows, in the order of numbers.
pub const OPERATIONS: [Operation; 35] = [
    call("add_key", "add_key", Support::Full),
    call("request_key", "request_key", Support::Full),
    full(op::GET_KEYRING_ID, "KEYCTL_GET_KEYRING_ID", "get_keyring_id"),
    full(op::JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING", "join_session_keyring"),
    full(op::UPDATE, "KEYCTL_UPDATE", "update"),
    full(op::REVOKE, "KEYCTL_REVOKE", "revoke"),
    full(op::CHOWN, "KEYCTL_CHOWN", "chown"),
    full(op::SETPERM, "KEYCTL_SETPERM", "setperm"),
    full(op::DESCRIBE, "KEYCTL_DESCRIBE", "describe"),
    full(op::CLEAR, "KEYCTL_CLEAR", "clear"),
    full(op::LINK, "KEYCTL_LINK", "link"),
    full(op::UNLINK, "KEYCTL_UNLINK", "unlink"),
    full(op::SEARCH, "KEYCTL_SEARCH", "search"),
    full(op::READ, "KEYCTL_READ", "read"),
    full(op::INSTANTIATE, "KEYCTL_INSTANTIATE", "instantiate"),
    full(op::NEGATE, "KEYCTL_NEGATE", "reject"),
    full(op::SET_REQKEY_KEYRING, "KEYCTL_SET_REQKEY_KEYRING", "set_reqkey_keyring"),
    full(op::SET_TIMEOUT, "KEYCTL_SET_TIMEOUT", "set_timeout"),
    full(op::ASSUME_AUTHORITY, "KEYCTL_ASSUME_AUTHORITY", "assume_authority"),
    full(op::GET_SECURITY, "KEYCTL_GET_SECURITY", "get_security"),
    full(op::SESSION_TO_PARENT, "KEYCTL_SESSION_TO_PARENT", "session_to_parent"),
    full(op::REJECT, "KEYCTL_REJECT", "reject"),
    full(op::INSTANTIATE_IOV, "KEYCTL_INSTANTIATE_IOV", "instantiate"),
    full(op::INVALIDATE, "KEYCTL_INVALIDATE", "invalidate"),
    full(op::GET_PERSISTENT, "KEYCTL_GET_PERSISTENT", "get_persistent"),
    absent(op::DH_COMPUTE, "KEYCTL_DH_COMPUTE", "no Diffie-Hellman yet"),
    absent(op::PKEY_QUERY, "KEYCTL_PKEY_QUERY", NO_ASYMMETRIC),
    absent(op::PKEY_ENCRYPT, "KEYCTL_PKEY_ENCRYPT", NO_ASYMMETRIC),
    absent(op::PKEY_DECRYPT, "KEYCTL_PKEY_DECRYPT", NO_ASYMMETRIC),
    absent(op::PKEY_SIGN, "KEYCTL_PKEY_SIGN", NO_ASYMMETRIC),
    absent(op::PKEY_VERIFY, "KEYCTL_PKEY_VERIFY", NO_ASYMMETRIC),
    partial(
        op::RESTRICT_KEYRING,
        "KEYCTL_RESTRICT_KEYRING",
        "restrict_keyring",
        "no type but those of an embedding program offers restrictions of its own",
    ),
    full(op::MOVE, "KEYCTL_MOVE", "move_key"),
    full(op::CAPABILITIES, "KEYCTL_CAPABILITIES", "capabilities"),
    absent(op::WATCH_KEY, "KEYCTL_WATCH_KEY", "no watch queues in user space yet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_run_from_0_to_32_without_a_gap() {
        let numbers = OPERATIONS.iter().filter_map(|row| row.number);
        assert!(numbers.eq(0..=32));
    }
}
