//! What each thread keeps: its connection, its token, its scratch memory.
//!
//! A table of atomics found by `pthread_self`, without locks (a fork may come at any
//! time) and without thread-local storage (which would cost every start and need an
//! allocator). A slot belongs to its thread; others touch it only when that thread
//! is gone, or when it was a parent's.
#![allow(unsafe_code)] // the later chunks of the table, and kept scratch, by address

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use keyshim_abi::frame::{Origin, Token};

use crate::fault::Fault;
use crate::scratch::{KEPT_LEN, Scratch};
use crate::socket::Socket;
use crate::sys;

const UNKNOWN: u32 = 0;
const SAME: u32 = 1;
const FORKED: u32 = 2;

/// One thread's.
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// `pthread_self`, 0 while free. Never goes back to 0, so that a search may stop there.
    thread: AtomicUsize,
    /// The generation while a call is under way; anything else means idle.
    busy: AtomicU32,
    /// The generation that the rest belongs to.
    generation: AtomicU32,
    tid: AtomicU32,
    /// How `token` is to be shown at the next attaching.
    origin: AtomicU32,
    /// A packed [`Socket`].
    socket: AtomicU64,
    token: [AtomicU64; 2],
    /// Address of [`KEPT_LEN`] bytes, or 0.
    scratch: AtomicUsize,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            thread: AtomicUsize::new(0),
            busy: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            tid: AtomicU32::new(0),
            origin: AtomicU32::new(UNKNOWN),
            socket: AtomicU64::new(0),
            token: [AtomicU64::new(0), AtomicU64::new(0)],
            scratch: AtomicUsize::new(0),
        }
    }

    /// Begins a call; false when one is under way on this slot already.
    pub(crate) fn enter(&self, generation: u32) -> bool {
        let seen = self.busy.load(Relaxed);
        seen != generation && self.busy.compare_exchange(seen, generation, Acquire, Relaxed).is_ok()
    }

    /// Ends it.
    pub(crate) fn leave(&self) {
        self.busy.store(0, Release);
    }

    /// Fits the slot to the thread that has entered it: it may have been a
    /// parent's, or that of a thread which died and left its address to this one.
    pub(crate) fn fit(&self, generation: u32, pid: u32, tid: u32) {
        if self.generation.load(Acquire) != generation {
            self.let_go(self.socket.load(Acquire));
            // Only the thread that forked goes on in the child, as its first.
            let next =
                if tid == pid && self.origin.load(Relaxed) != UNKNOWN { FORKED } else { UNKNOWN };
            self.origin.store(next, Relaxed);
            self.tid.store(tid, Relaxed);
            self.generation.store(generation, Release);
        } else if self.tid.load(Relaxed) != tid {
            self.let_go(self.socket.load(Acquire));
            self.origin.store(UNKNOWN, Relaxed);
            self.tid.store(tid, Relaxed);
        }
    }

    /// True when that thread is the one which uses the slot.
    pub(crate) fn is_of(&self, generation: u32, tid: u32) -> bool {
        self.generation.load(Acquire) == generation && self.tid.load(Relaxed) == tid
    }

    /// True when the slot's contents are of that generation.
    pub(crate) fn is_current(&self, generation: u32) -> bool {
        self.generation.load(Acquire) == generation
    }

    /// Where the thread comes from, for its next attaching. `None` for one that
    /// has never attached, nor the one that forked it.
    pub(crate) fn origin(&self) -> Option<Origin> {
        match self.origin.load(Relaxed) {
            SAME => Some(Origin::Same(self.token())),
            FORKED => Some(Origin::ForkedBy(self.token())),
            _ => None,
        }
    }

    fn token(&self) -> Token {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.token[0].load(Relaxed).to_ne_bytes());
        bytes[8..].copy_from_slice(&self.token[1].load(Relaxed).to_ne_bytes());
        Token(bytes)
    }

    /// The connection, if there is one and the program has not closed it.
    pub(crate) fn socket(&self) -> Option<Socket> {
        let packed = self.socket.load(Acquire);
        let socket = Socket::unpacked(packed)?;
        if socket.is_ours() {
            return Some(socket);
        }
        let _ = self.socket.compare_exchange(packed, 0, AcqRel, Relaxed);
        None
    }

    /// Keeps a new connection and the token that came with it.
    pub(crate) fn keep(&self, socket: Socket, token: Token) {
        let [low, high] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&token.0[at..at + 8]);
            u64::from_ne_bytes(half)
        });
        self.token[0].store(low, Relaxed);
        self.token[1].store(high, Relaxed);
        self.origin.store(SAME, Relaxed);
        self.socket.store(socket.packed(), Release);
    }

    /// Ends the connection.
    pub(crate) fn disconnect(&self) {
        self.let_go(self.socket.load(Acquire));
    }

    /// Closes that connection unless somebody else has taken it out meanwhile.
    fn let_go(&self, packed: u64) {
        if packed != 0 && self.socket.compare_exchange(packed, 0, AcqRel, Relaxed).is_ok() {
            Socket::unpacked(packed).into_iter().for_each(Socket::close);
        }
    }

    /// The memory that this thread keeps. Only between `enter` and `leave`.
    pub(crate) fn scratch(&self) -> Result<Scratch, Fault> {
        let mut address = self.scratch.load(Relaxed);
        if address == 0 {
            address = sys::map(KEPT_LEN).map_err(|_| Fault::NoRoom)?;
            self.scratch.store(address, Relaxed);
        }
        // SAFETY: mapped above with this length and never given back; the slot was
        // entered, so no other call uses it.
        Ok(unsafe { Scratch::kept(address) })
    }
}

/// Slots of the first chunk, which needs no mapping.
const FIRST_LEN: usize = 64;
/// Slots of the later chunks, each mapped when the ones before it are full.
const LATER_LENS: [usize; 3] = [512, 4096, 32768];
/// How many slots, from the one that its hash names, a thread may use.
const WINDOW_LEN: usize = 16;

static FIRST: [Slot; FIRST_LEN] = [const { Slot::new() }; FIRST_LEN];
static LATER: [AtomicPtr<Slot>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// A chunk after the first, if it exists.
fn later(index: usize) -> Option<&'static [Slot]> {
    let slots = LATER[index].load(Acquire);
    if slots.is_null() {
        return None;
    }
    // SAFETY: a mapping of that many slots, never given back; zeroes are free slots.
    Some(unsafe { core::slice::from_raw_parts(slots, LATER_LENS[index]) })
}

/// Maps a chunk, unless another thread is quicker.
fn make_later(index: usize) -> Option<&'static [Slot]> {
    let len = LATER_LENS[index] * size_of::<Slot>();
    if LATER[index].load(Acquire).is_null() {
        let address = sys::map(len).ok()?;
        let none = core::ptr::null_mut();
        if LATER[index].compare_exchange(none, address as *mut Slot, AcqRel, Acquire).is_err() {
            // SAFETY: just mapped with this length and shown to nobody.
            unsafe { sys::unmap(address, len) };
        }
    }
    later(index)
}

/// The slots of a chunk that a thread may use, in order.
fn window(chunk: &'static [Slot], thread: usize) -> impl Iterator<Item = &'static Slot> {
    // Thread descriptors lie a page or more apart.
    let hash = (thread >> 6).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> 32;
    (0..WINDOW_LEN).map(move |step| &chunk[(hash + step) % chunk.len()])
}

/// The slot of a thread that has one.
pub(crate) fn find(thread: usize) -> Option<&'static Slot> {
    let chunks = core::iter::once(Some(&FIRST[..])).chain((0..LATER.len()).map(later));
    for chunk in chunks.map_while(|chunk| chunk) {
        for slot in window(chunk, thread) {
            match slot.thread.load(Acquire) {
                0 => return None,
                found if found == thread => return Some(slot),
                _ => {}
            }
        }
    }
    None
}

/// A slot for a thread that has none: a free one, or that of a thread which is
/// gone. `None` when there are more threads than slots.
pub(crate) fn claim(thread: usize, generation: u32, pid: u32) -> Option<&'static Slot> {
    let chunks = core::iter::once(Some(&FIRST[..])).chain((0..LATER.len()).map(make_later));
    chunks
        .map_while(|chunk| chunk)
        .flat_map(|chunk| window(chunk, thread))
        .find(|slot| take_over(slot, thread, generation, pid))
}

/// Makes that slot the thread's, if it is free or its thread is gone.
fn take_over(slot: &Slot, thread: usize, generation: u32, pid: u32) -> bool {
    let former = slot.thread.load(Acquire);
    if former != 0 {
        let is_orphan = slot.is_current(generation) && sys::is_gone(pid, slot.tid.load(Relaxed));
        if !is_orphan || !slot.enter(generation) {
            return false;
        }
    }
    let taken = slot.thread.compare_exchange(former, thread, AcqRel, Relaxed).is_ok();
    if former != 0 {
        slot.leave();
    }
    taken
}

/// True when a thread of this process with such a number has talked to the broker.
pub(crate) fn have_attached(generation: u32, is_meant: impl Fn(u32) -> bool) -> bool {
    let chunks = core::iter::once(Some(&FIRST[..])).chain((0..LATER.len()).map(later));
    let mut slots = chunks.map_while(|chunk| chunk).flatten();
    slots.any(|slot| {
        slot.is_current(generation)
            && slot.origin.load(Relaxed) == SAME
            && is_meant(slot.tid.load(Relaxed))
    })
}

/// Closes every connection that was inherited from a parent. Its threads do not
/// exist here, and a copy held open would hide from the broker that one has ended.
pub(crate) fn let_parents_go(generation: u32) {
    let chunks = core::iter::once(Some(&FIRST[..])).chain((0..LATER.len()).map(later));
    for slot in chunks.map_while(|chunk| chunk).flatten() {
        let packed = slot.socket.load(Acquire);
        if packed != 0 && !slot.is_current(generation) {
            slot.let_go(packed);
        }
    }
}
