//! What `/proc` says, and DESCRIBE.

use keyshim_abi::caller::{Gid, Ids, TaskId, Uid};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_keys::TaskEvent;

use super::{A, B, add, old, quirky, read};
use crate::world::{Who, World};

const S: KeyId = KeyId::SESSION;

fn appear(world: &mut World, task: u64, uid: u32) {
    let number = task as u32;
    let task = TaskId(task);
    let numbered = TaskEvent::Numbered { task, pid: number, tid: number };
    world.service.task_event(world.now, numbered);
    let ids = Ids::all(Uid(uid), Gid(uid));
    world.service.task_event(world.now, TaskEvent::Appeared { task, ids });
}

/// The line of a key without its serial, and without its usage where a keyring's counts
/// whoever holds it.
fn line(world: &mut World, who: Who, key: KeyId) -> String {
    world.proc_line(who, key).unwrap()[9..].to_owned()
}

#[test]
fn s026_a_revoked_key_keeps_its_payload_and_its_quota() {
    let mut world = old();
    world.join(A, None);
    let ring = world.key(A, "keyring", "ring", S);
    let key = world.key(A, "user", "k", ring);
    let before = world.proc(A, ProcFile::KeyUsers);
    for key in [key, ring] {
        assert_eq!(world.answer(A, &Request::Revoke { key }), Ok(0));
        assert_eq!(world.answer(A, &read(key)), Err(Errno::EKEYREVOKED));
        let payload = Payload::Carried(b"x");
        assert_eq!(world.answer(A, &Request::Update { key, payload }), Err(Errno::EKEYREVOKED));
    }
    assert_eq!(world.proc(A, ProcFile::KeyUsers), before);
    assert_eq!(line(&mut world, A, key), "IR-Q--     1 perm 1f0000  1000  1000 user      k: 6");
    assert!(line(&mut world, A, ring).ends_with(" ring: 1/4"));
}

#[test]
fn s068_all_keys_are_listed_for_everybody() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "hidden", S);
    world.setperm(A, key, 0);
    assert_eq!(
        line(&mut world, B, key),
        "I--Q--     1 perm 000000  1000  1000 user      hidden: 6"
    );
}

#[test]
fn s077_a_key_under_construction_is_not_instantiated() {
    let mut world = old();
    appear(&mut world, 1, 1000);
    let request = Request::RequestKey {
        type_name: Ok(b"user"),
        description: Ok(b"k"),
        callout: Some(Ok(b"info")),
        destination: KeyId(0),
    };
    world.begin(A, keyshim_keys::CallId(7), &request, &mut Vec::new());
    let text = world.proc(B, ProcFile::Keys);
    assert!(text.contains(" ---QU-     1 perm 1f0000  1000  1000 user      k: 0\n"), "{text}");
}

#[test]
fn s078_a_negative_key_is_instantiated_and_summed_up() {
    let mut world = old();
    world.join(A, None);
    let key = world.refuse(A, "user", "metal:silver", Errno::ENOKEY);
    world.now = world.now.plus(25);
    let shown = "I--Q-N     1  35s 1f0000  1000  1000 user      metal:silver: 0";
    assert_eq!(line(&mut world, A, key), shown);
    world.now = world.now.plus(35);
    assert!(line(&mut world, A, key).starts_with("I--Q-N     1 expd "));
}

#[test]
fn s082_no_group_is_minus_1() {
    let mut world = old();
    appear(&mut world, 1, 1000);
    let user = world.answer(A, &Request::GetKeyringId { id: KeyId::USER, create: false });
    let user = KeyId(user.unwrap() as i32);
    assert_eq!(
        line(&mut world, A, user),
        "I--Q--     2 perm 1f0000  1000    -1 keyring   _uid.1000: empty"
    );
}

#[test]
fn s090_the_sample_of_the_document_comes_out() {
    let mut world = old();
    // Three users who are there without a program of their own.
    for uid in [29, 32, 38] {
        world.answer(Who::user(u64::from(uid), uid), &read(KeyId(0))).unwrap_err();
    }
    // 42 of root's processes, and a key of 13 bytes.
    for task in 100..142 {
        appear(&mut world, task, 0);
    }
    let root = Who::user(100, 0);
    world.answer(root, &add(b"user", Some(b"k:name"), b"secret", KeyId::PROCESS)).unwrap();
    let sample = "    0:    46 45/45 1/100 13/10000\n   \
                     29:     2 2/2 2/100 40/10000\n   \
                     32:     2 2/2 2/100 40/10000\n   \
                     38:     2 2/2 2/100 40/10000\n";
    assert_eq!(world.proc(root, ProcFile::KeyUsers), sample);
}

#[test]
fn s093_a_user_with_just_its_keyrings_has_2_keys_and_40_bytes() {
    let mut world = old();
    // No program of its own: nothing but a setuid.
    appear(&mut world, 1, 0);
    let ids = Ids::all(Uid(29), Gid(29));
    world.service.task_event(world.now, TaskEvent::IdsChanged { task: TaskId(1), ids });
    let users = world.proc(Who::user(2, 0), ProcFile::KeyUsers);
    assert!(users.contains("\n   29:     2 2/2 2/100 40/10000\n"), "{users}");
}

#[test]
fn s134_describe_copies_as_much_as_fits() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "name", S);
    let whole = b"user;1000;1000;1f0000;name\0";
    for room in [None, Some(0), Some(4), Some(26), Some(27), Some(100)] {
        let (answer, data) = world.submit(A, &Request::Describe { key, room });
        assert_eq!(answer, Ok(27));
        assert_eq!(data, &whole[..room.unwrap_or(0).min(27) as usize], "{room:?}");
    }
}

#[test]
fn s134_with_quirks_a_description_ends_with_the_page() {
    let described = |mut world: World| {
        world.join(A, None);
        let name = "x".repeat(4094);
        let key = world.key(A, "user", &name, S);
        world.submit(A, &Request::Describe { key, room: Some(8192) })
    };
    let whole = "user;1000;1000;1f0000;".len() + 4094 + 1;
    let (answer, data) = described(old());
    assert_eq!((answer, data.len()), (Ok(whole as u32), whole));
    let (answer, data) = described(quirky());
    assert_eq!((answer, data.len(), &data[4092..]), (Ok(4096), 4096, &b"xx\0\0"[..]));
}

#[test]
fn s136_a_mask_is_described_by_six_digits() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "name", S);
    world.setperm(A, key, 0x0001_0203);
    assert_eq!(world.describe(A, key).unwrap(), "user;1000;1000;010203;name");
}

#[test]
fn s160_read_copies_as_much_as_fits() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", S);
    let ring = world.key(A, "keyring", "ring", S);
    for room in [None, Some(0), Some(3), Some(6), Some(9)] {
        let (answer, data) = world.submit(A, &Request::Read { key, room });
        let len = room.unwrap_or(0).min(6) as usize;
        assert_eq!((answer, data), (Ok(6), b"secret"[..len].to_vec()), "{room:?}");
    }
    let keys: Vec<u8> =
        (0..3).flat_map(|n| world.key(A, "user", &format!("{n}"), ring).0.to_ne_bytes()).collect();
    for room in [None, Some(0), Some(4), Some(5), Some(12), Some(100)] {
        let (answer, data) = world.submit(A, &Request::Read { key: ring, room });
        let len = room.unwrap_or(0).min(12) as usize;
        assert_eq!((answer, data), (Ok(12), keys[..len].to_vec()), "{room:?}");
    }
}
