//! The numbers of `include/uapi/linux/keyctl.h`, under their kernel names.

/// System call numbers of the three calls, by the architecture that enters.
/// Source: the kernel's `syscall_64.tbl`, `syscall_32.tbl` and `asm-generic/unistd.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallNumbers {
    /// Number of `add_key(2)`.
    pub add_key: i64,
    /// Number of `request_key(2)`.
    pub request_key: i64,
    /// Number of `keyctl(2)`.
    pub keyctl: i64,
}

/// x86-64, entered by `syscall`.
pub const X86_64: CallNumbers = CallNumbers { add_key: 248, request_key: 249, keyctl: 250 };
/// i386, entered by `int 0x80` or `sysenter`, from 32-bit and 64-bit code alike.
pub const I386: CallNumbers = CallNumbers { add_key: 286, request_key: 287, keyctl: 288 };
/// The generic table: AArch64, RISC-V and later ports.
pub const GENERIC: CallNumbers = CallNumbers { add_key: 217, request_key: 218, keyctl: 219 };

/// x32, whose numbers are those of x86-64 with bit 30.
pub const X32: CallNumbers = CallNumbers {
    add_key: 1 << 30 | X86_64.add_key,
    request_key: 1 << 30 | X86_64.request_key,
    keyctl: 1 << 30 | X86_64.keyctl,
};
/// 32-bit ARM (`arch/arm/tools/syscall.tbl`).
pub const ARM: CallNumbers = CallNumbers { add_key: 309, request_key: 310, keyctl: 311 };

/// The numbers for the architecture that this crate is compiled for.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: CallNumbers = X86_64;
/// The numbers for the architecture that this crate is compiled for.
#[cfg(target_arch = "x86")]
pub const NATIVE: CallNumbers = I386;
/// The numbers for the architecture that this crate is compiled for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
pub const NATIVE: CallNumbers = GENERIC;

/// Operation numbers of `keyctl(2)`.
pub mod keyctl {
    /// Serial of a special keyring, made on demand.
    pub const GET_KEYRING_ID: u32 = 0;
    /// Join or create a session keyring.
    pub const JOIN_SESSION_KEYRING: u32 = 1;
    /// Replace a payload.
    pub const UPDATE: u32 = 2;
    /// Revoke a key.
    pub const REVOKE: u32 = 3;
    /// Change owner and group.
    pub const CHOWN: u32 = 4;
    /// Change the permission mask.
    pub const SETPERM: u32 = 5;
    /// Type, owner, group, mask and description as text.
    pub const DESCRIBE: u32 = 6;
    /// Drop every link of a keyring.
    pub const CLEAR: u32 = 7;
    /// Link a key into a keyring.
    pub const LINK: u32 = 8;
    /// Remove a link.
    pub const UNLINK: u32 = 9;
    /// Search below one keyring.
    pub const SEARCH: u32 = 10;
    /// Read a payload.
    pub const READ: u32 = 11;
    /// Instantiate a key under construction.
    pub const INSTANTIATE: u32 = 12;
    /// Reject a key under construction with ENOKEY.
    pub const NEGATE: u32 = 13;
    /// Default destination of request_key.
    pub const SET_REQKEY_KEYRING: u32 = 14;
    /// Set or clear the expiry of a key.
    pub const SET_TIMEOUT: u32 = 15;
    /// Assume the authority to instantiate a key.
    pub const ASSUME_AUTHORITY: u32 = 16;
    /// Security label of a key.
    pub const GET_SECURITY: u32 = 17;
    /// Give the caller's session keyring to its parent.
    pub const SESSION_TO_PARENT: u32 = 18;
    /// Reject a key under construction with a chosen error.
    pub const REJECT: u32 = 19;
    /// INSTANTIATE with a scattered payload.
    pub const INSTANTIATE_IOV: u32 = 20;
    /// Make a key unfindable at once.
    pub const INVALIDATE: u32 = 21;
    /// Link a user's persistent keyring.
    pub const GET_PERSISTENT: u32 = 22;
    /// Diffie-Hellman.
    pub const DH_COMPUTE: u32 = 23;
    /// Abilities of an asymmetric key.
    pub const PKEY_QUERY: u32 = 24;
    /// Encrypt with an asymmetric key.
    pub const PKEY_ENCRYPT: u32 = 25;
    /// Decrypt with an asymmetric key.
    pub const PKEY_DECRYPT: u32 = 26;
    /// Sign with an asymmetric key.
    pub const PKEY_SIGN: u32 = 27;
    /// Verify with an asymmetric key.
    pub const PKEY_VERIFY: u32 = 28;
    /// Restrict what may be linked into a keyring.
    pub const RESTRICT_KEYRING: u32 = 29;
    /// Move a link from one keyring to another.
    pub const MOVE: u32 = 30;
    /// What this kernel can do.
    pub const CAPABILITIES: u32 = 31;
    /// Watch a key for changes.
    pub const WATCH_KEY: u32 = 32;
}

/// `KEYCTL_MOVE_EXCL`: do not displace an equal key.
pub const MOVE_EXCL: u32 = 1;

/// Bits of the first capability byte (`KEYCTL_CAPS0_*`).
pub mod caps0 {
    /// The operation itself exists.
    pub const CAPABILITIES: u8 = 0x01;
    /// Persistent keyrings.
    pub const PERSISTENT_KEYRINGS: u8 = 0x02;
    /// Diffie-Hellman.
    pub const DIFFIE_HELLMAN: u8 = 0x04;
    /// Asymmetric key operations.
    pub const PUBLIC_KEY: u8 = 0x08;
    /// The type `big_key`.
    pub const BIG_KEY: u8 = 0x10;
    /// INVALIDATE.
    pub const INVALIDATE: u8 = 0x20;
    /// RESTRICT_KEYRING.
    pub const RESTRICT_KEYRING: u8 = 0x40;
    /// MOVE.
    pub const MOVE: u8 = 0x80;
}

/// Bits of the second capability byte (`KEYCTL_CAPS1_*`).
pub mod caps1 {
    /// Keyring names belong to a user namespace.
    pub const NS_KEYRING_NAME: u8 = 0x01;
    /// Keys are tagged by namespace.
    pub const NS_KEY_TAG: u8 = 0x02;
    /// Notifications.
    pub const NOTIFICATIONS: u8 = 0x04;
}

/// `KEY_REQKEY_DEFL_*`: where request_key puts a key that it had to make.
pub mod reqkey_default {
    /// Ask for the present setting.
    pub const NO_CHANGE: i32 = -1;
    /// Requestor, thread, process, session, user-session: the first there is.
    pub const DEFAULT: i32 = 0;
    /// The thread keyring.
    pub const THREAD: i32 = 1;
    /// The process keyring.
    pub const PROCESS: i32 = 2;
    /// The session keyring.
    pub const SESSION: i32 = 3;
    /// The user keyring.
    pub const USER: i32 = 4;
    /// The user-session keyring.
    pub const USER_SESSION: i32 = 5;
    /// The group keyring, which Linux never had.
    pub const GROUP: i32 = 6;
    /// The requestor's destination.
    pub const REQUESTOR: i32 = 7;
}
