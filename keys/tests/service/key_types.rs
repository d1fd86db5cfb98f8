//! Key types that a program registers and takes away again.

use std::borrow::Cow;
use std::sync::Arc;

use keyshim_abi::{Errno, KeyId, Payload, Perm, Request};
use keyshim_keys::{KeyType, LinkCheck, Preparsed, ReadKey, RestrictKeyring};

use crate::world::{Who, World};

const WHO: Who = Who::user(1, 1000);

/// A type that shows its payload backwards and lets only its own into a ring.
struct Mirror;

impl KeyType for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        let mut reversed = data.to_vec();
        reversed.reverse();
        Ok(Preparsed::copied(&reversed))
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }

    fn restricter(&self) -> Option<&dyn RestrictKeyring> {
        Some(self)
    }
}

impl ReadKey for Mirror {
    fn read<'p>(&self, payload: &'p keyshim_keys::Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Borrowed(payload.bytes()))
    }
}

impl RestrictKeyring for Mirror {
    fn lookup(&self, restriction: &[u8]) -> Result<Box<dyn LinkCheck>, Errno> {
        if restriction == b"own" { Ok(Box::new(OwnOnly)) } else { Err(Errno::EINVAL) }
    }
}

struct OwnOnly;

impl LinkCheck for OwnOnly {
    fn check(&self, key_type: &str, _: &keyshim_keys::Payload) -> Result<(), Errno> {
        if key_type == "mirror" { Ok(()) } else { Err(Errno::EKEYREJECTED) }
    }
}

fn world() -> World {
    let mut world = World::new();
    world.service.register_type(Arc::new(Mirror)).unwrap();
    world.join(WHO, None);
    world
}

#[test]
fn a_registered_type_makes_keys() {
    let mut world = world();
    assert_eq!(world.service.register_type(Arc::new(Mirror)), Err(Errno::EEXIST));
    let key = world.key(WHO, "mirror", "m", KeyId::SESSION);
    assert_eq!(world.describe(WHO, key).unwrap(), "mirror;1000;1000;3b010000;m");
    let (answer, data) = world.submit(WHO, &Request::Read { key, room: Some(10) });
    assert_eq!((answer, &data[..]), (Ok(6), &b"terces"[..]));
    let update = Request::Update { key, payload: Payload::Carried(b"x") };
    assert_eq!(world.answer(WHO, &update), Err(Errno::EACCES));
    assert_eq!(world.answer(WHO, &Request::Setperm { key, perm: Perm(0x3f01_0000) }), Ok(0));
    assert_eq!(world.answer(WHO, &update), Err(Errno::EOPNOTSUPP));
}

#[test]
fn an_unregistered_type_is_unknown_and_its_linked_keys_are_gone() {
    let mut world = world();
    let key = world.key(WHO, "mirror", "m", KeyId::SESSION);
    let user = world.key(WHO, "user", "u", KeyId::SESSION);
    world.service.unregister_type(b"mirror").unwrap();
    world.service.audit().unwrap();
    assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY));
    assert_eq!(world.links(WHO, KeyId::SESSION), [user]);
    assert_eq!(world.add(WHO, "mirror", "m", KeyId::SESSION), Err(Errno::ENODEV));
    assert_eq!(world.search(WHO, "mirror", "m", KeyId::SESSION), Err(Errno::ENOKEY));
    assert_eq!(world.service.unregister_type(b"mirror"), Err(Errno::ENOKEY));
    assert_eq!(world.service.unregister_type(b"keyring"), Err(Errno::EINVAL));
}

/// An invalidated ring keeps its links, and a session keeps an invalidated ring.
#[test]
fn keys_that_are_still_held_are_dead() {
    let mut world = world();
    let session = world.join(WHO, None);
    let other = world.fork(WHO, 2);
    let key = world.key(WHO, "mirror", "m", KeyId::SESSION);
    let before = world.proc_line(WHO, key).unwrap();
    assert!(before.contains("mirror    m"), "{before}");
    assert_eq!(world.answer(WHO, &Request::Invalidate { key: session }), Ok(0));
    world.service.unregister_type(b"mirror").unwrap();
    world.service.audit().unwrap();
    for who in [WHO, other] {
        for request in [
            Request::Describe { key, room: None },
            Request::Update { key, payload: Payload::Carried(b"x") },
            Request::GetKeyringId { id: key, create: false },
            Request::SetTimeout { key, timeout_s: 1 },
        ] {
            assert_eq!(world.answer(who, &request), Err(Errno::EKEYREVOKED), "{request:?}");
        }
        assert_eq!(world.proc_line(who, key), None, "nobody may view a key without permissions");
    }
    world.join(WHO, None);
    assert_eq!(world.describe(WHO, key), Err(Errno::EKEYREVOKED), "the other still holds it");
    world.join(other, None);
    assert_eq!(world.describe(WHO, key), Err(Errno::ENOKEY));
}

#[test]
fn a_type_of_the_same_name_is_another_type() {
    let mut world = world();
    let old = world.key(WHO, "mirror", "m", KeyId::SESSION);
    world.service.unregister_type(b"mirror").unwrap();
    world.service.register_type(Arc::new(Mirror)).unwrap();
    let new = world.key(WHO, "mirror", "m", KeyId::SESSION);
    assert_ne!(old, new);
    assert_eq!(world.search(WHO, "mirror", "m", KeyId::SESSION), Ok(new.0 as u32));
}

#[test]
fn a_restriction_of_a_type_refuses_everything_once_the_type_is_gone() {
    let mut world = world();
    let keyring = world.key(WHO, "keyring", "ring", KeyId::SESSION);
    let restrict = |text: &'static [u8]| Request::RestrictKeyring {
        keyring,
        type_name: Some(Ok(b"mirror")),
        restriction: Some(Ok(text)),
    };
    assert_eq!(world.answer(WHO, &restrict(b"other")), Err(Errno::EINVAL));
    assert_eq!(world.answer(WHO, &restrict(b"own")), Ok(0));
    assert_eq!(world.answer(WHO, &restrict(b"own")), Err(Errno::EEXIST));
    assert!(world.add(WHO, "mirror", "m", keyring).is_ok());
    assert_eq!(world.add(WHO, "user", "u", keyring), Err(Errno::EKEYREJECTED));
    world.service.unregister_type(b"mirror").unwrap();
    assert_eq!(world.add(WHO, "user", "u", keyring), Err(Errno::EPERM));
    assert_eq!(world.links(WHO, keyring), []);
}
