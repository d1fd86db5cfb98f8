//! The service through its face: what the kernel's tables say of negative keys, key
//! types that come and go, user namespaces, serials, the collector, upcalls, the face for
//! services, and cost.

// Helpers of tests are not tests by the lint's lights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "service/world.rs"]
mod world;

#[path = "service/collector.rs"]
mod collector;
#[path = "service/determinism.rs"]
mod determinism;
#[path = "service/key_types.rs"]
mod key_types;
#[path = "service/namespaces.rs"]
mod namespaces;
#[path = "service/negative.rs"]
mod negative;
#[path = "service/profile.rs"]
mod profile;
#[path = "service/scale.rs"]
mod scale;
#[path = "service/services.rs"]
mod services;
#[path = "service/tasks.rs"]
mod tasks;
#[path = "service/upcalls.rs"]
mod upcalls;
