//! Numbers, masks and operations.

use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Perm, Request};

use super::{A, old};
use crate::world::World;

#[test]
fn s007_serials_are_given_one_after_the_other_from_3() {
    let mut world = old();
    let first = world.join(A, None);
    let serials: Vec<i32> =
        (1..4).map(|n| world.key(A, "user", &format!("k{n}"), KeyId::SESSION).0).collect();
    let next: Vec<i32> = (first.0 + 1..first.0 + 4).collect();
    assert_eq!(serials, next);
    let mut new = World::new();
    assert!(new.join(A, None).0 > 1000, "at random");
}

#[test]
fn s047_quota_is_100_keys_and_10000_bytes_for_everybody() {
    let mut world = old();
    world.join(A, None);
    world.join(crate::world::Who::user(2, 0), None);
    world.key(A, "user", "k", KeyId::SESSION);
    let users = world.proc(A, ProcFile::KeyUsers);
    assert_eq!(users.lines().count(), 2);
    assert!(
        users.lines().all(|line| line.contains("/100 ") && line.ends_with("/10000")),
        "{users}"
    );
}

#[test]
fn s133_setperm_takes_three_classes_of_five_rights() {
    let mut world = old();
    world.join(A, None);
    let key = world.key(A, "user", "k", KeyId::SESSION);
    for bit in 0..32 {
        let legal = 0x001f_1f1f & 1 << bit != 0;
        let answer = world.answer(A, &Request::Setperm { key, perm: Perm(1 << bit) });
        assert_eq!(answer, if legal { Ok(0) } else { Err(Errno::EINVAL) }, "bit {bit}");
    }
}

#[test]
fn s169_operations_above_13_are_not_there() {
    let mut world = old();
    let key = world.join(A, None);
    let requests = [
        Request::SetReqkeyKeyring { default: 0 },
        Request::SetTimeout { key, timeout_s: 1 },
        Request::AssumeAuthority { key: KeyId(0) },
        Request::GetSecurity { key, room: None },
        Request::SessionToParent,
        Request::Reject { key, timeout_s: 1, error: 126, keyring: KeyId(0) },
        Request::Invalidate { key },
        Request::GetPersistent { uid: 1000, keyring: key },
        Request::RestrictKeyring { keyring: key, type_name: None, restriction: None },
        Request::Move { key, from: key, to: key, flags: 0 },
        Request::Capabilities { room: 8 },
        Request::Other { operation: 33 },
    ];
    for request in requests {
        assert_eq!(world.answer(A, &request), Err(Errno::EOPNOTSUPP), "{request:?}");
    }
    assert_eq!(world.answer(A, &Request::Revoke { key }), Ok(0));
}
