//! What the profile `linux-2.6.10` does otherwise. The number in the name of a test is the
//! row of the seed document that it holds (docs/SEED.md).

#[path = "profile/basics.rs"]
mod basics;
#[path = "profile/lives.rs"]
mod lives;
#[path = "profile/lookups.rs"]
mod lookups;
#[path = "profile/procfs.rs"]
mod procfs;
#[path = "profile/rings.rs"]
mod rings;
#[path = "profile/tasks.rs"]
mod tasks;
#[path = "profile/upcalls.rs"]
mod upcalls;

use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_keys::Profile;

use crate::world::{Who, World};

/// A user without any right, and another one.
const A: Who = Who::user(1, 1000);

/// A domain as the document says.
fn old() -> World {
    World::profiled(Profile::LINUX_2_6_10)
}

/// Another user without any right.
const B: Who = Who::user(2, 1001);

/// One with the bugs of the time, too.
fn quirky() -> World {
    World::profiled(Profile::LINUX_2_6_10_QUIRKS)
}

fn link(key: KeyId, keyring: KeyId) -> Request<'static> {
    Request::Link { key, keyring }
}

fn read(key: KeyId) -> Request<'static> {
    Request::Read { key, room: Some(64) }
}

/// add_key as it is, NULLs and all.
fn add(
    type_name: &'static [u8],
    description: Option<&'static [u8]>,
    payload: &'static [u8],
    keyring: KeyId,
) -> Request<'static> {
    let (type_name, description) = (Ok(type_name), description.map(Ok));
    Request::AddKey { type_name, description, payload: Payload::Carried(payload), keyring }
}

fn serial(key: KeyId) -> Answer {
    Ok(key.0.unsigned_abs())
}

const NO_KEY: Answer = Err(Errno::ENOKEY);
