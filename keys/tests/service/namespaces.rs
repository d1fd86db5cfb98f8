//! User namespaces: whose ids are mapped, and what belongs to a namespace.

use keyshim_abi::caller::Uid;
use keyshim_abi::caller::{IdMap, IdRun, UserNamespace};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{Errno, KeyId, Request};

use crate::world::{Who, World};

/// Inside 0 is outside 100,000, and so on for ten ids.
const RUNS: &[IdRun] = &[IdRun { inside: 0, outside: 100_000, count: 10 }];
const CONTAINER: UserNamespace<'static> =
    UserNamespace { number: 1, owner: Uid(1000), uids: IdMap(RUNS), gids: IdMap(RUNS) };
/// Another one, over the same ids.
const TWIN: UserNamespace<'static> = UserNamespace { number: 2, ..CONTAINER };

const OUTSIDE: Who = Who::user(1, 0);
/// Root of the container, as the kernel sees it.
const INSIDE: Who = Who { namespace: CONTAINER, ..Who::user(2, 100_000) };
const IN_TWIN: Who = Who { task: 3, namespace: TWIN, ..INSIDE };
/// The same user without a namespace.
const SAME_USER: Who = Who::user(4, 100_000);

const PUBLIC: u32 = 0x3f3f_3f3f;

fn world() -> World {
    let mut world = World::new();
    for who in [OUTSIDE, INSIDE, IN_TWIN, SAME_USER] {
        world.join(who, None);
    }
    world
}

fn ring_id(world: &mut World, who: Who, id: KeyId) -> KeyId {
    KeyId(world.answer(who, &Request::GetKeyringId { id, create: true }).unwrap() as i32)
}

#[test]
fn ids_that_are_not_mapped_are_einval_to_chown() {
    let mut world = world();
    let key = world.key(INSIDE, "user", "k", KeyId::SESSION);
    let unchanged = u32::MAX;
    for (uid, gid) in [(10, unchanged), (1000, 0), (100_000, unchanged), (unchanged, 10), (0, 77)] {
        let request = Request::Chown { key, uid, gid };
        assert_eq!(world.answer(INSIDE, &request), Err(Errno::EINVAL), "{request:?}");
    }
    let none = Request::Chown { key: KeyId(0), uid: unchanged, gid: unchanged };
    assert_eq!(world.answer(INSIDE, &none), Ok(0));
    assert_eq!(world.answer(INSIDE, &Request::Chown { key, uid: 0, gid: 0 }), Ok(0));
    let other = Request::Chown { key, uid: 1, gid: unchanged };
    assert_eq!(world.answer(INSIDE, &other), Err(Errno::EACCES));
}

#[test]
fn describe_shows_ids_as_the_reader_has_them() {
    let mut world = world();
    let inner = world.key(INSIDE, "user", "inner", KeyId::SESSION);
    world.setperm(INSIDE, inner, PUBLIC);
    assert_eq!(world.describe(INSIDE, inner).unwrap(), "user;0;0;3f3f3f3f;inner");
    assert_eq!(world.describe(OUTSIDE, inner).unwrap(), "user;100000;100000;3f3f3f3f;inner");
    let outer = world.key(OUTSIDE, "user", "outer", KeyId::SESSION);
    world.setperm(OUTSIDE, outer, PUBLIC);
    assert_eq!(world.describe(INSIDE, outer).unwrap(), "user;65534;65534;3f3f3f3f;outer");
}

#[test]
fn proc_keys_hides_keys_whose_owner_is_not_mapped() {
    let mut world = world();
    let inner = world.key(INSIDE, "user", "inner", KeyId::SESSION);
    let outer = world.key(OUTSIDE, "user", "outer", KeyId::SESSION);
    world.setperm(INSIDE, inner, PUBLIC);
    world.setperm(OUTSIDE, outer, PUBLIC);
    assert!(world.proc_line(OUTSIDE, inner).unwrap().contains(" 3f3f3f3f 100000 100000 user "));
    assert!(world.proc_line(OUTSIDE, outer).is_some());
    assert!(world.proc_line(INSIDE, inner).unwrap().contains(" 3f3f3f3f     0     0 user "));
    assert_eq!(world.proc_line(INSIDE, outer), None);
}

#[test]
fn key_users_shows_the_users_that_are_mapped() {
    let mut world = world();
    let users = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(users(world.proc(OUTSIDE, ProcFile::KeyUsers)), ["0", "100000"]);
    assert_eq!(users(world.proc(INSIDE, ProcFile::KeyUsers)), ["0"]);
}

#[test]
fn user_keyrings_belong_to_a_namespace_and_bear_its_ids() {
    let mut world = world();
    let users = [INSIDE, IN_TWIN, SAME_USER];
    for (id, name) in [(KeyId::USER, "_uid"), (KeyId::USER_SESSION, "_uid_ses")] {
        let [inside, twin, same] = users.map(|who| ring_id(&mut world, who, id));
        assert!(inside != twin && inside != same && twin != same);
        let described = world.describe(INSIDE, inside).unwrap();
        assert!(described.ends_with(&format!(";{name}.0")), "{described}");
        let described = world.describe(SAME_USER, same).unwrap();
        assert!(described.ends_with(&format!(";{name}.100000")), "{described}");
        assert_eq!(ring_id(&mut world, INSIDE, id), inside);
    }
}

#[test]
fn persistent_keyrings_belong_to_a_namespace() {
    let mut world = world();
    let request = Request::GetPersistent { uid: u32::MAX, keyring: KeyId::SESSION };
    let mut get = |who| KeyId(world.answer(who, &request).unwrap() as i32);
    let [inside, twin, same] = [INSIDE, IN_TWIN, SAME_USER].map(&mut get);
    assert!(inside != twin && inside != same && twin != same);
    assert_eq!(get(INSIDE), inside);
    assert!(world.describe(INSIDE, inside).unwrap().ends_with(";_persistent.0"));
    assert!(world.describe(SAME_USER, same).unwrap().ends_with(";_persistent.100000"));
}

#[test]
fn get_persistent_of_others() {
    let mut world = world();
    let get = |uid| Request::GetPersistent { uid, keyring: KeyId::SESSION };
    assert_eq!(world.answer(INSIDE, &get(10)), Err(Errno::EINVAL));
    assert_eq!(world.answer(INSIDE, &get(100_000)), Err(Errno::EINVAL));
    assert_eq!(world.answer(INSIDE, &get(3)), Err(Errno::EPERM));
    let own = world.answer(INSIDE, &get(0));
    assert_eq!(own, world.answer(INSIDE, &get(u32::MAX)));
    let capable = Who { task: 9, privileged: true, ..INSIDE };
    world.join(capable, None);
    let third = KeyId(world.answer(capable, &get(3)).unwrap() as i32);
    assert_eq!(world.answer(capable, &get(0)), own);
    assert!(world.proc_line(OUTSIDE, third).is_none(), "nothing for others to see");
}

#[test]
fn session_names_are_joined_within_a_namespace() {
    let mut world = world();
    let named = world.join(INSIDE, Some("shared"));
    world.setperm(INSIDE, named, PUBLIC);
    let other = world.fork(INSIDE, 20);
    world.join(other, None);
    assert_eq!(world.join(other, Some("shared")), named);
    assert_ne!(world.join(IN_TWIN, Some("shared")), named);
    assert_ne!(world.join(SAME_USER, Some("shared")), named);
    assert_ne!(world.join(OUTSIDE, Some("shared")), named);
}
