//! The caller's memory, wherever it is.

use crate::errno::Errno;
use crate::limits::PAGE_LEN;

/// Memory of the thread that made a call: our own in a preloaded library,
/// another task's under the supervisor, a made-up one in tests.
pub trait UserMemory {
    /// Fills all of `into` from `address`. EFAULT when any byte cannot be read.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno>;

    /// Writes all of `from` to `address`, heeding the page's protection. EFAULT
    /// when any byte cannot be written; some may have been.
    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno>;

    /// EFAULT unless all of `len` bytes from `address` can be read. One byte of
    /// each page tells.
    fn probe(&self, address: u64, len: u64) -> Result<(), Errno> {
        let last = match len.checked_sub(1) {
            Some(rest) => address.checked_add(rest).ok_or(Errno::EFAULT)?,
            None => return Ok(()),
        };
        let mut at = address;
        loop {
            self.read(at, &mut [0])?;
            match (at - at % PAGE_LEN).checked_add(PAGE_LEN) {
                Some(next) if next <= last => at = next,
                _ => return Ok(()),
            }
        }
    }

    /// Reads a string into `into` up to its NUL and returns its length without
    /// it; `None` when there is no NUL within `into`. EFAULT when a byte before
    /// the NUL cannot be read (`strncpy_from_user`). Never touches a page that
    /// the string does not reach.
    fn read_string(&self, address: u64, into: &mut [u8]) -> Result<Option<usize>, Errno> {
        let mut filled = 0;
        while filled < into.len() {
            let at = address.checked_add(filled as u64).ok_or(Errno::EFAULT)?;
            let page_rest = (PAGE_LEN - at % PAGE_LEN) as usize;
            let end = into.len().min(filled + page_rest);
            let chunk = &mut into[filled..end];
            self.read(at, chunk)?;
            if let Some(nul) = chunk.iter().position(|&byte| byte == 0) {
                return Ok(Some(filled + nul));
            }
            filled = end;
        }
        Ok(None)
    }
}
