//! The place from which one call talks to the broker.
//!
//! Usually the thread's slot. A caller that must not touch the slot, a guest in its
//! parent's memory or a call within a call, has a place of its own for the time.

use keyshim_abi::frame::{Origin, Token};

use crate::door;
use crate::fault::Fault;
use crate::process::{self, Standing};
use crate::quiet::Quiet;
use crate::real;
use crate::scratch::{KEPT_LEN, Scratch};
use crate::slots::{self, Slot};
use crate::socket::Socket;
use crate::sys;

/// What a thread says that knows no other, and is no fresh program image: the
/// broker looks for its process, and else for its parents.
const OF_THIS_PROCESS: Origin = Origin::ForkedBy(Token([0; 16]));

/// One call's place.
pub(crate) enum Seat {
    /// The thread's own slot, entered.
    Kept {
        /// The slot.
        slot: &'static Slot,
        /// What it holds belongs to this.
        generation: u32,
    },
    /// For this call only.
    Passing {
        /// Where the caller comes from.
        origin: Origin,
        /// Its connection, once made.
        socket: Option<Socket>,
        /// True when the memory is the caller's own, and the door may be remade in it.
        is_home: bool,
    },
}

impl Seat {
    /// Finds the caller's place.
    pub(crate) fn take() -> Seat {
        let thread = real::thread();
        match process::standing() {
            Standing::Home { generation, pid, is_new } => {
                let seat = Seat::at_home(thread, generation, pid);
                if is_new {
                    slots::let_parents_go(generation);
                }
                seat
            }
            Standing::Guest { generation } => Seat::Passing {
                origin: guest_origin(thread, generation),
                socket: None,
                is_home: false,
            },
            Standing::Nowhere => {
                Seat::Passing { origin: OF_THIS_PROCESS, socket: None, is_home: false }
            }
        }
    }

    fn at_home(thread: usize, generation: u32, pid: u32) -> Seat {
        let tid = sys::gettid();
        let slot = slots::find(thread).or_else(|| slots::claim(thread, generation, pid));
        if let Some(slot) = slot.filter(|slot| slot.enter(generation)) {
            slot.fit(generation, pid, tid);
            return Seat::Kept { slot, generation };
        }
        let same = slot.filter(|slot| slot.is_of(generation, tid));
        let origin = same.and_then(Slot::origin).unwrap_or(OF_THIS_PROCESS);
        Seat::Passing { origin, socket: None, is_home: true }
    }

    /// The connection, made when there is none. NoBroker when nobody answers.
    pub(crate) fn connect(&mut self, quiet: &Quiet) -> Result<Socket, Fault> {
        match self {
            Seat::Kept { slot, generation } => match slot.socket() {
                Some(socket) => Ok(socket),
                None => attach_kept(slot, *generation, quiet),
            },
            Seat::Passing { socket: Some(socket), .. } => Ok(*socket),
            Seat::Passing { origin, socket, is_home } => {
                let (made, _) = door::attach(*origin, *is_home, quiet)?;
                Ok(*socket.insert(made))
            }
        }
    }

    /// Ends the connection, after which another may be made.
    pub(crate) fn disconnect(&mut self) {
        match self {
            Seat::Kept { slot, .. } => slot.disconnect(),
            Seat::Passing { socket, .. } => socket.take().into_iter().for_each(Socket::close),
        }
    }

    /// Memory of at least that many bytes.
    pub(crate) fn scratch(&self, len: usize) -> Result<Scratch, Fault> {
        match self {
            Seat::Kept { slot, .. } if len <= KEPT_LEN => slot.scratch(),
            _ => Scratch::mapped(len),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self {
            Seat::Kept { slot, .. } => slot.leave(),
            Seat::Passing { .. } => self.disconnect(),
        }
    }
}

/// The first thread of a program image says that it is fresh.
fn attach_kept(slot: &Slot, generation: u32, quiet: &Quiet) -> Result<Socket, Fault> {
    let known = slot.origin();
    let is_first = known.is_none() && process::announce(generation);
    let unknown = if is_first { Origin::Fresh } else { OF_THIS_PROCESS };
    let attached = door::attach(known.unwrap_or(unknown), true, quiet);
    if attached.is_err() && is_first {
        process::is_unannounced();
    }
    let (socket, token) = attached?;
    slot.keep(socket, token);
    Ok(socket)
}

/// A child in its parent's memory finds the parent's slot under its own address.
fn guest_origin(thread: usize, generation: u32) -> Origin {
    let parent = slots::find(thread).filter(|slot| slot.is_current(generation));
    match parent.and_then(Slot::origin) {
        Some(Origin::Same(token) | Origin::ForkedBy(token)) => Origin::ForkedBy(token),
        Some(Origin::Fresh) | None => OF_THIS_PROCESS,
    }
}
