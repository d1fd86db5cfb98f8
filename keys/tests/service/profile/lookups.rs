//! From an id to a key, and what stands in the way.

use keyshim_abi::{Errno, KeyId, Payload, Perm, Request};

use super::{A, B, NO_KEY, link, old, read, serial};

#[test]
fn s022_a_negative_key_is_enokey_to_searches_whatever_it_stands_for() {
    let mut world = old();
    world.join(A, None);
    world.refuse(A, "user", "k", Errno::EKEYREJECTED);
    assert_eq!(world.search(A, "user", "k", KeyId::SESSION), NO_KEY);
}

#[test]
fn s023_a_negative_key_becomes_positive_by_update() {
    let mut world = old();
    world.join(A, None);
    let key = world.refuse(A, "user", "k", Errno::ENOKEY);
    let ring = world.key(A, "keyring", "ring", KeyId::SESSION);
    assert_eq!(world.answer(A, &read(key)), Ok(0), "it holds nothing");
    assert_eq!(world.answer(A, &link(key, ring)), Ok(0), "and is named like any other");
    let payload = Payload::Carried(b"now");
    assert_eq!(world.answer(A, &Request::Update { key, payload }), Ok(0));
    assert_eq!(world.submit(A, &read(key)), (Ok(3), b"now".to_vec()));
    assert_eq!(world.search(A, "user", "k", KeyId::SESSION), serial(key));
}

#[test]
fn s064_the_owner_changes_a_mask_that_grants_nothing() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", KeyId::SESSION);
    world.setperm(A, key, 0);
    assert_eq!(world.describe(A, key), Err(Errno::EACCES));
    let perm = Perm(0x0001_0000);
    assert_eq!(world.answer(B, &Request::Setperm { key, perm }), Err(Errno::EACCES));
    assert_eq!(world.answer(A, &Request::Setperm { key, perm }), Ok(0));
    assert_eq!(world.describe(A, key).unwrap(), "user;1000;1000;010000;k");
}

#[test]
fn s065_one_class_counts_and_possession_none() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", KeyId::SESSION);
    world.setperm(A, key, 0x0008_001f);
    // Found from its own keyring, and yet.
    let payload = Payload::Carried(b"x");
    assert_eq!(world.answer(A, &Request::Update { key, payload }), Err(Errno::EACCES));
    assert_eq!(world.answer(B, &Request::Update { key, payload }), Ok(0), "others may");
}

#[test]
fn s099_there_are_no_special_ids_below_6() {
    let mut world = old();
    world.join(A, None);
    for id in [0, -6, -7, -8, -9, i32::MIN] {
        assert_eq!(world.answer(A, &read(KeyId(id))), NO_KEY, "READ hides why");
        let answer = world.answer(A, &Request::Revoke { key: KeyId(id) });
        assert_eq!(answer, Err(Errno::EINVAL), "{id}");
    }
}

#[test]
fn s116_only_negative_keys_stand_in_the_way_of_a_search() {
    let mut world = old();
    let first = world.join(A, None);
    let ring = world.key(A, "keyring", "ring", KeyId::SESSION);
    let expired = world.refuse(A, "user", "expired", Errno::ENOKEY);
    let revoked = world.key(A, "user", "revoked", KeyId::SESSION);
    let closed = world.key(A, "user", "closed", KeyId::SESSION);
    world.pass(60);
    assert_eq!(world.answer(A, &Request::Revoke { key: revoked }), Ok(0));
    world.setperm(A, closed, 0x0017_0000);
    for name in ["expired", "revoked", "closed", "absent"] {
        assert_eq!(world.search(A, "user", name, first), NO_KEY, "{name}");
        let behind = world.key(A, "user", name, ring);
        assert_eq!(world.search(A, "user", name, first), serial(behind), "passed over: {name}");
    }
    assert_eq!(
        world.answer(A, &Request::Update { key: expired, payload: Payload::Carried(b"x") }),
        Err(Errno::EKEYEXPIRED)
    );
}

#[test]
fn s132_setperm_and_chown_take_a_key_in_any_state() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", KeyId::SESSION);
    assert_eq!(world.answer(A, &Request::Revoke { key }), Ok(0));
    assert_eq!(world.answer(A, &Request::Setperm { key, perm: Perm(0x0001_0000) }), Ok(0));
    assert_eq!(world.answer(A, &Request::Chown { key, uid: 1000, gid: 1000 }), Ok(0));
    assert_eq!(world.answer(A, &Request::Chown { key, uid: u32::MAX, gid: 7 }), Err(Errno::EACCES));
    assert_eq!(world.describe(A, key), Err(Errno::EKEYREVOKED));
}

#[test]
fn s151_a_search_finds_what_is_in_a_keyring_and_not_itself() {
    let mut world = old();
    world.join(A, None);
    let ring = world.key(A, "keyring", "ring", KeyId::SESSION);
    assert_eq!(world.search(A, "keyring", "ring", ring), NO_KEY);
    assert_eq!(world.search(A, "keyring", "ring", KeyId::SESSION), serial(ring));
}

#[test]
fn s157_read_is_for_who_may_or_who_finds_the_key() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", KeyId::SESSION);
    world.setperm(A, key, 0x0018_0000);
    assert_eq!(world.submit(A, &read(key)), (Ok(6), b"secret".to_vec()), "SEARCH, and it is there");
    world.setperm(A, key, 0x0015_0000);
    assert_eq!(world.answer(A, &read(key)), NO_KEY, "not even SEARCH");
    assert_eq!(world.answer(B, &read(key)), NO_KEY);
    world.setperm(A, key, 0x0018_0000);
    let keyring = KeyId::SESSION;
    assert_eq!(world.answer(A, &Request::Revoke { key }), Err(Errno::EACCES));
    let ring = world.key(A, "keyring", "elsewhere", keyring);
    assert_eq!(world.answer(A, &link(key, ring)), Ok(0));
    assert_eq!(world.answer(A, &Request::Unlink { key, keyring }), Ok(0));
    assert_eq!(world.answer(A, &read(key)), Ok(6), "below is as well");
    world.setperm(A, ring, 0x0015_0000);
    assert_eq!(world.answer(A, &read(key)), NO_KEY, "where it may not search it finds nothing");
}

#[test]
fn s172_state_comes_before_permission() {
    let mut world = old();
    world.join(A, None);
    let (key, other) =
        (world.key(A, "user", "k", KeyId::SESSION), world.key(A, "user", "o", KeyId::SESSION));
    world.setperm(A, key, 0x0004_0000);
    assert_eq!(world.answer(A, &link(key, KeyId::SESSION)), Err(Errno::EACCES));
    assert_eq!(world.answer(A, &Request::Revoke { key }), Ok(0));
    assert_eq!(world.answer(B, &Request::Revoke { key }), Err(Errno::EKEYREVOKED));
    // UNLINK asks nothing of the key.
    assert_eq!(world.answer(A, &Request::Unlink { key, keyring: KeyId::SESSION }), Ok(0));
    assert_eq!(world.answer(A, &Request::Revoke { key }), NO_KEY);
    assert_eq!(world.answer(B, &Request::Revoke { key: other }), Err(Errno::EACCES));
}
