//! The key retention service, pure: a request and the present time go in, an
//! answer comes out.
//!
//! The concepts, in the order to read them: a key (`key.rs`) has a payload
//! (`payload.rs`) that its type understands (`key_type.rs`, `types/`); it lies in the
//! store (`store.rs`), is charged to its owner (`quota.rs`), and lives from its
//! creation to its last use (`create.rs`) or until it is collected (`gc.rs`). Keyrings
//! link keys (`links.rs`, `keyring.rs`); tasks and users subscribe to keyrings
//! (`process_keys.rs`, `tasks.rs`). A search walks them (`search.rs`), an id becomes a
//! key by a lookup (`lookup.rs`), a permission is tested (`permission.rs`), and an
//! operation puts these together (`ops/`, one file each). [`KeyService`] is the face.
//!
//! Absent here on purpose: a clock, files, sockets, threads, randomness. Each comes
//! in as a value, so that a recorded list of inputs replays to the same state.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod audit;
mod create;
mod entropy;
mod event;
mod gc;
mod hasher;
mod key;
mod key_type;
mod keyring;
mod links;
mod lookup;
mod names;
mod negative;
mod ops;
mod payload;
mod permission;
mod proc;
mod process_keys;
mod quota;
mod search;
mod service;
mod store;
mod sysctl;
mod tasks;
mod time;
mod types;

pub use audit::Violation;
pub use entropy::{Entropy, SeededEntropy};
pub use event::TaskEvent;
pub use key_type::{KeyType, LinkCheck, Preparsed, ReadKey, RestrictKeyring, Summary, UpdateKey};
pub use links::Links;
pub use negative::Refusal;
pub use payload::{Payload, Secret};
pub use service::{Config, KeyService};
pub use time::Now;
