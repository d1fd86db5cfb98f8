//! Made-up memory of a few pages, some missing, some read-only.

use std::cell::RefCell;
use std::collections::BTreeMap;

use keyshim_abi::Errno;
use keyshim_abi::user_memory::UserMemory;
use proptest::prelude::*;

/// Where the pages begin.
pub(crate) const BASE: u64 = 0x10_0000;
/// How many there may be.
pub(crate) const PAGES: usize = 4;
const PAGE_LEN: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    bytes: Vec<u8>,
    writable: bool,
}

/// The pages by their number; where there is none, there is no memory.
pub(crate) type Pages = BTreeMap<u64, Page>;

#[derive(Debug)]
pub(crate) struct Memory(RefCell<Pages>);

fn place(address: u64) -> (u64, usize) {
    (address / PAGE_LEN as u64, address as usize % PAGE_LEN)
}

impl Memory {
    /// That many writable pages of one byte.
    pub(crate) fn filled(byte: u8, pages: u64) -> Memory {
        let page = Page { bytes: vec![byte; PAGE_LEN], writable: true };
        let first = BASE / PAGE_LEN as u64;
        Memory(RefCell::new((first..first + pages).map(|at| (at, page.clone())).collect()))
    }

    pub(crate) fn snapshot(&self) -> Pages {
        self.0.borrow().clone()
    }

    /// The byte there, if there is one.
    pub(crate) fn byte(&self, address: u64) -> Option<u8> {
        let (page, at) = place(address);
        self.0.borrow().get(&page).map(|page| page.bytes[at])
    }

    /// True when every byte is there; asked page by page.
    pub(crate) fn readable(&self, address: u64, len: u64) -> bool {
        let Some(rest) = len.checked_sub(1) else { return true };
        let Some(last) = address.checked_add(rest) else { return false };
        let (first, last) = (place(address).0, place(last).0);
        // More pages than there are cannot all be there.
        let pages = self.0.borrow();
        last - first < 512 && (first..=last).all(|page| pages.contains_key(&page))
    }

    /// What memory would be after a write of `data` and `zeroes` behind it; None
    /// where that cannot be written.
    pub(crate) fn after_write(&self, address: u64, data: &[u8], zeroes: u64) -> Option<Pages> {
        if zeroes > (PAGES * PAGE_LEN) as u64 {
            return None;
        }
        let mut pages = self.snapshot();
        for (at, &byte) in data.iter().chain(&vec![0; zeroes as usize]).enumerate() {
            let (page, offset) = place(address.checked_add(at as u64)?);
            let page = pages.get_mut(&page).filter(|page| page.writable)?;
            page.bytes[offset] = byte;
        }
        Some(pages)
    }
}

impl UserMemory for Memory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        if !self.readable(address, into.len() as u64) {
            return Err(Errno::EFAULT);
        }
        for (at, byte) in into.iter_mut().enumerate() {
            *byte = self.byte(address + at as u64).ok_or(Errno::EFAULT)?;
        }
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        let mut pages = self.0.borrow_mut();
        for (at, &byte) in from.iter().enumerate() {
            let (page, offset) = place(address.checked_add(at as u64).ok_or(Errno::EFAULT)?);
            let page = pages.get_mut(&page).filter(|page| page.writable);
            page.ok_or(Errno::EFAULT)?.bytes[offset] = byte;
        }
        Ok(())
    }
}

/// A page without a NUL, one with a NUL here and there, or one of short strings.
fn any_page() -> impl Strategy<Value = Option<Page>> {
    let nuls = prop::collection::vec(0..PAGE_LEN, 0..4);
    let strings =
        prop::collection::vec(prop_oneof![Just("user"), Just("logon"), Just("ring")], 0..9);
    let bytes =
        (1..=255u8, nuls, strings, 0..PAGE_LEN - 64).prop_map(|(fill, nuls, strings, at)| {
            let mut bytes = vec![fill; PAGE_LEN];
            nuls.into_iter().for_each(|nul| bytes[nul] = 0);
            let text = strings.concat().into_bytes();
            bytes[at..at + text.len()].copy_from_slice(&text);
            bytes[at + text.len()] = 0;
            bytes
        });
    let page = (bytes, any::<bool>()).prop_map(|(bytes, writable)| Some(Page { bytes, writable }));
    prop_oneof![4 => page, 1 => Just(None)]
}

/// Memory with holes; sometimes the very last page of the address space is there.
pub(crate) fn any_memory() -> impl Strategy<Value = Memory> {
    (prop::collection::vec(any_page(), PAGES), any_page()).prop_map(|(pages, last)| {
        let first = BASE / PAGE_LEN as u64;
        let numbered = (first..).zip(pages).chain([(u64::MAX / PAGE_LEN as u64, last)]);
        let there = numbered.filter_map(|(at, page)| page.map(|page| (at, page)));
        Memory(RefCell::new(there.collect()))
    })
}
