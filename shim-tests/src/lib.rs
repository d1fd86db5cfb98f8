//! The same behaviour, everywhere it can run.
//!
//! Read in this order: [`verb`] (every call as a row of a table), [`step`] (one
//! line of a history), [`script`] (histories as text), [`world`] (where a history
//! can take place), [`trace`] (what was seen, with serials renamed), [`model`]
//! (the tasks' credentials as the history makes them), [`workload`] (histories
//! from a seed), [`differential`] (the same history in two worlds), [`shrink`].
//! [`programs`] compiles and runs those of `programs/`; [`desk`] reads `/proc` for
//! actors under the supervisor.
//!
//! Absent here on purpose: any knowledge of what a key operation should answer.
//! The kernel says it, or a script that the kernel has passed.

pub mod campaign;
pub mod desk;
pub mod differential;
pub mod model;
pub mod programs;
pub mod script;
pub mod shrink;
pub mod step;
pub mod trace;
pub mod verb;
pub mod wire;
pub mod workload;
pub mod world;
