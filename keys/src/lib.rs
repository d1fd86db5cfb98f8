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
//! operation puts these together (`ops/`, one file each). A key that is requested and not
//! there is made (`construction.rs`) and finished (`completion.rs`) by somebody with the
//! authority to do so (`auth.rs`), while calls wait (`waiting.rs`). [`KeyService`] is the
//! face for callers, with answers and effects (`effect.rs`); `services.rs` is that for
//! services in the same program. What differs from kernel to kernel is in `profile.rs`.
//!
//! Absent here on purpose: a clock, files, sockets, threads, randomness. Each comes
//! in as a value, so that a recorded list of inputs replays to the same state.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod audit;
mod auth;
mod completion;
mod construction;
mod create;
mod credentials;
mod effect;
mod entropy;
mod event;
mod gc;
mod hasher;
mod held;
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
pub mod profile;
mod quota;
mod residents;
mod search;
mod service;
mod services;
mod store;
mod sysctl;
mod task_keyrings;
mod tasks;
mod time;
mod types;
mod view;
mod waiting;

pub use audit::Violation;
pub use auth::Authority;
pub use effect::{CallId, Data, Effect, Outcome, Upcall, UpcallId};
pub use entropy::{Entropy, SeededEntropy};
pub use event::TaskEvent;
pub use held::HeldKey;
pub use key_type::{
    KeyType, LinkCheck, Made, MakeKey, Match, Preparsed, ReadKey, Requested, RestrictKeyring,
    Summary, UpdateKey,
};
pub use links::Links;
pub use negative::Refusal;
pub use payload::{Payload, Secret};
pub use profile::Profile;
pub use service::{Config, KeyService, Upcalls};
pub use services::{KeyInfo, KeyRequest};
pub use time::Now;
pub use view::{About, Standing, View};
