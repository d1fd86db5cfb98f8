//! Keyrings of threads, processes and users.

use keyshim_abi::caller::{Caller, Gid, Ids, NamespaceOf, TaskId, Uid, Unprivileged};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Request};
use keyshim_keys::{CallId, Outcome, TaskEvent};

use super::{A, NO_KEY, add, old, serial};
use crate::world::{Who, World};

const ROOT: Who = Who::user(1, 0);
/// Who looks on, and is none of those in question.
const LOOKER: Who = Who::user(99, 0);

/// A process of that number, whose program somebody has executed.
fn appear(world: &mut World, who: Who, pid: u32) {
    let task = TaskId(who.task);
    world.service.task_event(world.now, TaskEvent::Numbered { task, pid, tid: pid });
    let ids = Ids::all(Uid(who.uid), Gid(who.uid));
    world.service.task_event(world.now, TaskEvent::Appeared { task, ids });
    world.service.audit().unwrap();
}

fn happens(world: &mut World, numbers: Option<(u64, u32, u32)>, event: TaskEvent) {
    if let Some((task, pid, tid)) = numbers {
        let task = TaskId(task);
        world.service.task_event(world.now, TaskEvent::Numbered { task, pid, tid });
    }
    world.service.task_event(world.now, event);
    world.service.audit().unwrap();
}

fn id_of(world: &mut World, who: Who, id: KeyId, create: bool) -> Result<KeyId, Errno> {
    let answer = world.answer(who, &Request::GetKeyringId { id, create });
    answer.map(|serial| KeyId(serial as i32))
}

/// The names of all keyrings, as anybody sees them.
fn names(world: &mut World) -> Vec<String> {
    let text = world.proc(LOOKER, ProcFile::Keys);
    let names = text.lines().filter_map(|line| line.split_once(" keyring   "));
    names.map(|(_, name)| name.split_once(':').unwrap().0.to_owned()).collect()
}

#[test]
fn s033_a_thread_begins_without_a_thread_keyring() {
    let mut world = old();
    appear(&mut world, A, 40);
    let thread = id_of(&mut world, A, KeyId::THREAD, true).unwrap();
    let other = Who { task: 2, ..A };
    let (parent, child) = (TaskId(A.task), TaskId(2));
    happens(&mut world, Some((2, 40, 41)), TaskEvent::ThreadStarted { parent, child });
    assert_eq!(id_of(&mut world, other, KeyId::THREAD, false), Err(Errno::ENOKEY));
    assert_eq!(world.describe(A, thread).unwrap(), "keyring;1000;1000;1f0000;_tid.40");
    let own = id_of(&mut world, other, KeyId::THREAD, true).unwrap();
    assert_eq!(world.describe(A, own).unwrap(), "keyring;1000;1000;1f0000;_tid.41");
}

#[test]
fn s033_execve_ends_the_thread_keyring_for_good() {
    let mut world = old();
    appear(&mut world, A, 40);
    let key = world.key(A, "user", "k", KeyId::THREAD);
    happens(&mut world, None, TaskEvent::Execed { task: TaskId(A.task) });
    assert_eq!(world.describe(A, key), Err(Errno::ENOKEY), "no program's file keeps it");
}

#[test]
fn s035_a_child_has_a_process_keyring_at_once_if_its_parent_has_one() {
    let mut world = old();
    appear(&mut world, A, 40);
    let (parent, child) = (TaskId(A.task), TaskId(2));
    happens(&mut world, Some((2, 50, 50)), TaskEvent::Forked { parent, child });
    assert!(names(&mut world).contains(&"_pid.50".to_owned()));
    let of_parent = id_of(&mut world, A, KeyId::PROCESS, false).unwrap();
    let of_child = id_of(&mut world, Who { task: 2, ..A }, KeyId::PROCESS, false).unwrap();
    assert_ne!(of_parent, of_child);
    // A task that has never been a program has none.
    let stray = Who::user(7, 1000);
    assert_eq!(id_of(&mut world, stray, KeyId::PROCESS, false), Err(Errno::ENOKEY));
    let (parent, child) = (TaskId(7), TaskId(8));
    happens(&mut world, Some((8, 60, 60)), TaskEvent::Forked { parent, child });
    assert!(!names(&mut world).contains(&"_pid.60".to_owned()));
}

#[test]
fn s036_threads_share_the_process_keyring_of_their_maker() {
    let mut world = old();
    appear(&mut world, A, 40);
    let (parent, child) = (TaskId(A.task), TaskId(2));
    happens(&mut world, Some((2, 40, 41)), TaskEvent::ThreadStarted { parent, child });
    let shared = id_of(&mut world, A, KeyId::PROCESS, false);
    assert_eq!(id_of(&mut world, Who { task: 2, ..A }, KeyId::PROCESS, false), shared);
}

#[test]
fn s037_execve_brings_a_new_process_keyring_at_once() {
    let mut world = old();
    appear(&mut world, A, 40);
    let before = id_of(&mut world, A, KeyId::PROCESS, false).unwrap();
    let key = world.key(A, "user", "k", KeyId::PROCESS);
    happens(&mut world, None, TaskEvent::Execed { task: TaskId(A.task) });
    assert_eq!(world.describe(A, key), Err(Errno::ENOKEY));
    let after = id_of(&mut world, A, KeyId::PROCESS, false).unwrap();
    assert_ne!(before, after);
    assert_eq!(world.describe(A, after).unwrap(), "keyring;1000;1000;1f0000;_pid.40");
    assert_eq!(names(&mut world).iter().filter(|name| *name == "_pid.40").count(), 1);
}

#[test]
fn s038_the_session_survives_fork_and_execve() {
    let mut world = old();
    appear(&mut world, A, 40);
    let session = world.join(A, None);
    let child = world.fork(A, 2);
    happens(&mut world, None, TaskEvent::Execed { task: TaskId(2) });
    assert_eq!(id_of(&mut world, child, KeyId::SESSION, false), Ok(session));
}

#[test]
fn s040_an_anonymous_session_is_named_after_the_process_and_costs_nothing() {
    let mut world = old();
    appear(&mut world, A, 40);
    let before = world.proc(A, ProcFile::KeyUsers);
    let session = world.join(A, None);
    assert_eq!(world.describe(A, session).unwrap(), "keyring;1000;1000;1f0000;_ses.40");
    let line = world.proc_line(A, session).unwrap();
    assert!(line.contains(" I----- "), "{line}");
    let quota = |text: &str| text.rsplit_once("/100 ").unwrap().1.to_owned();
    assert_eq!(quota(&world.proc(A, ProcFile::KeyUsers)), quota(&before));
}

/// A caller whose ids are not all the same.
fn submit(world: &mut World, task: u64, ids: Ids, request: &Request<'_>) -> Result<u32, Errno> {
    let caller = Caller {
        task: TaskId(task),
        tid: task as u32,
        ids,
        namespace: NamespaceOf::OUTERMOST,
        parent: None,
        privileges: &Unprivileged,
    };
    let (now, id) = (world.now, CallId(0));
    let outcome = world.service.submit(now, id, &caller, request, &mut Vec::new());
    world.service.audit().unwrap();
    let Outcome::Done(answer) = outcome else { panic!("it waits") };
    answer
}

#[test]
fn s042_thread_and_process_keyrings_belong_to_whom_the_thread_acts_for() {
    let mut world = old();
    appear(&mut world, ROOT, 40);
    let thread = id_of(&mut world, ROOT, KeyId::THREAD, true).unwrap();
    let process = id_of(&mut world, ROOT, KeyId::PROCESS, true).unwrap();
    let session = world.join(ROOT, None);
    let ids = Ids { fsuid: Uid(5), fsgid: Gid(6), ..Ids::all(Uid(0), Gid(0)) };
    for (ring, owner) in [(thread, "5;6"), (process, "5;6"), (session, "0;0")] {
        let event = TaskEvent::IdsChanged { task: TaskId(1), ids };
        happens(&mut world, None, event);
        let line = world.proc_line(LOOKER, ring).unwrap();
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns[5..7].join(";"), owner, "{line}");
    }
    // Their real owner is nobody's who acts for another: setting any id is enough.
    let ids = Ids { euid: Uid(9), ..ids };
    assert_eq!(submit(&mut world, 1, ids, &Request::Revoke { key: thread }), Ok(0));
}

#[test]
fn s043_a_user_has_two_keyrings_for_as_long_as_it_is_there() {
    let mut world = old();
    assert_eq!(names(&mut world), ["_uid_ses.0", "_uid.0"]);
    appear(&mut world, A, 40);
    let all = names(&mut world);
    assert_eq!(all, ["_uid_ses.0", "_uid.0", "_uid_ses.1000", "_uid.1000", "_pid.40"]);
    let user = id_of(&mut world, A, KeyId::USER, false).unwrap();
    assert_eq!(world.describe(A, user).unwrap(), "keyring;1000;-1;1f0000;_uid.1000");
    world.key(A, "user", "k", KeyId::USER);
    let child = world.fork(A, 2);
    happens(&mut world, None, TaskEvent::Exited { task: TaskId(A.task) });
    assert_eq!(id_of(&mut world, child, KeyId::USER, false), Ok(user));
    happens(&mut world, None, TaskEvent::Exited { task: TaskId(2) });
    assert_eq!(names(&mut world), ["_uid_ses.0", "_uid.0"]);
    assert!(!world.proc(LOOKER, ProcFile::KeyUsers).contains(" 1000:"));
    // And a setuid is enough to be there.
    appear(&mut world, ROOT, 41);
    let event = TaskEvent::IdsChanged { task: TaskId(1), ids: Ids::all(Uid(7), Gid(7)) };
    happens(&mut world, None, event);
    assert!(names(&mut world).contains(&"_uid.7".to_owned()));
}

#[test]
fn s043_roots_keyrings_have_the_serials_1_and_2_and_are_free() {
    let mut world = old();
    let text = world.proc(A, ProcFile::Keys);
    let expected = "00000001 I-----     1 perm 1f0000     0     0 keyring   _uid_ses.0: 1/4\n\
                    00000002 I-----     2 perm 1f0000     0     0 keyring   _uid.0: empty\n";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn s044_the_default_session_begins_with_a_link_to_the_user_keyring() {
    let mut world = old();
    appear(&mut world, A, 40);
    let user = id_of(&mut world, A, KeyId::USER, false).unwrap();
    assert_eq!(world.links(A, KeyId::USER_SESSION), [user]);
}

#[test]
fn s046_access_to_a_missing_session_brings_the_users_default() {
    for create in [false, true] {
        let mut world = old();
        appear(&mut world, A, 40);
        let default = id_of(&mut world, A, KeyId::USER_SESSION, false);
        assert_eq!(id_of(&mut world, A, KeyId::SESSION, create), default);
        let key = world.key(A, "user", "k", KeyId::SESSION);
        assert_eq!(id_of(&mut world, A, KeyId::SESSION, true), default, "and stays");
        assert!(world.links(A, KeyId::USER_SESSION).contains(&key));
    }
}

#[test]
fn s046_without_a_session_a_search_falls_back_to_the_users_default() {
    let mut world = old();
    appear(&mut world, A, 40);
    let key = world.key(A, "user", "k", KeyId::USER);
    let request = Request::RequestKey {
        type_name: Ok(b"user"),
        description: Ok(b"k"),
        callout: None,
        destination: KeyId(0),
    };
    assert_eq!(world.answer(A, &request), serial(key));
    assert!(!world.service.has_session(TaskId(A.task)), "but does not install it");
}

#[test]
fn s051_keyrings_of_tasks_are_exempt_from_quota() {
    let mut world = old();
    appear(&mut world, A, 40);
    for n in 0..98 {
        world.key(A, "user", &format!("{n}"), KeyId::USER);
    }
    assert_eq!(
        world.answer(A, &add(b"user", Some(b"more"), b"x", KeyId::USER)),
        Err(Errno::EDQUOT)
    );
    assert!(id_of(&mut world, A, KeyId::THREAD, true).is_ok());
    for _ in 0..3 {
        world.join(A, None);
    }
    assert_eq!(world.links(A, KeyId::THREAD), []);
}

#[test]
fn s119_a_missing_keyring_is_made_only_if_wanted() {
    let mut world = old();
    appear(&mut world, A, 40);
    assert_eq!(
        world.answer(A, &Request::GetKeyringId { id: KeyId::THREAD, create: false }),
        NO_KEY
    );
    let made = id_of(&mut world, A, KeyId::THREAD, true);
    assert_eq!(id_of(&mut world, A, KeyId::THREAD, false), made);
}

#[test]
fn s122_an_owner_joins_its_session_by_name_again() {
    let mut world = old();
    appear(&mut world, A, 40);
    let named = world.join(A, Some("work"));
    assert_eq!(world.describe(A, named).unwrap(), "keyring;1000;1000;1f0000;work");
    assert_eq!(world.join(A, Some("work")), named, "the serial, and not 0");
    let mut other = Who::user(2, 1000);
    appear(&mut world, other, 41);
    assert_eq!(world.join(other, Some("work")), named);
    other = Who::user(3, 1001);
    appear(&mut world, other, 42);
    assert_ne!(
        world.join(other, Some("work")),
        named,
        "S121: one that is not permitted is skipped"
    );
}
