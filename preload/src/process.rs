//! Whose memory this is.
//!
//! One page holds the process number and the generation of what we keep. A forked
//! child finds it wiped, and so learns that it is a child, without a fork handler
//! (which `_Fork`, `clone` and the system call itself would not run). A vforked
//! child, or any that shares our memory, finds it intact but has another number:
//! it is a guest here and changes nothing.
#![allow(unsafe_code)] // the page, by address

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceNonZeroUsize;

use crate::sys;

const PAGE_LEN: usize = 4096;

/// Address of the page.
static PAGE: OnceNonZeroUsize = OnceNonZeroUsize::new();

/// The generation again, in memory that a child inherits: it counts on from there.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// In which way the caller is at home here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The memory is its process's own.
    Home {
        /// What is kept under another generation was a parent's.
        generation: u32,
        /// Its process.
        pid: u32,
        /// True for the call that found this out: what was a parent's must be let go.
        is_new: bool,
    },
    /// The memory is its parent's, which goes on using it.
    Guest {
        /// The parent's generation.
        generation: u32,
    },
    /// Nothing can be kept: there is no memory for it.
    Nowhere,
}

/// True when a thread of this program image has attached.
static IS_ANNOUNCED: AtomicBool = AtomicBool::new(false);

/// True for one caller in the life of a program image, the first: only that one
/// tells the broker of a fresh image, for it would forget keyrings at the second.
pub(crate) fn announce(generation: u32) -> bool {
    generation == 1 && !IS_ANNOUNCED.swap(true, Ordering::AcqRel)
}

/// Takes that back, where the broker could not be told.
pub(crate) fn is_unannounced() {
    IS_ANNOUNCED.store(false, Ordering::Release);
}

/// Begins the first generation. In the constructor, so that a vforked child can
/// never be the first to come here.
pub(crate) fn begin() {
    let _ = page();
}

/// Where the caller stands.
pub(crate) fn standing() -> Standing {
    let Some(page) = page() else { return Standing::Nowhere };
    let pid = sys::getpid();
    let mut is_new = false;
    loop {
        let word = page.load(Ordering::Acquire);
        let (generation, owner) = unpack(word);
        let orphaned = word != 0 && owner != pid && sys::is_process_gone(owner);
        if word == 0 || orphaned {
            let next = pack(GENERATION.load(Ordering::Acquire).wrapping_add(1).max(1), pid);
            let taken = page.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire);
            is_new |= taken.is_ok();
        } else if owner == pid {
            // Before anything is kept under it, so that no child counts it again.
            GENERATION.fetch_max(generation, Ordering::AcqRel);
            return Standing::Home { generation, pid, is_new };
        } else {
            return Standing::Guest { generation };
        }
    }
}

fn page() -> Option<&'static AtomicU64> {
    let address = PAGE.get_or_try_init(|| {
        let address = sys::map(PAGE_LEN).ok().and_then(NonZeroUsize::new).ok_or(())?;
        // An old kernel refuses: then a forked child counts as a guest, which is slow
        // and right.
        let _ = sys::wipe_on_fork(address.get(), PAGE_LEN);
        // SAFETY: as below.
        let word = unsafe { &*(address.get() as *const AtomicU64) };
        GENERATION.store(1, Ordering::Release);
        word.store(pack(1, sys::getpid()), Ordering::Release);
        Ok::<_, ()>(address)
    });
    // SAFETY: a mapping that is never given back, aligned to its page; the word is
    // only ever used as an atomic.
    address.ok().map(|address| unsafe { &*(address.get() as *const AtomicU64) })
}

const fn pack(generation: u32, pid: u32) -> u64 {
    (generation as u64) << 32 | pid as u64
}

const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
