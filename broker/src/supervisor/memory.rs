//! The memory of a thread that waits for the answer to a trapped call.
//!
//! `process_vm_readv` and its sibling copy as the kernel copies arguments: they
//! stop at what is not mapped, and at what may not be read or written.

use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};

use keyshim_abi::limits::{ADD_PAYLOAD_LEN_MAX, PAGE_LEN};
use keyshim_abi::{Errno, user_memory::UserMemory};
use nix::errno::Errno as System;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Pages looked at by one system call (`UIO_MAXIOV` and fewer, for the stack's sake).
const PAGES_AT_ONCE: usize = 256;
/// Pages of the longest payload, which need not begin with one.
const PROBED_MAX: usize = (ADD_PAYLOAD_LEN_MAX / PAGE_LEN) as usize + 2;

/// The memory of one thread during one call.
pub(crate) struct CallerMemory {
    tid: Pid,
    /// Why we may not touch it, if so. It is then no EFAULT of the caller's.
    barred: Cell<Option<System>>,
}

impl CallerMemory {
    /// The memory of the thread with that number.
    pub(crate) fn of(tid: u32) -> CallerMemory {
        CallerMemory { tid: Pid::from_raw(tid as i32), barred: Cell::new(None) }
    }

    /// Why the memory could not be touched although the caller itself could: EPERM
    /// for a program that is not to be traced by us, ESRCH when it has gone.
    pub(crate) fn barred(&self) -> Option<System> {
        self.barred.get()
    }

    fn complete(&self, copied: nix::Result<usize>, len: usize) -> Result<(), Errno> {
        match copied {
            Ok(copied) if copied == len => return Ok(()),
            Ok(_) | Err(System::EFAULT) => {}
            Err(errno) => self.barred.set(Some(errno)),
        }
        Err(Errno::EFAULT)
    }
}

impl UserMemory for CallerMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        let len = into.len();
        let theirs = [RemoteIoVec { base: address as usize, len }];
        let copied = process_vm_readv(self.tid, &mut [IoSliceMut::new(into)], &theirs);
        self.complete(copied, len)
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        let theirs = [RemoteIoVec { base: address as usize, len: from.len() }];
        let copied = process_vm_writev(self.tid, &[IoSlice::new(from)], &theirs);
        self.complete(copied, from.len())
    }

    fn probe(&self, address: u64, len: u64) -> Result<(), Errno> {
        let Some(rest) = len.checked_sub(1) else { return Ok(()) };
        let last = address.checked_add(rest).ok_or(Errno::EFAULT)?;
        let next = |at: &u64| (at - at % PAGE_LEN).checked_add(PAGE_LEN).filter(|&at| at <= last);
        let pages: Vec<RemoteIoVec> = std::iter::successors(Some(address), next)
            .take(PROBED_MAX)
            .map(|at| RemoteIoVec { base: at as usize, len: 1 })
            .collect();
        pages.chunks(PAGES_AT_ONCE).try_for_each(|pages| {
            let mut bytes = [0; PAGES_AT_ONCE];
            let mut ours = [IoSliceMut::new(&mut bytes[..pages.len()])];
            self.complete(process_vm_readv(self.tid, &mut ours, pages), pages.len())
        })
    }
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
