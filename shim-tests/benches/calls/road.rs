//! The two ways that a call can take out of one and the same process.

#![allow(unsafe_code)] // system calls, by libc and past it

use std::ffi::CStr;

use keyshim_abi::uapi::{NATIVE, keyctl as op};

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    /// To the kernel, by an instruction of our own: the preloaded library never sees it.
    Kernel,
    /// Through libc's `syscall()`, which the preloaded library catches.
    Keyshim,
}

/// True where [`Road::Kernel`] can be taken.
pub(crate) const KERNEL_IS_IN_REACH: bool = cfg!(target_arch = "x86_64");

/// Every method returns what the kernel would: a value, or an error number negated.
impl Road {
    /// JOIN_SESSION_KEYRING without a name; the new session's serial.
    pub(crate) fn join_session_keyring(self) -> i64 {
        // SAFETY: a NULL pointer where the name would be.
        unsafe { self.keyctl(op::JOIN_SESSION_KEYRING, [0; 4]) }
    }

    /// `add_key(2)`; an empty payload goes as NULL, as keyrings want it.
    pub(crate) fn add_key(self, type_name: &CStr, name: &CStr, payload: &[u8], ring: i64) -> i64 {
        let bytes = if payload.is_empty() { 0 } else { payload.as_ptr() as u64 };
        let (type_name, name) = (type_name.as_ptr() as u64, name.as_ptr() as u64);
        let args = [type_name, name, bytes, payload.len() as u64, ring as u64];
        // SAFETY: two strings that end in NUL, and a payload with its own length.
        unsafe { self.enter(NATIVE.add_key, args) }
    }

    /// READ; the payload's length in bytes.
    pub(crate) fn read(self, key: i64, into: &mut [u8]) -> i64 {
        let args = [key as u64, into.as_mut_ptr() as u64, into.len() as u64, 0];
        // SAFETY: a buffer with its own length.
        unsafe { self.keyctl(op::READ, args) }
    }

    /// DESCRIBE; the text's length in bytes, its NUL included.
    pub(crate) fn describe(self, key: i64, into: &mut [u8]) -> i64 {
        let args = [key as u64, into.as_mut_ptr() as u64, into.len() as u64, 0];
        // SAFETY: a buffer with its own length.
        unsafe { self.keyctl(op::DESCRIBE, args) }
    }

    /// SEARCH without a destination; the serial that was found.
    pub(crate) fn search(self, ring: i64, type_name: &CStr, name: &CStr) -> i64 {
        let args = [ring as u64, type_name.as_ptr() as u64, name.as_ptr() as u64, 0];
        // SAFETY: two strings that end in NUL.
        unsafe { self.keyctl(op::SEARCH, args) }
    }

    /// UPDATE; 0.
    pub(crate) fn update(self, key: i64, payload: &[u8]) -> i64 {
        let args = [key as u64, payload.as_ptr() as u64, payload.len() as u64, 0];
        // SAFETY: a payload with its own length.
        unsafe { self.keyctl(op::UPDATE, args) }
    }

    /// LINK; 0.
    pub(crate) fn link(self, key: i64, ring: i64) -> i64 {
        // SAFETY: plain numbers.
        unsafe { self.keyctl(op::LINK, [key as u64, ring as u64, 0, 0]) }
    }

    /// UNLINK; 0.
    pub(crate) fn unlink(self, key: i64, ring: i64) -> i64 {
        // SAFETY: plain numbers.
        unsafe { self.keyctl(op::UNLINK, [key as u64, ring as u64, 0, 0]) }
    }

    /// # Safety
    ///
    /// The arguments are what `keyctl(2)` asks of this operation: what is an address
    /// there is valid for the length that comes with it.
    unsafe fn keyctl(self, operation: u32, [a, b, c, d]: [u64; 4]) -> i64 {
        // SAFETY: as the caller promises.
        unsafe { self.enter(NATIVE.keyctl, [u64::from(operation), a, b, c, d]) }
    }

    /// # Safety
    ///
    /// The arguments are what the call of that number asks for.
    #[inline]
    unsafe fn enter(self, number: i64, args: [u64; 5]) -> i64 {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Road::Kernel => by_instruction(number, args),
                Road::Keyshim => by_libc(number, args),
            }
        }
    }
}

/// # Safety
///
/// As for [`Road::enter`].
unsafe fn by_libc(number: i64, [a, b, c, d, e]: [u64; 5]) -> i64 {
    // SAFETY: as the caller promises.
    match unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e) } {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        value => value,
    }
}

/// # Safety
///
/// As for [`Road::enter`].
#[cfg(target_arch = "x86_64")]
unsafe fn by_instruction(number: i64, [a, b, c, d, e]: [u64; 5]) -> i64 {
    let value;
    // SAFETY: the kernel's convention on x86-64: it changes rax, rcx and r11, and the
    // memory that the arguments name, which the caller vouches for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => value,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    value
}

/// # Safety
///
/// Safe always: it does nothing, which it says.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn by_instruction(_number: i64, _args: [u64; 5]) -> i64 {
    -i64::from(libc::ENOSYS)
}
