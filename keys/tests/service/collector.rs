//! When keys go whose time has come: `gc_delay` seconds after, not before.

use keyshim_abi::procfs::Knob;
use keyshim_abi::{Errno, KeyId, Request};
use keyshim_keys::Now;

use crate::world::{Who, World};

const WHO: Who = Who::user(1, 1000);

fn world() -> World {
    let mut world = World::new();
    world.join(WHO, None);
    world
}

#[test]
fn an_expired_key_is_there_one_second_before_the_delay_is_over_and_gone_after() {
    for delay_s in [300, 7, 1] {
        let mut world = world();
        world.set(Knob::GcDelay, &delay_s.to_string());
        let key = world.key(WHO, "user", "brief", KeyId::SESSION);
        assert_eq!(world.answer(WHO, &Request::SetTimeout { key, timeout_s: 5 }), Ok(0));
        assert_eq!(world.service.next_collection(), Some(Now(1_000_000 + 5 + delay_s)));
        world.pass(4);
        assert!(world.describe(WHO, key).is_ok());
        world.pass(1);
        assert_eq!(world.describe(WHO, key), Err(Errno::EKEYEXPIRED));
        world.pass(delay_s as u32 - 1);
        assert_eq!(world.describe(WHO, key), Err(Errno::EKEYEXPIRED), "delay {delay_s}");
        assert_eq!(world.links(WHO, KeyId::SESSION), [key]);
        world.pass(1);
        assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY), "delay {delay_s}");
        assert_eq!(world.links(WHO, KeyId::SESSION), []);
        assert_eq!(world.service.next_collection(), None);
    }
}

#[test]
fn a_revoked_key_is_collected_the_delay_after_its_revocation() {
    let mut world = world();
    let key = world.key(WHO, "user", "gone", KeyId::SESSION);
    world.pass(1000);
    assert_eq!(world.answer(WHO, &Request::Revoke { key }), Ok(0));
    world.pass(299);
    assert_eq!(world.describe(WHO, key), Err(Errno::EKEYREVOKED));
    world.pass(1);
    assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY));
}

#[test]
fn without_a_delay_the_key_goes_the_second_that_it_expires() {
    let mut world = world();
    world.set(Knob::GcDelay, "0");
    let key = world.key(WHO, "user", "brief", KeyId::SESSION);
    assert_eq!(world.answer(WHO, &Request::SetTimeout { key, timeout_s: 2 }), Ok(0));
    world.pass(1);
    assert!(world.describe(WHO, key).is_ok());
    world.pass(1);
    assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY));
}

#[test]
fn a_timeout_that_was_cleared_collects_nothing() {
    let mut world = world();
    let key = world.key(WHO, "user", "kept", KeyId::SESSION);
    for timeout_s in [5, 0] {
        assert_eq!(world.answer(WHO, &Request::SetTimeout { key, timeout_s }), Ok(0));
    }
    assert_eq!(world.service.next_collection(), None);
    world.pass(1_000_000);
    assert!(world.describe(WHO, key).is_ok());
}

#[test]
fn an_invalidated_key_goes_at_once() {
    let mut world = world();
    let key = world.key(WHO, "user", "gone", KeyId::SESSION);
    assert_eq!(world.answer(WHO, &Request::Invalidate { key }), Ok(0));
    assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY));
}

#[test]
fn a_collected_link_is_paid_for_until_the_ring_is_cleared() {
    let mut world = world();
    let ring = world.key(WHO, "keyring", "ring", KeyId::SESSION);
    let charge = |world: &mut World| {
        let line = world.proc(WHO, keyshim_abi::procfs::ProcFile::KeyUsers);
        let own = line.lines().find(|line| line.trim_start().starts_with("1000:")).unwrap();
        own.rsplit(' ').next().unwrap().split('/').next().unwrap().parse::<u32>().unwrap()
    };
    let empty = charge(&mut world);
    let key = world.key(WHO, "user", "gone", ring);
    assert_eq!(charge(&mut world), empty + 4 + 5 + 6);
    assert_eq!(world.answer(WHO, &Request::Invalidate { key }), Ok(0));
    assert_eq!(charge(&mut world), empty + 4);
    assert_eq!(world.answer(WHO, &Request::Clear { keyring: ring }), Ok(0));
    assert_eq!(charge(&mut world), empty);
}
