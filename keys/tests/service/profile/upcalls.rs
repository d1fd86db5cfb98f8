//! Keys that are requested and not found.

use keyshim_abi::caller::{Gid, Ids, TaskId, Uid};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_keys::{CallId, Effect, KeyRequest, Made, Outcome, Secret, TaskEvent, Upcall};

use super::{A, B, NO_KEY, link, old, read, serial};
use crate::world::{Who, World};

const HELPER: Who = Who::user(9, 0);
const S: KeyId = KeyId::SESSION;

fn request(
    type_name: &'static [u8],
    callout: Option<&'static [u8]>,
    destination: KeyId,
) -> Request<'static> {
    let (type_name, description) = (Ok(type_name), Ok(&b"k"[..]));
    Request::RequestKey { type_name, description, callout: callout.map(Ok), destination }
}

/// A request that waits: what it has the shell do.
fn begin(world: &mut World, who: Who, call: u64, request: &Request<'_>) -> Option<Upcall> {
    let outcome = world.begin(who, CallId(call), request, &mut Vec::new());
    assert_eq!(outcome, Outcome::Waiting);
    match &mut world.service.take_effects()[..] {
        [Effect::StartUpcall(upcall)] => Some(upcall.clone()),
        [] => None,
        other => panic!("{other:?}"),
    }
}

fn scene(destination: KeyId) -> (World, Upcall, KeyId) {
    let mut world = old();
    world.join(A, None);
    let upcall = begin(&mut world, A, 1, &request(b"user", Some(b"info"), destination)).unwrap();
    let key = KeyId(upcall.key.raw());
    (world, upcall, key)
}

fn start(world: &mut World, upcall: &Upcall) {
    let (task, upcall) = (TaskId(HELPER.task), upcall.id);
    let numbered = TaskEvent::Numbered { task, pid: 77, tid: 77 };
    world.service.task_event(world.now, numbered);
    let ids = Ids::all(Uid(0), Gid(0));
    world.service.task_event(world.now, TaskEvent::UpcallStarted { upcall, task, ids });
    world.service.audit().unwrap();
}

fn exit(world: &mut World, upcall: &Upcall) -> Vec<(u64, Answer)> {
    world.service.upcall_exited(world.now, upcall.id);
    answers(world)
}

fn answers(world: &mut World) -> Vec<(u64, Answer)> {
    world.service.audit().unwrap();
    let effects = world.service.take_effects().into_iter();
    let answer = |effect| match effect {
        Effect::Reply { call, answer, .. } => (call.0, answer),
        other => panic!("{other:?}"),
    };
    effects.map(answer).collect()
}

fn instantiate(key: KeyId, payload: &'static [u8], keyring: KeyId) -> Request<'static> {
    Request::Instantiate { key, payload: Payload::Carried(payload), keyring }
}

#[test]
fn s020_a_key_under_construction_is_eio_to_everybody() {
    let (mut world, _, key) = scene(KeyId(0));
    let payload = Payload::Carried(b"x");
    let requests = [
        Request::Update { key, payload },
        Request::Revoke { key },
        Request::Clear { keyring: key },
        Request::GetKeyringId { id: key, create: false },
        Request::Unlink { key, keyring: S },
        link(key, S),
    ];
    for (at, request) in requests.iter().enumerate() {
        // A requester waits; another thread of the same user asks.
        let other = Who { task: 5, ..A };
        if at >= 4 {
            world.join(other, None);
        }
        assert_eq!(world.answer(other, request), Err(Errno::EIO), "{request:?}");
    }
    assert_eq!(world.answer(B, &read(key)), NO_KEY, "READ hides why");
    assert_eq!(world.describe(Who { task: 5, ..A }, key).unwrap(), "user;1000;1000;1f0000;k");
}

#[test]
fn s112_what_is_found_need_not_grant_link() {
    let mut world = old();
    let session = world.join(A, None);
    let key = world.key(A, "user", "k", S);
    let ring = world.key(A, "keyring", "ring", S);
    world.setperm(A, key, 0x0008_0000);
    assert_eq!(world.answer(A, &link(key, ring)), Err(Errno::EACCES));
    assert_eq!(world.answer(A, &request(b"user", None, ring)), serial(key));
    assert_eq!(world.links(A, ring), [key]);
    let name = |destination| Request::Search {
        keyring: session,
        type_name: Ok(b"user"),
        description: Ok(b"k"),
        destination,
    };
    assert_eq!(world.answer(A, &name(ring)), Err(Errno::EACCES), "but for SEARCH it must");
}

#[test]
fn s115_the_callout_information_is_the_last_argument() {
    let (world, upcall, _) = scene(KeyId(0));
    let key = upcall.key.raw().to_string();
    let session = upcall.session.unwrap().raw().to_string();
    assert_eq!(upcall.arguments(), ["create", &key, "1000", "1000", "0", "0", &session]);
    assert_eq!(upcall.callout_argument(), Some(&b"info"[..]));
    drop(world);
}

#[test]
fn s205_without_information_it_is_a_dash() {
    let mut world = old();
    world.join(A, None);
    assert_eq!(
        world.answer(A, &request(b"user", None, S)),
        NO_KEY,
        "none at all: nobody is called"
    );
    let upcall = begin(&mut world, A, 1, &request(b"user", Some(b""), S)).unwrap();
    assert_eq!(upcall.callout_argument(), Some(&b"-"[..]));
}

#[test]
fn s117a_keyrings_are_requested_like_anything() {
    let mut world = old();
    world.join(A, None);
    let upcall = begin(&mut world, A, 1, &request(b"keyring", Some(b"x"), S)).unwrap();
    let key = KeyId(upcall.key.raw());
    assert_eq!(world.answer(Who { task: 5, ..A }, &instantiate(key, b"", KeyId(0))), Ok(0));
    assert_eq!(exit(&mut world, &upcall), [(1, serial(key))]);
    assert_eq!(world.links(A, S), [key]);
}

#[test]
fn s163_anyone_with_write_may_instantiate_once() {
    let (mut world, upcall, key) = scene(S);
    assert_eq!(world.answer(B, &instantiate(key, b"x", KeyId(0))), Err(Errno::EACCES));
    let other = Who { task: 5, ..A };
    assert_eq!(world.answer(other, &instantiate(key, b"", KeyId(0))), Err(Errno::EINVAL));
    assert_eq!(world.answer(other, &instantiate(key, b"made", KeyId(0))), Ok(0));
    assert_eq!(world.answer(other, &instantiate(key, b"again", KeyId(0))), Err(Errno::EBUSY));
    let negate = Request::Negate { key, timeout_s: 10, keyring: KeyId(0) };
    assert_eq!(world.answer(other, &negate), Err(Errno::EBUSY));
    assert!(answers(&mut world).is_empty(), "the requester waits for the helper's end");
    assert_eq!(exit(&mut world, &upcall), [(1, serial(key))]);
    assert_eq!(world.submit(A, &read(key)), (Ok(4), b"made".to_vec()));
    assert_eq!(world.links(A, S), [key], "and it is linked where the requester wants it");
}

#[test]
fn s164_a_link_that_fails_fails_the_call_but_not_the_key() {
    let (mut world, upcall, key) = scene(KeyId(0));
    let other = Who { task: 5, ..A };
    world.join(other, None);
    let user = world.key(other, "user", "no ring", S);
    assert_eq!(world.answer(other, &instantiate(key, b"x", user)), Err(Errno::ENOTDIR));
    assert_eq!(world.answer(other, &instantiate(key, b"x", KeyId(0))), Err(Errno::EBUSY));
    assert_eq!(exit(&mut world, &upcall), [(1, serial(key))]);
    assert_eq!(world.answer(A, &read(key)), NO_KEY, "nobody has linked it, so it is gone");
}

#[test]
fn s164_a_special_keyring_is_the_callers_own() {
    let (mut world, upcall, key) = scene(KeyId(0));
    start(&mut world, &upcall);
    // Root may not write to a stranger's key.
    assert_eq!(world.answer(HELPER, &instantiate(key, b"x", KeyId::PROCESS)), Err(Errno::EACCES));
    let helper = Who { task: HELPER.task, uid: 1000, ..HELPER };
    let helper = Who { privileged: false, ..helper };
    assert_eq!(world.answer(helper, &instantiate(key, b"x", KeyId::PROCESS)), Ok(0));
    assert_eq!(world.links(helper, KeyId::PROCESS), [key]);
    for id in [KeyId(-6), KeyId(-7), KeyId(-8)] {
        assert_eq!(world.answer(helper, &instantiate(key, b"x", id)), Err(Errno::EINVAL));
    }
}

#[test]
fn s166_a_negative_key_lives_for_as_long_as_its_helper_says() {
    let (mut world, upcall, key) = scene(S);
    let other = Who { task: 5, ..A };
    let session = KeyId(upcall.session.unwrap().raw());
    let negate = Request::Negate { key, timeout_s: 10, keyring: session };
    assert_eq!(world.answer(other, &negate), Ok(0));
    assert_eq!(exit(&mut world, &upcall), [(1, NO_KEY)]);
    assert_eq!(world.answer(A, &request(b"user", Some(b"x"), S)), NO_KEY, "nobody is called");
    assert_eq!(world.links(A, S), [key]);
    world.pass(10);
    assert!(begin(&mut world, A, 2, &request(b"user", Some(b"x"), S)).is_some());
}

#[test]
fn s207_a_helper_begins_as_root_without_a_session() {
    let (mut world, upcall, _) = scene(KeyId(0));
    start(&mut world, &upcall);
    assert!(!world.service.has_session(TaskId(HELPER.task)));
    let own = Request::GetKeyringId { id: KeyId::PROCESS, create: false };
    let own = KeyId(world.answer(HELPER, &own).unwrap() as i32);
    assert_eq!(world.describe(HELPER, own).unwrap(), "keyring;0;0;1f0000;_pid.77");
}

#[test]
fn s211_what_nobody_finishes_goes_into_the_session_negative() {
    let (mut world, upcall, key) = scene(KeyId::PROCESS);
    assert_eq!(world.links(Who { task: 5, ..A }, KeyId(upcall.session.unwrap().raw())), []);
    assert_eq!(exit(&mut world, &upcall), [(1, NO_KEY)]);
    assert_eq!(world.links(A, S), [key]);
    assert_eq!(world.links(A, KeyId::PROCESS), [], "and not where it was wanted");
    let line = world.proc_line(A, key).unwrap();
    assert!(line.contains(" I--Q-N     1   1m 1f0000 "), "{line}");
    world.pass(60);
    assert!(begin(&mut world, A, 2, &request(b"user", Some(b"x"), S)).is_some());
}

#[test]
fn s211_without_a_session_it_is_gone() {
    let mut world = old();
    let upcall = begin(&mut world, A, 1, &request(b"user", Some(b"x"), KeyId(0))).unwrap();
    world.service.upcall_failed(world.now, upcall.id, Errno::ENOENT);
    assert_eq!(answers(&mut world), [(1, Err(Errno::ENOENT))], "the error of who was to be called");
    assert!(!world.proc(A, ProcFile::Keys).contains(" user "));
}

#[test]
fn s215_who_requests_the_same_waits_and_then_looks_again() {
    let (mut world, upcall, key) = scene(KeyId(0));
    let same = Who { task: 5, ..A };
    assert!(begin(&mut world, same, 2, &request(b"user", Some(b"x"), KeyId(0))).is_none());
    let other = begin(&mut world, B, 3, &request(b"user", Some(b"x"), KeyId(0)));
    assert!(other.is_some(), "another user's is another");
    let helper = Who { task: 6, ..A };
    let session = KeyId(upcall.session.unwrap().raw());
    assert_eq!(world.answer(helper, &instantiate(key, b"x", session)), Ok(0));
    // The second one has another session, and so it is its turn to call.
    match &world.service.take_effects()[..] {
        [Effect::StartUpcall(again)] => assert_eq!(again.call, CallId(2)),
        effects => panic!("{effects:?}"),
    }
    assert_eq!(exit(&mut world, &upcall), [(1, serial(key))]);
}

#[test]
fn s215_who_looks_again_finds_what_was_made() {
    let (mut world, upcall, key) = scene(KeyId(0));
    let same = world.fork(A, 5);
    assert!(begin(&mut world, same, 2, &request(b"user", Some(b"x"), KeyId(0))).is_none());
    let session = KeyId(upcall.session.unwrap().raw());
    assert_eq!(world.answer(Who { task: 6, ..A }, &instantiate(key, b"x", session)), Ok(0));
    assert_eq!(answers(&mut world), [(2, serial(key))]);
}

#[test]
fn s216_nothing_ends_the_wait_but_its_end() {
    let (mut world, upcall, _) = scene(KeyId(0));
    let same = world.fork(A, 5);
    assert!(begin(&mut world, same, 2, &request(b"user", Some(b"x"), KeyId(0))).is_none());
    assert!(
        !world.service.is_interruptible(CallId(2)) && !world.service.cancel(world.now, CallId(2))
    );
    assert!(answers(&mut world).is_empty());
    // But who has ended waits no more.
    world.service.task_event(world.now, TaskEvent::Exited { task: TaskId(5) });
    assert_eq!(answers(&mut world), [(2, Err(Errno::EINTR))]);
    assert_eq!(exit(&mut world, &upcall), [(1, NO_KEY)]);
}

#[test]
fn s177_a_service_requests_keys_in_the_same_way() {
    let (mut world, upcall, key) = scene(KeyId(0));
    let same = world.fork(A, 5);
    let wanted = (&b"user"[..], &b"k"[..]);
    let (now, id) = (world.now, CallId(7));
    let waits = world.service.request_key(now, id, &same.caller(), wanted, Some(b"x"));
    assert!(matches!(waits, KeyRequest::Waiting));
    let session = KeyId(upcall.session.unwrap().raw());
    assert_eq!(world.answer(Who { task: 6, ..A }, &instantiate(key, b"x", session)), Ok(0));
    match &mut world.service.take_effects()[..] {
        [Effect::Requested { call: CallId(7), key: Ok(held) }] => {
            assert_eq!(held.serial(), upcall.key);
        }
        effects => panic!("{effects:?}"),
    }
    world.service.audit().unwrap();
}

#[test]
fn s209_a_rule_makes_a_key_that_only_its_requester_holds() {
    let mut world = old();
    world.join(A, None);
    let (now, id) = (world.now, CallId(7));
    let wanted = (&b"user"[..], &b"k"[..]);
    let waits = world.service.request_key(now, id, &A.caller(), wanted, Some(b"x"));
    assert!(matches!(waits, KeyRequest::Waiting));
    world.service.answer_upcalls(now, |_| Some(Made::Payload(Secret::new(b"made"[..].into()))));
    world.service.audit().unwrap();
    let [Effect::Requested { key: Ok(held), .. }] = &world.service.take_effects()[..] else {
        panic!("no key");
    };
    let seen = world.service.with_payload(now, held, |payload| payload.bytes().to_vec());
    assert_eq!(seen, Ok(b"made".to_vec()));
    world.service.audit().unwrap();
}
