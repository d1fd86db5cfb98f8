//! What the shell around the service is asked to do for keys that are not there, and what
//! it may do wrong.

use keyshim_abi::caller::{Gid, Ids, TaskId, Uid};
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_keys::{CallId, Effect, Made, Outcome, Secret, TaskEvent, Upcall, UpcallId};

use crate::world::{Who, World};

const WHO: Who = Who::user(1, 1000);
const HELPER: Who = Who::user(9, 0);

fn request(name: &'static str) -> Request<'static> {
    Request::RequestKey {
        type_name: Ok(b"user"),
        description: Ok(name.as_bytes()),
        callout: Some(Ok(b"info")),
        destination: KeyId::SESSION,
    }
}

/// A request that calls somebody.
fn call_out(world: &mut World, who: Who, call: u64) -> Upcall {
    let outcome = world.begin(who, CallId(call), &request("k"), &mut Vec::new());
    assert_eq!(outcome, Outcome::Waiting);
    match &mut world.service.take_effects()[..] {
        [Effect::StartUpcall(upcall)] => upcall.clone(),
        other => panic!("{other:?}"),
    }
}

fn start(world: &mut World, upcall: &Upcall, helper: Who) {
    let ids = Ids::all(Uid(helper.uid), Gid(helper.uid));
    let event = TaskEvent::UpcallStarted { upcall: upcall.id, task: TaskId(helper.task), ids };
    world.service.task_event(world.now, event);
    world.service.audit().unwrap();
}

/// The answers that have come since the last time.
fn answers(world: &mut World) -> Vec<(u64, Result<u32, Errno>)> {
    world.service.audit().unwrap();
    let effects = world.service.take_effects().into_iter();
    effects
        .map(|effect| match effect {
            Effect::Reply { call, answer, .. } => (call.0, answer),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn scene() -> (World, KeyId, Upcall) {
    let mut world = World::new();
    let session = world.join(WHO, None);
    let upcall = call_out(&mut world, WHO, 1);
    (world, session, upcall)
}

#[test]
fn the_effect_says_everything_that_a_helper_is_told() {
    let (mut world, session, upcall) = scene();
    assert_eq!((upcall.call, upcall.requester, upcall.by_type), (CallId(1), TaskId(1), false));
    let key = upcall.key.raw().to_string();
    let session = session.0.to_string();
    assert_eq!(upcall.arguments(), ["create", &key, "1000", "1000", "0", "0", &session]);
    assert_eq!((upcall.type_name, &*upcall.description), ("user", &b"k"[..]));
    assert_eq!(&*upcall.callout, b"info");
    let line = world.proc_line(WHO, KeyId(upcall.key.raw())).unwrap();
    assert!(line.contains(" ---QU-- "), "{line}");
}

#[test]
fn a_helper_that_cannot_start_tells_its_requester_why() {
    let (mut world, _, upcall) = scene();
    world.service.upcall_failed(world.now, upcall.id, Errno::ENOENT);
    assert_eq!(answers(&mut world), [(1, Err(Errno::ENOENT))]);
    let line = world.proc_line(WHO, KeyId(upcall.key.raw())).unwrap();
    assert!(line.contains(" I--Q-N- ") && line.contains(" 1m "), "{line}");
    assert_eq!(world.answer(WHO, &request("k")), Err(Errno::ENOKEY));
    world.pass(60);
    call_out(&mut world, WHO, 2);
}

#[test]
fn an_upcall_ends_once() {
    let (mut world, _, upcall) = scene();
    world.service.upcall_exited(world.now, upcall.id);
    assert_eq!(answers(&mut world), [(1, Err(Errno::ENOKEY))]);
    world.service.upcall_exited(world.now, upcall.id);
    world.service.upcall_failed(world.now, upcall.id, Errno::EIO);
    world.service.upcall_exited(world.now, UpcallId(77));
    start(&mut world, &upcall, HELPER);
    assert_eq!(answers(&mut world), []);
    let own = Request::GetKeyringId { id: KeyId::PROCESS, create: false };
    assert_eq!(world.answer(HELPER, &own), Err(Errno::ENOKEY));
}

#[test]
fn a_thousand_who_ask_get_one_helper_and_the_same_key() {
    let (mut world, _, upcall) = scene();
    for task in 100..1099 {
        let who = world.fork(WHO, task);
        let outcome = world.service.submit(
            world.now,
            CallId(task),
            &who.caller(),
            &request("k"),
            &mut Vec::new(),
        );
        assert_eq!(outcome, Outcome::Waiting);
    }
    assert_eq!(answers(&mut world), []);
    start(&mut world, &upcall, HELPER);
    let key = KeyId(upcall.key.raw());
    assert!(world.answer(HELPER, &Request::AssumeAuthority { key }).is_ok());
    let payload = Payload::Carried(b"made");
    let instantiate = Request::Instantiate { key, payload, keyring: KeyId(0) };
    assert_eq!(world.answer(HELPER, &instantiate), Ok(0));
    let woken = answers(&mut world);
    assert_eq!(woken.len(), 999);
    assert!(woken.iter().zip(100..).all(|(got, task)| *got == (task, Ok(key.0 as u32))));
    world.service.upcall_exited(world.now, upcall.id);
    assert_eq!(answers(&mut world), [(1, Ok(key.0 as u32))]);
}

#[test]
fn only_who_can_be_interrupted_is() {
    let (mut world, _, upcall) = scene();
    let other = world.fork(WHO, 2);
    let outcome = world.begin(other, CallId(2), &request("k"), &mut Vec::new());
    assert_eq!(outcome, Outcome::Waiting);
    let key = KeyId(upcall.key.raw());
    let read = Request::Read { key, room: Some(100) };
    let third = world.fork(WHO, 3);
    assert_eq!(world.begin(third, CallId(3), &read, &mut Vec::new()), Outcome::Waiting);
    assert!(!world.service.cancel(world.now, CallId(1)));
    assert!(world.service.cancel(world.now, CallId(2)));
    assert!(!world.service.cancel(world.now, CallId(2)));
    assert!(world.service.cancel(world.now, CallId(3)));
    let interrupted = [(2, Err(Errno::EINTR)), (3, Err(Errno::ENOKEY))];
    assert_eq!(answers(&mut world), interrupted);
}

#[test]
fn who_ends_while_waiting_is_answered_and_leaves_nothing() {
    let (mut world, _, upcall) = scene();
    let other = world.fork(WHO, 2);
    let outcome = world.begin(other, CallId(2), &request("k"), &mut Vec::new());
    assert_eq!(outcome, Outcome::Waiting);
    for task in [2, 1].map(TaskId) {
        world.service.task_event(world.now, TaskEvent::Exited { task });
    }
    assert_eq!(answers(&mut world), [(2, Err(Errno::EINTR))]);
    start(&mut world, &upcall, HELPER);
    let key = KeyId(upcall.key.raw());
    assert!(world.answer(HELPER, &Request::AssumeAuthority { key }).is_ok());
    let instantiate =
        Request::Instantiate { key, payload: Payload::Carried(b"late"), keyring: KeyId(0) };
    assert_eq!(world.answer(HELPER, &instantiate), Ok(0));
    world.service.task_event(world.now, TaskEvent::Exited { task: TaskId(HELPER.task) });
    world.service.upcall_exited(world.now, upcall.id);
    assert_eq!(answers(&mut world), [(1, Ok(key.0 as u32))]);
    assert_eq!(world.service.key_count(), 0, "the requester's session went with it");
}

#[test]
fn a_call_that_waited_is_carried_out_with_its_data() {
    let (mut world, _, upcall) = scene();
    let other = world.fork(WHO, 2);
    let key = KeyId(upcall.key.raw());
    let read = Request::Read { key, room: Some(100) };
    assert_eq!(world.begin(other, CallId(2), &read, &mut Vec::new()), Outcome::Waiting);
    start(&mut world, &upcall, HELPER);
    assert!(world.answer(HELPER, &Request::AssumeAuthority { key }).is_ok());
    let instantiate =
        Request::Instantiate { key, payload: Payload::Carried(b"made"), keyring: KeyId(0) };
    assert_eq!(world.answer(HELPER, &instantiate), Ok(0));
    match &world.service.take_effects()[..] {
        [Effect::Reply { call: CallId(2), answer: Ok(4), data }] => {
            assert_eq!(&**data.0, b"made");
            assert_eq!(format!("{data:?}"), "4 bytes");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_thousand_keys_have_a_thousand_helpers() {
    let mut world = World::new();
    let mut upcalls = Vec::new();
    for task in 100..1100 {
        let who = Who::user(task, 1000 + task as u32);
        world.unaudited(who, &Request::JoinSessionKeyring { name: None }).unwrap();
        let outcome = world.service.submit(
            world.now,
            CallId(task),
            &who.caller(),
            &request("k"),
            &mut Vec::new(),
        );
        assert_eq!(outcome, Outcome::Waiting);
        match &world.service.take_effects()[..] {
            [Effect::StartUpcall(upcall)] => upcalls.push(upcall.clone()),
            other => panic!("{other:?}"),
        }
    }
    for upcall in upcalls.iter().rev() {
        world.service.upcall_exited(world.now, upcall.id);
        let got = world.service.take_effects();
        let negative = Err(Errno::ENOKEY);
        assert!(
            matches!(&got[..], [Effect::Reply { call: CallId(call), answer, .. }]
                if *call == upcall.call.0 && *answer == negative),
            "{got:?}"
        );
    }
    world.service.audit().unwrap();
}

#[test]
fn a_function_answers_what_it_knows_and_leaves_the_rest() {
    let mut world = World::new();
    world.join(WHO, None);
    for (call, name) in [(1, "known"), (2, "other"), (3, "refused"), (4, "known")] {
        world.begin(WHO, CallId(call), &request(name), &mut Vec::new());
    }
    let mut asked = Vec::new();
    world.service.answer_upcalls(world.now, |upcall| {
        asked.push(String::from_utf8_lossy(&upcall.description).into_owned());
        match &*upcall.description {
            b"known" => Some(Made::Payload(Secret::new(b"made"[..].into()))),
            b"refused" => Some(Made::Rejected { error: Errno::EKEYREJECTED, timeout_s: 9 }),
            _ => None,
        }
    });
    world.service.audit().unwrap();
    assert_eq!(asked, ["known", "other", "refused"]);
    let effects = world.service.take_effects().into_iter();
    let (left, effects): (Vec<_>, Vec<_>) =
        effects.partition(|effect| matches!(effect, Effect::StartUpcall(_)));
    assert!(matches!(&left[..], [Effect::StartUpcall(upcall)] if *upcall.description == *b"other"));
    let answered: Vec<(u64, bool)> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Reply { call, answer, .. } => (call.0, answer.is_ok()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answered, [(1, true), (4, true), (3, false)]);
}
