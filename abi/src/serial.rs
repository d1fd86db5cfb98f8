//! The two ways to name a key: its serial, or an id that a caller passes.

use core::fmt;

/// The serial number of a key that exists or did: 1 to 2^31 - 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(i32);

impl Serial {
    /// The smallest serial that is handed out (`key_alloc_serial`).
    pub const FIRST: Serial = Serial(3);

    /// The smallest serial at all, which old kernels kept for root.
    pub const VERY_FIRST: Serial = Serial(1);

    /// A serial, or `None` when the number is not positive.
    #[must_use]
    pub const fn new(raw: i32) -> Option<Serial> {
        if raw > 0 { Some(Serial(raw)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The serial after this one; after the last comes the first.
    #[must_use]
    pub const fn next(self) -> Serial {
        match self.0.checked_add(1) {
            Some(raw) => Serial(raw),
            None => Serial::FIRST,
        }
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An id as a caller passes it (`key_serial_t`): a serial when positive, a
/// special keyring from -1 to -8, anything else for the lookup to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub i32);

impl KeyId {
    /// `@t`, the caller's thread keyring.
    pub const THREAD: KeyId = KeyId(-1);
    /// `@p`, the caller's process keyring.
    pub const PROCESS: KeyId = KeyId(-2);
    /// `@s`, the caller's session keyring.
    pub const SESSION: KeyId = KeyId(-3);
    /// `@u`, the keyring of the caller's real user.
    pub const USER: KeyId = KeyId(-4);
    /// `@us`, the default session keyring of the caller's real user.
    pub const USER_SESSION: KeyId = KeyId(-5);
    /// `@g`, which Linux never had: EINVAL.
    pub const GROUP: KeyId = KeyId(-6);
    /// `@a`, the assumed authorisation key.
    pub const AUTH: KeyId = KeyId(-7);
    /// The destination keyring of the request being served.
    pub const REQUESTOR: KeyId = KeyId(-8);

    /// The id in a register: the kernel looks at the low 32 bits only.
    #[must_use]
    pub const fn from_register(register: u64) -> KeyId {
        KeyId(register as u32 as i32)
    }

    /// True for 0, which most optional keyring arguments take as "none".
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl From<Serial> for KeyId {
    fn from(serial: Serial) -> KeyId {
        KeyId(serial.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_in_the_upper_half_of_a_register_is_ignored() {
        assert_eq!(KeyId::from_register(0xdead_beef_ffff_fffd), KeyId::SESSION);
        assert_eq!(KeyId::from_register(0xffff_fffd), KeyId::SESSION);
    }

    #[test]
    fn the_last_serial_is_followed_by_the_first() {
        assert_eq!(Serial::new(i32::MAX).unwrap().next(), Serial::FIRST);
    }
}
