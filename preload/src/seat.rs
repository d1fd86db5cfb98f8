//! The place from which one call talks to the broker.
//!
//! Usually the thread's slot. A caller that must not touch the slot, a guest in its
//! parent's memory or a call within a call, has a place of its own for the time.

use keyshim_abi::frame::Origin;

use crate::door;
use crate::fault::Fault;
use crate::process::{self, Standing};
use crate::quiet::Quiet;
use crate::scratch::{KEPT_LEN, Scratch};
use crate::slots::{self, Slot};
use crate::socket::Socket;
use crate::sys;

/// One call's place.
pub(crate) enum Seat {
    /// The thread's own slot, entered.
    Kept(&'static Slot),
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
        let thread = thread();
        match process::standing() {
            Standing::Home { generation, pid, is_new } => {
                let seat = Seat::at_home(thread, generation, pid);
                if is_new {
                    slots::let_parents_go(generation);
                }
                seat
            }
            Standing::Guest { generation } => {
                Seat::Passing { origin: guest_origin(thread, generation), socket: None, is_home: false }
            }
            Standing::Nowhere => {
                Seat::Passing { origin: Origin::Fresh, socket: None, is_home: false }
            }
        }
    }

    fn at_home(thread: usize, generation: u32, pid: u32) -> Seat {
        let tid = sys::gettid();
        let slot = slots::find(thread).or_else(|| slots::claim(thread, generation, pid));
        if let Some(slot) = slot.filter(|slot| slot.enter(generation)) {
            slot.fit(generation, pid, tid);
            return Seat::Kept(slot);
        }
        let same = slot.filter(|slot| slot.is_of(generation, tid));
        let origin = same.map_or(Origin::Fresh, Slot::origin);
        Seat::Passing { origin, socket: None, is_home: true }
    }

    /// The connection, made when there is none. NoBroker when nobody answers.
    pub(crate) fn connect(&mut self, quiet: &Quiet) -> Result<Socket, Fault> {
        match self {
            Seat::Kept(slot) => {
                if let Some(socket) = slot.socket() {
                    return Ok(socket);
                }
                let (socket, token) = door::attach(slot.origin(), true, quiet)?;
                slot.keep(socket, token);
                Ok(socket)
            }
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
            Seat::Kept(slot) => slot.disconnect(),
            Seat::Passing { socket, .. } => socket.take().into_iter().for_each(Socket::close),
        }
    }

    /// Memory of at least that many bytes.
    pub(crate) fn scratch(&self, len: usize) -> Result<Scratch, Fault> {
        match self {
            Seat::Kept(slot) if len <= KEPT_LEN => slot.scratch(),
            _ => Scratch::mapped(len),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self {
            Seat::Kept(slot) => slot.leave(),
            Seat::Passing { .. } => self.disconnect(),
        }
    }
}

/// A child in its parent's memory finds the parent's slot under its own address.
fn guest_origin(thread: usize, generation: u32) -> Origin {
    let parent = slots::find(thread).filter(|slot| slot.is_current(generation));
    match parent.map(Slot::origin) {
        Some(Origin::Same(token)) => Origin::ForkedBy(token),
        Some(origin) => origin,
        None => Origin::Fresh,
    }
}

/// What tells the threads of this process apart.
fn thread() -> usize {
    crate::real::thread()
}
