//! An answer that is an error: what Linux would say, bit for bit.
//!
//! A checked number and not an enum, because REJECT lets user space fail a key
//! with any error from 1 to 4094, named or not.

use core::fmt;
use core::num::NonZeroU16;

/// An error number, 1 to 4094 (`MAX_ERRNO` is 4095 and means no error to REJECT).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(NonZeroU16);

const RAW_MAX: i32 = 4094;

macro_rules! names {
    ($($name:ident = $raw:literal, $text:literal;)*) => {
        impl Errno {
            $(
                #[doc = $text]
                pub const $name: Errno = Errno(NonZeroU16::new($raw).unwrap());
            )*

            /// The symbol of this number, where it has one that the key service uses.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $($raw => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory; here: no such link.";
    EINTR = 4, "Interrupted system call.";
    EIO = 5, "Input/output error; here: the key is not instantiated.";
    EBADF = 9, "Bad file descriptor.";
    EAGAIN = 11, "Resource temporarily unavailable.";
    ENOMEM = 12, "Cannot allocate memory.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Device or resource busy.";
    EEXIST = 17, "File exists.";
    ENODEV = 19, "No such device; here: unknown key type.";
    ENOTDIR = 20, "Not a directory; here: not a keyring.";
    EINVAL = 22, "Invalid argument.";
    ENFILE = 23, "Too many open files in system.";
    EDEADLK = 35, "Resource deadlock avoided; here: a keyring would contain itself.";
    ENAMETOOLONG = 36, "File name too long.";
    ENOSYS = 38, "Function not implemented.";
    ELOOP = 40, "Too many levels; here: keyrings nested too deep.";
    EBADSLT = 57, "Invalid slot.";
    ENOPKG = 65, "Package not installed.";
    EPROTO = 71, "Protocol error.";
    EBADMSG = 74, "Bad message.";
    EOVERFLOW = 75, "Value too large for defined data type.";
    EMSGSIZE = 90, "Message too long.";
    EOPNOTSUPP = 95, "Operation not supported.";
    EDQUOT = 122, "Disk quota exceeded; here: the owner's key quota.";
    ENOKEY = 126, "Required key not available.";
    EKEYEXPIRED = 127, "Key has expired.";
    EKEYREVOKED = 128, "Key has been revoked.";
    EKEYREJECTED = 129, "Key was rejected by service.";
}

impl Errno {
    /// The error of that number, or `None` outside 1 to 4094.
    #[must_use]
    pub const fn new(raw: i32) -> Option<Errno> {
        if raw < 1 || raw > RAW_MAX {
            return None;
        }
        match NonZeroU16::new(raw as u16) {
            Some(raw) => Some(Errno(raw)),
            None => None,
        }
    }

    /// The number, 1 to 4094.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0.get() as i32
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "E{}", self.raw()),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn numbers_outside_the_range_are_no_errors() {
        for raw in [i32::MIN, -1, 0, 4095, 4096, i32::MAX] {
            assert_eq!(Errno::new(raw), None);
        }
        assert_eq!(Errno::new(4094).map(Errno::raw), Some(4094));
    }

    #[test]
    fn an_error_without_a_name_still_prints() {
        assert_eq!(format!("{}", Errno::new(999).unwrap()), "E999");
        assert_eq!(format!("{}", Errno::ENOKEY), "ENOKEY");
    }
}
