//! What the profile `linux-2.6.10` does otherwise. The number in the name of a test is the
//! row of the seed document that it holds (docs/SEED.md).

#[path = "profile/basics.rs"]
mod basics;

use keyshim_keys::Profile;

use crate::world::{Who, World};

/// A user without any right, and another one.
const A: Who = Who::user(1, 1000);

/// A domain as the document says.
fn old() -> World {
    World::profiled(Profile::LINUX_2_6_10)
}
