//! What Linux says about keys, and nothing of what it does.
//!
//! Read in this order: [`uapi`] (the numbers), [`limits`] (every bound),
//! [`errno`], [`serial`] and [`perm`] (the small values), [`caller`] (who asks),
//! [`request`] and [`reply`] (one system call taken apart), [`ops`] (the table of
//! operations and how far each is supported), [`user_memory`] and [`marshal`]
//! (from registers to a request and back), [`frame`] (the same as bytes).
//!
//! Absent here on purpose: behaviour. No permission is tested, no key is looked
//! up, nothing is read from a clock, a file or a socket; the crate is `no_std`,
//! allocates nothing outside tests and forbids unsafe code.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod caller;
pub mod errno;
pub mod frame;
pub mod gate;
pub mod limits;
pub mod marshal;
pub mod ops;
pub mod perm;
pub mod procfs;
pub mod reply;
pub mod request;
pub mod serial;
pub mod uapi;
pub mod user_memory;

pub use errno::Errno;
pub use perm::{Need, Perm};
pub use reply::Reply;
pub use request::{Fetched, Payload, Request};
pub use serial::{KeyId, Serial};
