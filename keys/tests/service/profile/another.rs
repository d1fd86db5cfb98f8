//! A third profile, as docs/PROFILES.md says how one is added: another constant, and every
//! point that it does not name is that of its neighbour.

use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::{Errno, KeyId, Request};
use keyshim_keys::Profile;
use keyshim_keys::profile::Serials;

use super::{A, link};
use crate::world::World;

/// A Linux of 2011, say: as today, but without INVALIDATE, and with small quotas.
const LINUX_3_0: Profile = Profile {
    name: "linux-3.0",
    last_operation: op::INSTANTIATE_IOV,
    serials: Serials::Sequential,
    maxkeys: 4,
    ..Profile::LINUX_6
};

#[test]
fn a_third_profile_is_one_more_constant() {
    let mut world = World::profiled(LINUX_3_0);
    assert_eq!(world.service.profile().name, "linux-3.0");
    let session = world.join(A, None);
    assert_eq!(session, KeyId(3), "what it says itself");
    let key = world.key(A, "user", "k", session);
    assert_eq!(world.answer(A, &Request::Invalidate { key }), Err(Errno::EOPNOTSUPP));
    assert_eq!(
        world.describe(A, key).unwrap(),
        "user;1000;1000;3f010000;k",
        "and what it does not"
    );
    assert_eq!(world.answer(A, &link(session, session)), Err(Errno::EDEADLK));
    assert!((0..4).any(|n| world.add(A, "user", &n.to_string(), session) == Err(Errno::EDQUOT)));
}

#[test]
fn profiles_do_not_meet() {
    let [mut third, mut today] = [LINUX_3_0, Profile::LINUX_6].map(World::profiled);
    let session = KeyId::SESSION;
    let [_, key] = [&mut third, &mut today].map(|world| {
        world.join(A, None);
        world.key(A, "user", "k", session)
    });
    assert_eq!(today.answer(A, &Request::Invalidate { key }), Ok(0));
}
