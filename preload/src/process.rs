//! Whose memory this is.
//!
//! One page holds the process number and the generation of what we keep. A forked
//! child finds it wiped, and so learns that it is a child, without a fork handler
//! (which `_Fork`, `clone` and the system call itself would not run). A vforked
//! child, or any that shares our memory, finds it intact but has another number:
//! it is a guest here and changes nothing.
#![allow(unsafe_code)] // the page, by address

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::{slots, sys};

const PAGE_LEN: usize = 4096;

/// The page, once there is one.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());

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
        /// The parent's generation; 0 while it keeps nothing.
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

/// Whose memory it was at the start, or since the last `fork(3)`. Asked only while
/// there is no page, which is made at the first key call: most programs make none,
/// and a mapping costs every start.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Notes whose memory this is, now and after each `fork(3)`. In the constructor.
pub(crate) fn begin() {
    extern "C" fn note_owner() {
        OWNER.store(sys::getpid(), Ordering::Relaxed);
    }
    note_owner();
    // SAFETY: the handler makes one system call and one store, which any child may.
    unsafe { libc::pthread_atfork(None, None, Some(note_owner)) };
}

/// True when a page may be made: not by a vforked child, whose number its parent
/// would find there. A child by a bare system call is taken for one, which is slow
/// and right, until its parent is gone.
fn may_begin(pid: u32) -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner == 0 || owner == pid || sys::is_process_gone(owner)
}

/// Where the caller stands.
pub(crate) fn standing() -> Standing {
    let pid = sys::getpid();
    if made_page().is_none() && !may_begin(pid) {
        return Standing::Guest { generation: 0 };
    }
    let Some(page) = page() else { return Standing::Nowhere };
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

/// True when this process, and not only a parent of its, has talked to the broker.
pub(crate) fn has_attached() -> bool {
    own_generation().is_some_and(|(generation, _)| slots::have_attached(generation, |_| true))
}

/// True when this is not the main thread, and such a one has talked to the broker.
pub(crate) fn has_attached_aside() -> bool {
    own_generation().is_some_and(|(generation, pid)| {
        sys::gettid() != pid && slots::have_attached(generation, |tid| tid != pid)
    })
}

/// The generation and the process, if the memory is its own and has anything kept.
fn own_generation() -> Option<(u32, u32)> {
    let (generation, owner) = unpack(made_page()?.load(Ordering::Acquire));
    (owner == sys::getpid()).then_some((generation, owner))
}

fn page() -> Option<&'static AtomicU64> {
    made_page().or_else(|| {
        let address = sys::map(PAGE_LEN).ok()?;
        // An old kernel refuses: then a forked child counts as a guest, which is slow
        // and right.
        let _ = sys::wipe_on_fork(address, PAGE_LEN);
        let page = address as *mut AtomicU64;
        // SAFETY: mapped above, aligned to its page, and all zeroes is a value.
        unsafe { &*page }.store(pack(1, sys::getpid()), Ordering::Release);
        GENERATION.fetch_max(1, Ordering::AcqRel);
        let none = core::ptr::null_mut();
        if PAGE.compare_exchange(none, page, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: mapped above with this length; another thread was quicker, and
            // nobody has seen this one.
            unsafe { sys::unmap(address, PAGE_LEN) };
        }
        made_page()
    })
}

fn made_page() -> Option<&'static AtomicU64> {
    // SAFETY: null, or a mapping that is never given back, only ever used as an atomic.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

const fn pack(generation: u32, pid: u32) -> u64 {
    (generation as u64) << 32 | pid as u64
}

const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
