//! Memory for one call: mapped, never from the program's allocator, which may be
//! in the middle of its own work, and never on the stack, which may be small.
#![allow(unsafe_code)] // memory by address

use crate::fault::Fault;
use crate::sys;

/// Bytes that a thread keeps from call to call: the strings of any call, its head
/// with the same strings once more, and a payload of up to 3.9 KB.
pub(crate) const KEPT_LEN: usize = 20 * 1024;

/// A piece of memory that this call alone uses.
pub(crate) struct Scratch {
    address: usize,
    len: usize,
    kept: bool,
}

impl Scratch {
    /// Memory for this call only.
    pub(crate) fn mapped(len: usize) -> Result<Scratch, Fault> {
        let address = sys::map(len).map_err(|_| Fault::NoRoom)?;
        Ok(Scratch { address, len, kept: false })
    }

    /// The memory that a thread keeps.
    ///
    /// # Safety
    /// `address` is a mapping of [`KEPT_LEN`] bytes, and nobody else uses it while
    /// this value lives.
    pub(crate) const unsafe fn kept(address: usize) -> Scratch {
        Scratch { address, len: KEPT_LEN, kept: true }
    }

    /// All of it.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a mapping of this length that this value alone uses, readable and
        // writable, and every value of a byte is valid.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // SAFETY: it was mapped with this length and goes out of use here.
            unsafe { sys::unmap(self.address, self.len) };
        }
    }
}

/// Overwrites what may be secret, and keeps the compiler from leaving that out.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // SAFETY: no instruction at all; but the compiler must take it for a reader.
    unsafe { core::arch::asm!("/* {0} */", in(reg) bytes.as_ptr(), options(nostack)) };
}
