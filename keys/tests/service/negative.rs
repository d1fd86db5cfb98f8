//! The column "negative" of the kernel's table of states and operations.

use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Payload, Perm, Request};

use crate::world::{Who, World};

const WHO: Who = Who::user(1, 1000);
/// An error without a name, so that no other rule can give it.
const STORED: i32 = 999;

struct Scene {
    world: World,
    session: KeyId,
    key: KeyId,
}

fn stored() -> Answer {
    Err(Errno::new(STORED).unwrap())
}

fn scene() -> Scene {
    scene_of("user")
}

fn scene_of(type_name: &str) -> Scene {
    let mut world = World::new();
    let session = world.join(WHO, None);
    let key = world.refuse(WHO, type_name, "refused", Errno::new(STORED).unwrap());
    Scene { world, session, key }
}

impl Scene {
    fn answer(&mut self, request: &Request<'_>) -> Answer {
        self.world.answer(WHO, request)
    }
}

#[test]
fn its_attributes_can_be_seen_and_changed() {
    let mut s = scene();
    let key = s.key;
    assert_eq!(s.world.describe(WHO, key).unwrap(), "user;1000;1000;3f010000;refused");
    assert_eq!(s.answer(&Request::GetSecurity { key, room: None }), Ok(1));
    assert_eq!(s.answer(&Request::Setperm { key, perm: Perm(0x3f03_0000) }), Ok(0));
    assert_eq!(s.answer(&Request::Chown { key, uid: 1000, gid: 1000 }), Ok(0));
    assert_eq!(s.answer(&Request::SetTimeout { key, timeout_s: 10 }), Ok(0));
    assert_eq!(s.world.describe(WHO, key).unwrap(), "user;1000;1000;3f030000;refused");
    let line = s.world.proc_line(WHO, key).unwrap();
    assert!(line.contains(" I--Q-N- "), "{line}");
    assert!(line.contains(" 10s "), "{line}");
}

#[test]
fn whoever_wants_the_key_itself_is_told_the_stored_error() {
    let mut s = scene();
    let (key, ring) = (s.key, s.session);
    let other = s.world.key(WHO, "keyring", "other", KeyId::SESSION);
    let name: &[u8] = b"refused";
    let requests = [
        Request::Read { key, room: None },
        Request::Search {
            keyring: ring,
            type_name: Ok(b"user"),
            description: Ok(name),
            destination: KeyId(0),
        },
        Request::RequestKey {
            type_name: Ok(b"user"),
            description: Ok(name),
            callout: None,
            destination: KeyId(0),
        },
        Request::Update { key, payload: Payload::Carried(b"new") },
        Request::Link { key, keyring: other },
        Request::Move { key, from: ring, to: other, flags: 0 },
        Request::Revoke { key },
        Request::Invalidate { key },
        Request::GetKeyringId { id: key, create: false },
    ];
    for request in requests {
        assert_eq!(s.answer(&request), stored(), "{request:?}");
    }
    assert_eq!(s.world.links(WHO, other), []);
    assert!(s.world.links(WHO, ring).contains(&key));
}

#[test]
fn it_can_be_unlinked_and_is_gone() {
    let mut s = scene();
    let (key, keyring) = (s.key, s.session);
    assert_eq!(s.answer(&Request::Unlink { key, keyring }), Ok(0));
    assert_eq!(s.world.describe(WHO, key), Err(Errno::ENOKEY));
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), Err(Errno::ENOKEY));
}

#[test]
fn add_key_turns_it_positive_under_the_same_serial_and_without_expiry() {
    let mut s = scene();
    assert_eq!(s.world.key(WHO, "user", "refused", KeyId::SESSION), s.key);
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), Ok(s.key.0 as u32));
    let (answer, data) = s.world.submit(WHO, &Request::Read { key: s.key, room: Some(100) });
    assert_eq!((answer, &data[..]), (Ok(6), &b"secret"[..]));
    s.world.pass(61);
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), Ok(s.key.0 as u32));
}

/// An update leaves a `big_key`'s expiry alone, even that of the refusal.
#[test]
fn a_big_key_made_of_it_still_ends_with_the_minute() {
    let mut s = scene_of("big_key");
    let line = s.world.proc_line(WHO, s.key).unwrap();
    assert!(line.contains(" I--Q-N- ") && line.ends_with(" refused"), "{line}");
    s.world.pass(20);
    assert_eq!(s.world.key(WHO, "big_key", "refused", KeyId::SESSION), s.key);
    let line = s.world.proc_line(WHO, s.key).unwrap();
    assert!(line.contains(" I--Q--- ") && line.ends_with(" refused: 6 [buff]"), "{line}");
    assert!(line.contains(" 40s "), "{line}");
    s.world.pass(40);
    let read = Request::Read { key: s.key, room: None };
    assert_eq!(s.answer(&read), Err(Errno::EKEYEXPIRED));
}

#[test]
fn after_its_time_it_has_expired_like_any_other() {
    let mut s = scene();
    s.world.pass(59);
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), stored());
    s.world.pass(1);
    let expired = Err(Errno::EKEYEXPIRED);
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), expired);
    assert_eq!(s.world.describe(WHO, s.key), Err(Errno::EKEYEXPIRED));
}

#[test]
fn a_restricted_ring_takes_none() {
    let mut s = scene();
    let keyring = s.session;
    let restrict = Request::RestrictKeyring { keyring, type_name: None, restriction: None };
    assert_eq!(s.answer(&restrict), Ok(0));
    assert_eq!(s.world.add(WHO, "user", "refused", KeyId::SESSION), Err(Errno::EPERM));
    assert_eq!(s.world.search(WHO, "user", "refused", KeyId::SESSION), stored());
}
