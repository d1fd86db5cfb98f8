//! Where a history takes place: the pure core, or the tasks of actors whose calls
//! reach the kernel, or, with the library preloaded, keyshim's broker.

pub mod actor;
pub mod core;
pub mod kernel;
pub mod run;
pub mod stand_in;
pub mod unrest;
pub mod upcall;

use anyhow::Result;

use crate::step::Which;
use crate::wire::{Register, Report};

/// What an actor does, with every name resolved for its world.
#[derive(Debug, Clone)]
pub enum Deed {
    /// One of the three calls: which, and its registers.
    Call(u8, Vec<Register>),
    /// A new process of that name.
    Fork(String),
    /// A new thread of that name.
    Thread(String),
    /// The same program anew.
    Exec,
    /// The end of the thread, or with the main thread of the process.
    Exit,
    /// Ids of this thread.
    SetIds(Which, [u32; 3]),
    /// Supplementary groups of this thread.
    SetGroups(Vec<u32>),
    /// A text under `/proc`.
    Open(ProcText),
    /// What the call gives in which the actor waits.
    Answer,
    /// A signal to the actor, which waits in a call.
    Interrupt,
    /// The arguments that a helper was started with.
    Arguments,
    /// So many seconds.
    Wait(u32),
}

/// A text under `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcText {
    /// `/proc/keys`.
    Keys,
    /// `/proc/key-users`.
    KeyUsers,
    /// `/proc/thread-self/status`.
    Status,
}

/// A world.
pub trait World {
    /// Does what the actor is told. An error is a fault of the world: whatever the
    /// key service answers is in the report.
    fn act(&mut self, actor: &str, deed: &Deed) -> Result<Report>;

    /// True when the actor lives; `waiting` for one that waits in a call, and can do
    /// nothing but that, or for one that does not.
    fn is_there(&self, actor: &str, waiting: bool) -> bool;

    /// Waits until what earlier steps began has come to its end.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes it that second, where the world's clock is ours to set; waits for it
    /// where it is not. False when that second has passed already.
    fn reach(&mut self, second: i64) -> Result<bool>;

    /// The first id of the history's users, less one.
    fn id_base(&self) -> u32;

    /// True when listings of some keyring, now or before, are in no defined order.
    fn disordered(&self) -> bool {
        false
    }
}
