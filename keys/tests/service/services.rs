//! The face for services in the same program: types that make their keys themselves,
//! requests, references, searches.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use keyshim_abi::{Errno, KeyId, Payload as Sent, Request, Serial};
use keyshim_keys::{
    CallId, Effect, HeldKey, KeyRequest, KeyType, Made, MakeKey, Match, Payload, Preparsed,
    Requested, Secret, Upcalls,
};

use crate::world::{Who, World};

const WHO: Who = Who::user(1, 1000);

/// Serial, description and callout information.
type Asked = (Serial, Vec<u8>, Vec<u8>);

/// A type whose keys are named by the beginning of their description, and which has them
/// made as it is told.
struct Ticket {
    next: Mutex<Vec<Made>>,
    asked: Mutex<Vec<Asked>>,
}

struct Prefix(Vec<u8>);

impl Match for Prefix {
    fn matches(&self, description: &[u8]) -> bool {
        description.starts_with(&self.0)
    }
}

impl KeyType for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        if data.is_empty() { Err(Errno::EINVAL) } else { Ok(Preparsed::copied(data)) }
    }

    fn match_preparse(&self, description: &[u8]) -> Result<Option<Box<dyn Match>>, Errno> {
        match description.strip_suffix(b"*") {
            Some(b"") => Err(Errno::EINVAL),
            Some(prefix) => Ok(Some(Box::new(Prefix(prefix.to_vec())))),
            None => Ok(None),
        }
    }

    fn maker(&self) -> Option<&dyn MakeKey> {
        Some(self)
    }
}

impl MakeKey for Ticket {
    fn make(&self, requested: &Requested<'_>) -> Made {
        let asked = (requested.serial, requested.description.to_vec(), requested.callout.to_vec());
        self.asked.lock().unwrap().push(asked);
        self.next.lock().unwrap().pop().unwrap_or(Made::Failed(Errno::EIO))
    }
}

struct Scene {
    world: World,
    ticket: Arc<Ticket>,
    calls: RefCell<u64>,
}

fn scene() -> Scene {
    let mut world = World::with_upcalls(Upcalls::Off);
    let ticket = Arc::new(Ticket { next: Mutex::default(), asked: Mutex::default() });
    world.service.register_type(Arc::clone(&ticket) as Arc<dyn KeyType>).unwrap();
    world.join(WHO, None);
    Scene { world, ticket, calls: RefCell::new(0) }
}

fn payload(text: &str) -> Made {
    Made::Payload(Secret::new(text.as_bytes().into()))
}

impl Scene {
    fn will(&self, made: Made) {
        self.ticket.next.lock().unwrap().push(made);
    }

    fn request(&mut self, name: &str, callout: Option<&str>) -> KeyRequest {
        *self.calls.borrow_mut() += 1;
        let what = (&b"ticket"[..], name.as_bytes());
        let (now, call) = (self.world.now, CallId(*self.calls.borrow()));
        let callout = callout.map(str::as_bytes);
        let request = self.world.service.request_key(now, call, &WHO.caller(), what, callout);
        self.world.service.audit().unwrap();
        request
    }

    fn found(&mut self, name: &str, callout: Option<&str>) -> HeldKey {
        match self.request(name, callout) {
            KeyRequest::Found(key) => key,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, name: &str, callout: Option<&str>) -> Errno {
        match self.request(name, callout) {
            KeyRequest::Refused(errno) => errno,
            other => panic!("{other:?}"),
        }
    }

    fn payload(&self, key: &HeldKey) -> Result<Vec<u8>, Errno> {
        let look = |payload: &Payload| payload.bytes().to_vec();
        self.world.service.with_payload(self.world.now, key, look)
    }
}

#[test]
fn a_type_makes_its_keys_without_any_helper() {
    let mut s = scene();
    assert_eq!(s.refused("alice", None), Errno::ENOKEY);
    s.will(payload("tgt"));
    let key = s.found("alice", Some("realm"));
    assert_eq!(s.payload(&key).unwrap(), b"tgt");
    let asked = s.ticket.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked, (key.serial(), b"alice".to_vec(), b"realm".to_vec()));
    let again = s.found("alice", Some("realm"));
    assert_eq!(again.serial(), key.serial());
    let info = s.world.service.key_info(&key).unwrap();
    assert_eq!((info.type_name, info.description, info.uid.0), ("ticket", &b"alice"[..], 1000));
    assert!(s.world.service.take_effects().is_empty());
}

#[test]
fn what_cannot_be_made_is_negative() {
    let mut s = scene();
    let error = Errno::new(999).unwrap();
    s.will(Made::Rejected { error, timeout_s: 5 });
    assert_eq!(s.refused("rejected", Some("")), error);
    s.world.pass(4);
    assert_eq!(s.refused("rejected", Some("")), error);
    s.will(Made::Failed(Errno::EACCES));
    assert_eq!(s.refused("failed", Some("")), Errno::EACCES);
    assert_eq!(s.refused("failed", Some("")), Errno::ENOKEY);
    s.will(payload(""));
    assert_eq!(s.refused("unfit", Some("")), Errno::EINVAL);
    assert_eq!(s.refused("unfit", Some("")), Errno::ENOKEY);
    assert_eq!(s.refused("", Some("")), Errno::EINVAL);
}

#[test]
fn a_type_may_take_its_time() {
    let mut s = scene();
    s.will(Made::Later);
    assert!(matches!(s.request("later", Some("x")), KeyRequest::Waiting));
    let upcall = match &mut s.world.service.take_effects()[..] {
        [Effect::StartUpcall(upcall)] => upcall.clone(),
        other => panic!("{other:?}"),
    };
    assert!(upcall.by_type && upcall.session.is_none());
    assert!(matches!(s.request("later", None), KeyRequest::Waiting));
    assert!(!s.world.service.cancel(s.world.now, CallId(2)), "a service waits for the end");
    s.world.service.finish_upcall(s.world.now, upcall.id, payload("at last"));
    s.world.service.audit().unwrap();
    let effects = s.world.service.take_effects();
    assert_eq!(effects.len(), 2);
    for effect in effects {
        match effect {
            Effect::Requested { key: Ok(key), .. } => {
                assert_eq!(s.payload(&key).unwrap(), b"at last");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reference_keeps_a_key_alive_but_not_valid() {
    let mut s = scene();
    s.will(payload("tgt"));
    let key = s.found("alice", Some(""));
    let id = KeyId(key.serial().raw());
    assert_eq!(s.world.answer(WHO, &Request::Unlink { key: id, keyring: KeyId::SESSION }), Ok(0));
    let copy = key.clone();
    drop(key);
    s.world.pass(0);
    assert_eq!(s.payload(&copy).unwrap(), b"tgt");
    assert_eq!(s.world.service.validate(s.world.now, &copy), Ok(()));
    s.world.service.unregister_type(b"ticket").unwrap();
    assert_eq!(s.world.service.validate(s.world.now, &copy), Err(Errno::EKEYREVOKED));
    assert_eq!(s.world.service.key_info(&copy).unwrap().type_name, ".dead");
    let serial = copy.serial();
    drop(copy);
    s.world.pass(0);
    assert!(matches!(s.world.service.key_lookup(serial), Err(Errno::ENOKEY)));
    assert_eq!(s.world.service.key_count(), 1, "the session");
}

#[test]
fn a_reference_means_nothing_to_another_service() {
    let mut s = scene();
    s.will(payload("tgt"));
    let key = s.found("alice", Some(""));
    let other = scene();
    assert_eq!(other.world.service.validate(other.world.now, &key), Err(Errno::ENOKEY));
    assert_eq!(other.payload(&key), Err(Errno::ENOKEY));
}

#[test]
fn a_keyring_is_searched_by_what_the_type_calls_equal() {
    let mut s = scene();
    let ring = s.world.key(WHO, "keyring", "inner", KeyId::SESSION);
    let add = |world: &mut World, name: &[u8]| {
        let request = Request::AddKey {
            type_name: Ok(b"ticket"),
            description: Some(Ok(name)),
            payload: Sent::Carried(b"x"),
            keyring: ring,
        };
        world.answer(WHO, &request).unwrap() as i32
    };
    let host = add(&mut s.world, b"host/one");
    add(&mut s.world, b"krbtgt/one");
    let session = s.world.links(WHO, KeyId::SESSION);
    assert_eq!(session, [ring]);
    let (now, caller) = (s.world.now, WHO.caller());
    let service = &mut s.world.service;
    let outer = service.key_lookup(Serial::new(ring.0).unwrap()).unwrap();
    let mut search = |name: &[u8], recurse| {
        let found = service.keyring_search(now, &caller, &outer, (b"ticket", name), recurse);
        found.map(|key| key.serial().raw())
    };
    assert_eq!(search(b"host/*", false), Ok(host));
    assert_eq!(search(b"nfs/*", true), Err(Errno::EAGAIN));
    assert_eq!(search(b"host", true), Err(Errno::EAGAIN));
    assert_eq!(search(b"*", true), Err(Errno::EINVAL));
    assert_eq!(s.world.search(WHO, "ticket", "host/*", KeyId::SESSION), Ok(host as u32));
}
