//! The memory of a thread that waits for the answer to a trapped call.
//!
//! `process_vm_readv` and its sibling copy as the kernel copies arguments: they
//! stop at what is not mapped, and at what may not be read or written. Two things
//! they refuse that the kernel copies: pages that may be written and, says their
//! mapping, not read, which no processor keeps apart; and a stack that has still to
//! grow. What was refused is therefore looked at again, a page at a time.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use keyshim_abi::limits::PAGE_LEN;
use keyshim_abi::{Errno, user_memory::UserMemory};
use nix::errno::Errno as System;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Bytes of a payload that nobody wants which are copied at once.
const PROBED_AT_ONCE: usize = 64 * 1024;

/// The memory of one thread during one call.
pub(crate) struct CallerMemory {
    tid: Pid,
    /// `/proc/TID/mem`, once it was needed: it asks nobody about protection.
    image: OnceCell<Option<File>>,
    /// Why we may not touch it, if so. It is then no EFAULT of the caller's.
    barred: Cell<Option<System>>,
}

impl CallerMemory {
    /// The memory of the thread with that number.
    pub(crate) fn of(tid: u32) -> CallerMemory {
        let tid = Pid::from_raw(tid as i32);
        CallerMemory { tid, image: OnceCell::new(), barred: Cell::new(None) }
    }

    /// Why the memory could not be touched although the caller itself could: EPERM
    /// for a program that is not to be traced by us, ESRCH when it has gone.
    pub(crate) fn barred(&self) -> Option<System> {
        self.barred.get()
    }

    /// How many bytes were copied: fewer than there were when one of them cannot be.
    fn count(&self, copied: nix::Result<usize>) -> Result<usize, Errno> {
        match copied {
            Ok(copied) => Ok(copied),
            Err(System::EFAULT) => Ok(0),
            Err(errno) => {
                self.barred.set(Some(errno));
                Err(Errno::EFAULT)
            }
        }
    }

    fn copy_in(&self, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let theirs = [RemoteIoVec { base: address as usize, len: into.len() }];
        self.count(process_vm_readv(self.tid, &mut [IoSliceMut::new(into)], &theirs))
    }

    fn copy_out(&self, address: u64, from: &[u8]) -> Result<usize, Errno> {
        let theirs = [RemoteIoVec { base: address as usize, len: from.len() }];
        self.count(process_vm_writev(self.tid, &[IoSlice::new(from)], &theirs))
    }

    /// Reads what lies in one page.
    fn read_reluctant(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        if self.copy_in(address, into)? == into.len() {
            return Ok(());
        }
        let image = self.grown(address)?;
        if self.copy_in(address, into)? == into.len() {
            return Ok(());
        }
        match self.is_write_only(address) && image.read_exact_at(into, address).is_ok() {
            true => Ok(()),
            false => Err(Errno::EFAULT),
        }
    }

    /// Writes to what lies in one page.
    fn write_reluctant(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if self.copy_out(address, from)? == from.len() {
            return Ok(());
        }
        self.grown(address)?;
        match self.copy_out(address, from)? == from.len() {
            true => Ok(()),
            false => Err(Errno::EFAULT),
        }
    }

    /// The image, in which a stack has now grown down to that address if it may: to
    /// look at it does what the caller's own access would have done.
    fn grown(&self, address: u64) -> Result<&File, Errno> {
        let image = self.image.get_or_init(|| File::open(format!("/proc/{}/mem", self.tid)).ok());
        let image = image.as_ref().ok_or(Errno::EFAULT)?;
        let _ = image.read_at(&mut [0], address);
        Ok(image)
    }

    /// True for an address in a mapping that may be written and not read.
    fn is_write_only(&self, address: u64) -> bool {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.tid)).unwrap_or_default();
        let mut mappings = maps.lines().filter_map(mapping);
        mappings.any(|(range, rights)| range.contains(&address) && rights.starts_with("-w"))
    }
}

/// A line of `/proc/PID/maps`: from where to where, and with which rights.
fn mapping(line: &str) -> Option<(std::ops::Range<u64>, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (begin, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(begin)?..number(end)?, rest))
}

impl UserMemory for CallerMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        if into.is_empty() || self.copy_in(address, into)? == into.len() {
            return Ok(());
        }
        let mut rest = into;
        pages(address, rest.len() as u64)?.try_for_each(|(at, len)| {
            let (page, further) = std::mem::take(&mut rest).split_at_mut(len);
            rest = further;
            self.read_reluctant(at, page)
        })
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if from.is_empty() || self.copy_out(address, from)? == from.len() {
            return Ok(());
        }
        let mut rest = from;
        pages(address, rest.len() as u64)?.try_for_each(|(at, len)| {
            let (page, further) = rest.split_at(len);
            rest = further;
            self.write_reluctant(at, page)
        })
    }

    /// Copies all of it to nowhere: page by page it would take many times as long.
    fn probe(&self, address: u64, len: u64) -> Result<(), Errno> {
        let end = address.checked_add(len).ok_or(Errno::EFAULT)?;
        let mut nowhere = [0; PROBED_AT_ONCE];
        let mut pieces = (address..end).step_by(PROBED_AT_ONCE);
        let seen = pieces.try_for_each(|at| {
            let len = nowhere.len().min((end - at) as usize);
            self.read(at, &mut nowhere[..len])
        });
        nowhere.fill(0);
        std::hint::black_box(&nowhere);
        seen
    }
}

/// A stretch of memory page by page: where each piece begins and how long it is.
/// EFAULT when the stretch goes round the end of all addresses.
fn pages(address: u64, len: u64) -> Result<impl Iterator<Item = (u64, usize)>, Errno> {
    let end = address.checked_add(len).ok_or(Errno::EFAULT)?;
    let mut at = address;
    Ok(std::iter::from_fn(move || {
        let piece = (PAGE_LEN - at % PAGE_LEN).min(end - at);
        let begin = at;
        at += piece;
        (piece > 0).then_some((begin, piece as usize))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In memory that may be read and not written.
    static CONSTANT: [u8; 4] = *b"keys";

    fn own() -> CallerMemory {
        CallerMemory::of(nix::unistd::gettid().as_raw() as u32)
    }

    #[test]
    fn what_can_be_read_is_read() {
        let mut copy = [0; 4];
        own().read(CONSTANT.as_ptr() as u64, &mut copy).unwrap();
        assert_eq!(copy, CONSTANT);
        assert_eq!(own().read(8, &mut copy), Err(Errno::EFAULT));
        assert_eq!(own().read(u64::MAX - 2, &mut copy), Err(Errno::EFAULT));
    }

    #[test]
    fn what_may_not_be_written_is_not_written() {
        let mut copy = [0; 4];
        own().write(copy.as_mut_ptr() as u64, b"keys").unwrap();
        assert_eq!(copy, CONSTANT);
        let memory = own();
        assert_eq!(memory.write(CONSTANT.as_ptr() as u64, b"lost"), Err(Errno::EFAULT));
        assert_eq!((memory.barred(), CONSTANT), (None, *b"keys"));
    }

    #[test]
    fn every_page_of_a_long_payload_is_looked_at() {
        let pages = vec![1; 600 * PAGE_LEN as usize];
        let (at, len) = (pages.as_ptr() as u64, pages.len() as u64);
        assert_eq!(own().probe(at, len), Ok(()));
        assert_eq!(own().probe(at, 0), Ok(()));
        assert_eq!(own().probe(8, 0), Ok(()));
        assert_eq!(own().probe(8, 1 << 20), Err(Errno::EFAULT));
        let below = PAGE_LEN - 1;
        assert_eq!(own().probe(below, 1), Err(Errno::EFAULT));
        assert_eq!(own().probe(u64::MAX - 1, 3), Err(Errno::EFAULT));
    }

    #[test]
    fn memory_of_nobody_is_no_fault_of_the_caller() {
        let memory = CallerMemory::of(i32::MAX as u32);
        assert_eq!(memory.read(CONSTANT.as_ptr() as u64, &mut [0]), Err(Errno::EFAULT));
        assert_eq!(memory.barred(), Some(System::ESRCH));
    }
}
