//! Keyrings that are lists.

use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Request};

use super::{A, NO_KEY, add, link, old, quirky, serial};
use crate::world::World;

const S: KeyId = KeyId::SESSION;

/// A ring outside of any quota: a session without a name.
fn full(mut world: World) -> (World, usize) {
    world.join(A, None);
    let key = world.key(A, "user", "k", S);
    let mut count = 1;
    while world.answer(A, &link(key, S)) == Ok(0) {
        count += 1;
    }
    assert_eq!(world.answer(A, &link(key, S)), Err(Errno::ENFILE));
    (world, count)
}

#[test]
fn s084_proc_keys_shows_links_and_places() {
    let mut world = old();
    world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    let shown = |world: &mut World| {
        let line = world.proc_line(A, ring).unwrap();
        line.split_once(" ring: ").unwrap().1.to_owned()
    };
    assert_eq!(shown(&mut world), "empty");
    let keys: Vec<KeyId> = (0..5).map(|n| world.key(A, "user", &format!("{n}"), ring)).collect();
    assert_eq!(shown(&mut world), "5/8");
    for key in keys {
        assert_eq!(world.answer(A, &Request::Unlink { key, keyring: ring }), Ok(0));
    }
    assert_eq!(shown(&mut world), "0/8", "places stay");
    assert_eq!(world.answer(A, &Request::Clear { keyring: ring }), Ok(0));
    assert_eq!(shown(&mut world), "empty", "until the ring is cleared");
    assert!(World::new().proc(A, ProcFile::Keys).is_empty());
}

#[test]
fn s101_what_cannot_be_updated_exists_already() {
    let mut world = old();
    world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    let again = add(b"keyring", Some(b"ring"), b"", S);
    assert_eq!(world.answer(A, &again), Err(Errno::EEXIST));
    assert_eq!(world.links(A, S), [ring]);
    world.setperm(A, ring, 0x001b_0000);
    assert_eq!(world.answer(A, &again), Err(Errno::EACCES), "first of all it must be writable");
    world.setperm(A, ring, 0x001f_0000);
    assert_eq!(world.answer(A, &Request::Revoke { key: ring }), Ok(0));
    assert!(world.answer(A, &again).is_ok(), "a revoked one is none");
}

#[test]
fn s102_to_update_costs_no_link_and_goes_where_the_ring_is_full() {
    let (mut world, _) = full(old());
    assert_eq!(world.answer(A, &add(b"user", Some(b"new"), b"x", S)), Err(Errno::ENFILE));
    assert!(world.answer(A, &add(b"user", Some(b"k"), b"x", S)).is_ok());
}

#[test]
fn s104_payload_and_link_are_looked_at_when_their_turn_comes() {
    let (mut world, _) = full(old());
    assert_eq!(world.answer(A, &add(b"user", Some(b"new"), b"", S)), Err(Errno::EINVAL));
    let before = world.proc(A, ProcFile::KeyUsers);
    assert_eq!(world.answer(A, &add(b"user", Some(b"new"), b"x", S)), Err(Errno::ENFILE));
    assert_eq!(world.proc(A, ProcFile::KeyUsers), before, "nothing is left of it");
}

#[test]
fn s144_a_keyring_takes_510_links() {
    assert_eq!(full(old()).1, 510);
}

#[test]
fn s144_with_quirks_a_keyring_takes_24_links() {
    assert_eq!(full(quirky()).1, 24);
}

#[test]
fn s147_duplicates_are_allowed_in_rings() {
    let mut world = old();
    let session = world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    let key = world.key(A, "user", "k", S);
    let twin = world.key(A, "user", "k", ring);
    assert_eq!(world.answer(A, &link(twin, S)), Ok(0));
    assert_eq!(world.answer(A, &link(key, S)), Ok(0));
    assert_eq!(world.links(A, session), [ring, key, twin, key]);
    // Of equal keys the first that can be had.
    assert_eq!(world.search(A, "user", "k", S), serial(key));
    assert_eq!(world.answer(A, &Request::Revoke { key }), Ok(0));
    assert_eq!(world.search(A, "user", "k", S), serial(twin));
}

#[test]
fn s148_unlink_removes_the_first_link_to_that_very_key() {
    let mut world = old();
    let session = world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    let key = world.key(A, "user", "k", S);
    let twin = world.key(A, "user", "k", ring);
    let unlink = Request::Unlink { key, keyring: S };
    let unlink_twin = Request::Unlink { key: twin, keyring: S };
    assert_eq!(world.answer(A, &unlink_twin), Err(Errno::ENOENT), "an equal one is another");
    for key in [twin, key] {
        assert_eq!(world.answer(A, &link(key, S)), Ok(0));
    }
    assert_eq!(world.answer(A, &unlink), Ok(0));
    assert_eq!(world.links(A, session), [ring, twin, key]);
    assert_eq!(world.answer(A, &unlink), Ok(0));
    assert_eq!(world.answer(A, &unlink), NO_KEY, "it went with its last link");
}

#[test]
fn s151_keys_are_found_in_the_order_of_their_links() {
    let mut world = old();
    world.join(A, None);
    let rings: Vec<KeyId> =
        (0..20).map(|n| world.key(A, "keyring", &format!("ring{n}"), S)).collect();
    assert_eq!(world.links(A, S), rings);
    let last = world.key(A, "user", "k", rings[19]);
    assert_eq!(world.search(A, "user", "k", S), serial(last));
    let first = world.key(A, "user", "k", rings[3]);
    assert_eq!(world.search(A, "user", "k", S), serial(first));
    let own = world.key(A, "user", "k", S);
    assert_eq!(world.search(A, "user", "k", S), serial(own), "its own keys before its keyrings'");
}

#[test]
fn s146_a_cycle_is_noticed_before_a_full_keyring() {
    let (mut world, _) = full(old());
    assert_eq!(world.answer(A, &link(S, S)), Err(Errno::EDEADLK));
}
