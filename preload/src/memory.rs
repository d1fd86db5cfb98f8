//! The program's memory, read and written so that a bad pointer is EFAULT.
//!
//! `process_vm_readv` and its sibling on our own process number copy fast and stop
//! at what cannot be touched. Where they fall short, because the address is bad,
//! the mapping is one that they refuse, or a sandbox forbids them, a pipe decides:
//! there the kernel copies by the very rules of a system call's argument.
#![allow(unsafe_code)] // one look at memory that the kernel has just vouched for

use core::ffi::c_char;

use keyshim_abi::Errno;
use keyshim_abi::limits::PAGE_LEN;
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::user_memory::UserMemory;

use crate::sys::{self, Outcome};

/// The memory of the process that we are in.
pub(crate) struct OwnMemory;

impl UserMemory for OwnMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        let whole = into.len();
        if whole == 0 || sys::copy_in(address, into) == Ok(whole) {
            return Ok(());
        }
        let pipe = Pipe::open()?;
        let mut at = address;
        for chunk in into.chunks_mut(PAGE_LEN as usize) {
            complete(sys::write_from(pipe.into, at, chunk.len()), chunk.len())?;
            complete(sys::read(pipe.out_of, chunk), chunk.len())?;
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }

    /// All pages with one system call: a program may offer a megabyte that nobody will
    /// take, and offer it again. Whatever that call refuses is looked at byte by byte.
    fn probe(&self, address: u64, len: u64) -> Result<(), Errno> {
        let Some(rest) = len.checked_sub(1) else { return Ok(()) };
        let last = address.checked_add(rest).ok_or(Errno::EFAULT)?;
        let first_page = address - address % PAGE_LEN;
        let pages_len = last - last % PAGE_LEN - first_page + PAGE_LEN;
        if sys::populate(first_page, pages_len).is_ok() {
            return Ok(());
        }
        let next = |at: &u64| (at - at % PAGE_LEN).checked_add(PAGE_LEN).filter(|&at| at <= last);
        core::iter::successors(Some(address), next).try_for_each(|page| self.read(page, &mut [0]))
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if from.is_empty() || sys::copy_out(address, from) == Ok(from.len()) {
            return Ok(());
        }
        let pipe = Pipe::open()?;
        let mut at = address;
        for chunk in from.chunks(PAGE_LEN as usize) {
            complete(sys::write(pipe.into, chunk), chunk.len())?;
            complete(sys::read_into(pipe.out_of, at, chunk.len()), chunk.len())?;
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

fn complete(outcome: Outcome, len: usize) -> Result<(), Errno> {
    if outcome == Ok(len) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// A pipe for the time of one copy. A page fits into it whatever its size.
struct Pipe {
    out_of: i32,
    into: i32,
}

impl Pipe {
    fn open() -> Result<Pipe, Errno> {
        let [out_of, into] = sys::pipe().map_err(|_| Errno::EFAULT)?;
        Ok(Pipe { out_of: off_the_standard_three(out_of), into: off_the_standard_three(into) })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        sys::close(self.out_of);
        sys::close(self.into);
    }
}

/// Another thread may write to descriptor 1 at any time, even where it was closed.
fn off_the_standard_three(fd: i32) -> i32 {
    if fd > 2 {
        return fd;
    }
    let higher = sys::duplicate(fd, 3).unwrap_or(-1);
    sys::close(fd);
    higher
}

/// Memory of which `from` bytes have been written already.
pub(crate) struct Further {
    pub(crate) from: u64,
}

impl UserMemory for Further {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        OwnMemory.read(address.wrapping_add(self.from), into)
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        OwnMemory.write(address.wrapping_add(self.from), from)
    }
}

/// Structures of which any bytes are a value, and every byte belongs to a field or
/// is padding that may be shown.
///
/// # Safety
/// Plain fields only: no reference, no enum, no bool.
pub(crate) unsafe trait Plain: Sized {}

// SAFETY: numbers only.
unsafe impl Plain for libc::stat {}
// SAFETY: numbers only.
unsafe impl Plain for libc::statx {}

/// Reads a structure of the program's; false when it cannot be read.
pub(crate) fn read_plain<T: Plain>(address: u64, into: &mut T) -> bool {
    let at = core::ptr::from_mut(into).cast::<u8>();
    // SAFETY: the bytes of a structure that any bytes may make up, borrowed for writing.
    let bytes = unsafe { core::slice::from_raw_parts_mut(at, size_of::<T>()) };
    OwnMemory.read(address, bytes).is_ok()
}

/// Writes a structure to the program; false when it cannot be written.
pub(crate) fn write_plain<T: Plain>(address: u64, from: &T) -> bool {
    let at = core::ptr::from_ref(from).cast::<u8>();
    // SAFETY: the bytes of a structure that was zeroed whole before it was filled.
    let bytes = unsafe { core::slice::from_raw_parts(at, size_of::<T>()) };
    OwnMemory.write(address, bytes).is_ok()
}

/// No path of the key service is longer, its NUL included.
const PATH_BUFFER_LEN: usize = 64;

/// The file of the key service that this path names, if it does. Costs other paths
/// one short system call, for a path may be a bad pointer: then it names nothing.
pub(crate) fn proc_file(path: *const c_char) -> Option<ProcFile> {
    const BEGINNING: &[u8; 6] = b"/proc/";
    if !sys::can_read_eight(path as u64) {
        return None;
    }
    // SAFETY: the kernel has just read eight bytes from here; bytes need no alignment.
    let beginning = unsafe { path.cast::<[u8; 6]>().read() };
    if &beginning != BEGINNING {
        return None;
    }
    let mut buffer = [0; PATH_BUFFER_LEN];
    let len = OwnMemory.read_string(path as u64, &mut buffer).ok()??;
    ProcFile::from_path(&buffer[..len])
}
