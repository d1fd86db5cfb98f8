//! Quota, collection, owners and types.

use std::borrow::Cow;
use std::sync::Arc;

use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_keys::{KeyType, Preparsed, ReadKey};

use super::{A, NO_KEY, add, old, quirky, read, serial};
use crate::world::{Who, World};

const S: KeyId = KeyId::SESSION;
const ROOT: Who = Who::user(9, 0);

#[test]
fn s024_links_to_expired_and_revoked_keys_are_never_collected() {
    let mut world = old();
    let session = world.join(A, None);
    let expired = world.refuse(A, "user", "expired", Errno::ENOKEY);
    let revoked = world.key(A, "user", "revoked", S);
    assert_eq!(world.answer(A, &Request::Revoke { key: revoked }), Ok(0));
    world.pass(1_000_000);
    assert_eq!(world.service.next_collection(), None);
    assert_eq!(world.links(A, session), [expired, revoked]);
}

#[test]
fn s025_add_key_revives_an_expired_key() {
    let mut world = old();
    world.join(A, None);
    let key = world.refuse(A, "user", "k", Errno::ENOKEY);
    world.pass(61);
    let payload = Payload::Carried(b"x");
    assert_eq!(world.answer(A, &Request::Update { key, payload }), Err(Errno::EKEYEXPIRED));
    assert_eq!(world.answer(A, &add(b"user", Some(b"k"), b"new", S)), serial(key));
    assert_eq!(world.submit(A, &read(key)), (Ok(3), b"new".to_vec()));
}

#[test]
fn s029_user_and_keyring_are_the_types() {
    let mut world = old();
    world.join(A, None);
    for type_name in [&b"logon"[..], b"big_key", b"dns_resolver", b".request_key_auth", b".dead"] {
        let answer = world.answer(A, &add(type_name, Some(b"a:b"), b"x", S));
        assert_eq!(answer, Err(Errno::ENODEV), "{type_name:?}");
    }
}

#[test]
fn s032_a_description_must_be_given() {
    let mut world = old();
    world.join(A, None);
    assert_eq!(world.answer(A, &add(b"keyring", None, b"", S)), Err(Errno::EFAULT));
    assert_eq!(world.answer(A, &add(b"nothing", None, b"", S)), Err(Errno::EFAULT));
    assert_eq!(world.answer(A, &add(b"keyring", Some(b""), b"", S)), Err(Errno::EINVAL));
    assert_eq!(world.answer(A, &add(b"nothing", Some(b""), b"", S)), Err(Errno::ENODEV));
}

fn quota(world: &mut World, who: Who) -> String {
    let text = world.proc(who, ProcFile::KeyUsers);
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{}:", who.uid)));
    line.unwrap().split_whitespace().skip(3).collect::<Vec<_>>().join(" ")
}

#[test]
fn s049_a_keyring_costs_8_bytes_and_4_a_link() {
    let mut world = old();
    world.join(A, None);
    let before = "2/100 44/10000";
    assert_eq!(quota(&mut world, A), before);
    let ring = world.key(A, "keyring", "ring", S);
    assert_eq!(quota(&mut world, A), "3/100 57/10000", "5 for its name, and 8");
    let key = world.key(A, "user", "k", ring);
    assert_eq!(quota(&mut world, A), "4/100 69/10000", "2, 6 and 4");
    assert_eq!(world.answer(A, &Request::Clear { keyring: ring }), Ok(0));
    assert_eq!(quota(&mut world, A), "3/100 57/10000");
    assert_eq!(world.answer(A, &Request::Unlink { key: ring, keyring: S }), Ok(0));
    assert_eq!(quota(&mut world, A), before);
    assert_eq!(world.answer(A, &read(key)), NO_KEY);
}

/// Adds keys to the user keyring until one is refused: how many there are then.
fn filled(world: &mut World, who: Who, len: usize) -> String {
    let payload = vec![b'x'; len];
    for n in 0..2000 {
        let description = format!("{n:04}");
        let request = Request::AddKey {
            type_name: Ok(b"user"),
            description: Some(Ok(description.as_bytes())),
            payload: Payload::Carried(&payload),
            keyring: KeyId::PROCESS,
        };
        match world.answer(who, &request) {
            Ok(_) => {}
            Err(Errno::EDQUOT | Errno::ENFILE) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    quota(world, who)
}

#[test]
fn s052_quota_is_over_when_keys_or_bytes_are() {
    assert_eq!(filled(&mut old(), A, 1), "100/100 632/10000");
    assert_eq!(filled(&mut old(), A, 995), "11/100 9044/10000");
    assert_eq!(filled(&mut old(), ROOT, 1), "100/100 600/10000");
    // To meet the maximum is not to exceed it: 44 and 4 * (5 + 2484) are 10000.
    assert_eq!(filled(&mut old(), A, 2484), "6/100 10000/10000");
}

#[test]
fn s052_with_quirks_quota_is_over_when_keys_and_bytes_are() {
    // 510 links would fit but for the smaller ring.
    assert_eq!(filled(&mut quirky(), A, 1), "26/100 188/10000");
    let mut world = quirky();
    world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    for n in 0..9 {
        let inner = world.key(A, "keyring", &format!("ring {n}"), ring);
        for n in 0..20 {
            world.key(A, "user", &format!("{n}"), inner);
        }
    }
    assert!(quota(&mut world, A).starts_with("192/100 "), "nobody has 10000 bytes yet");
}

#[test]
fn s105_a_payload_at_null_is_for_its_type_to_refuse() {
    let at_null = |type_name, keyring| Request::AddKey {
        type_name: Ok(type_name),
        description: Some(Ok(b"k")),
        payload: Payload::Absent(5),
        keyring,
    };
    let answers = |mut world: World| {
        world.join(A, None);
        let key = world.key(A, "user", "there", S);
        let update = Request::Update { key, payload: Payload::Absent(5) };
        let requests =
            [at_null(b"user", S), at_null(b"none", S), at_null(b"user", KeyId(0)), update];
        requests.map(|request| world.answer(A, &request).unwrap_err())
    };
    assert_eq!(answers(old()), [Errno::EINVAL, Errno::ENODEV, Errno::EINVAL, Errno::EINVAL]);
    assert_eq!(answers(World::new()), [Errno::EFAULT; 4]);
}

#[test]
fn s106_a_keyring_may_be_called_as_one_likes() {
    let mut world = old();
    world.join(A, None);
    let ring = world.key(A, "keyring", ".dotted", S);
    let named = world.join(A, Some(".dotted"));
    assert_eq!(named, ring, "and is found by that name");
}

#[test]
fn s108_a_type_with_a_dot_is_merely_unknown() {
    let mut world = old();
    world.join(A, None);
    assert_eq!(world.answer(A, &add(b".x", Some(b"k"), b"x", S)), Err(Errno::ENODEV));
    let request = Request::RequestKey {
        type_name: Ok(b".x"),
        description: Ok(b"k"),
        callout: None,
        destination: KeyId(0),
    };
    assert_eq!(world.answer(A, &request), NO_KEY);
}

#[test]
fn s110_limits_of_the_time() {
    let mut world = old();
    world.join(A, None);
    let payload = Payload::Omitted(32_768);
    let request = Request::AddKey {
        type_name: Ok(b"nothing"),
        description: Some(Ok(b"k")),
        payload,
        keyring: S,
    };
    assert_eq!(world.answer(A, &request), Err(Errno::EINVAL), "before anything else");
    for (len, expected) in [(4094, Err(Errno::ENODEV)), (4095, Err(Errno::EINVAL))] {
        let long = vec![b'x'; len];
        let request = Request::AddKey {
            type_name: Ok(b"nothing"),
            description: Some(Ok(&long)),
            payload: Payload::Carried(b""),
            keyring: S,
        };
        assert_eq!(world.answer(A, &request), expected, "{len}");
    }
    for type_name in [Ok(&b""[..]), Err(Errno::EINVAL)] {
        let request = Request::AddKey {
            type_name,
            description: Some(Ok(b"k")),
            payload: Payload::Carried(b"x"),
            keyring: S,
        };
        assert_eq!(world.answer(A, &request), Err(Errno::ENODEV), "{type_name:?}");
    }
    let request = Request::AddKey {
        type_name: Err(Errno::EFAULT),
        description: Some(Ok(b"k")),
        payload: Payload::Carried(b"x"),
        keyring: S,
    };
    assert_eq!(world.answer(A, &request), Err(Errno::EFAULT));
}

#[test]
fn s127_revoke_says_what_went_wrong_but_for_quirks() {
    let revoke = |mut world: World| {
        world.join(A, None);
        let key = world.key(A, "user", "k", S);
        world.setperm(A, key, 0x0001_0000);
        let denied = world.answer(A, &Request::Revoke { key });
        assert!(world.describe(A, key).is_ok(), "it is not revoked");
        [denied, world.answer(A, &Request::Revoke { key: KeyId(0) })]
    };
    assert_eq!(revoke(old()), [Err(Errno::EACCES), Err(Errno::EINVAL)]);
    assert_eq!(revoke(quirky()), [Ok(0), Ok(0)]);
}

#[test]
fn s131_nobody_can_give_a_key_away() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", S);
    let chown = |uid, gid| Request::Chown { key, uid, gid };
    assert_eq!(world.answer(A, &chown(1001, u32::MAX)), Err(Errno::EACCES));
    assert_eq!(world.answer(ROOT, &chown(1001, 7)), Err(Errno::EOPNOTSUPP));
    assert_eq!(world.describe(A, key).unwrap(), "user;1000;1000;1f0000;k", "nor its group with it");
    assert_eq!(world.answer(ROOT, &chown(1000, 7)), Ok(0));
    assert_eq!(world.answer(A, &chown(1000, u32::MAX)), Ok(0));
    assert_eq!(world.describe(A, key).unwrap(), "user;1000;7;1f0000;k");
}

struct Plain;

impl KeyType for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        Ok(Preparsed::copied(data))
    }
    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

impl ReadKey for Plain {
    fn read<'p>(&self, payload: &'p keyshim_keys::Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Borrowed(payload.bytes()))
    }
}

#[test]
fn s027_a_dead_key_is_hidden_and_stays_where_it_is() {
    let mut world = old();
    world.service.register_type(Arc::new(Plain)).unwrap();
    let session = world.join(A, None);
    let key = world.key(A, "plain", "k", S);
    let held = world.service.key_lookup(keyshim_abi::Serial::new(key.0).unwrap()).unwrap();
    world.service.unregister_type(b"plain").unwrap();
    assert_eq!(world.answer(A, &read(key)), NO_KEY);
    assert_eq!(world.answer(A, &Request::Unlink { key, keyring: S }), NO_KEY);
    assert_eq!(world.links(A, session), [key]);
    let line = world.proc_line(A, key).unwrap();
    assert!(
        line.contains(" I--Q-- ") && line.ends_with(" 1b0000  1000  1000 dead      "),
        "{line}"
    );
    assert_eq!(world.service.validate(world.now, &held), Err(Errno::EKEYREVOKED), "S12");
}
