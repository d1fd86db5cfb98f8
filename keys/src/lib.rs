//! The key retention service, pure: a request and the present time go in, an
//! answer comes out.
//!
//! Absent here on purpose: a clock, files, sockets, threads, randomness. Each comes
//! in as a value, so that a recorded list of inputs replays to the same state.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod event;
mod service;
mod time;

pub use event::TaskEvent;
pub use service::{Config, Entropy, KeyService};
pub use time::Now;
