//! The same inputs give the same state, serials included.

use keyshim_abi::procfs::ProcFile;
use keyshim_abi::{KeyId, Request};

use crate::world::{Who, World};

/// A history with every way to get a serial: its answers and what `/proc` shows.
fn history(seed: u64) -> (Vec<u32>, String) {
    let mut world = World::seeded(seed);
    let mut answers = Vec::new();
    for (task, uid) in [(1, 0), (2, 1000), (3, 1001)] {
        let who = Who::user(task, uid);
        answers.push(world.join(who, Some("work")).0 as u32);
        for id in [KeyId::THREAD, KeyId::PROCESS, KeyId::USER, KeyId::USER_SESSION] {
            answers.push(world.answer(who, &Request::GetKeyringId { id, create: true }).unwrap());
        }
        for number in 0..40 {
            let key = world.key(who, "user", &format!("key {number}"), KeyId::SESSION);
            answers.push(key.0 as u32);
            if number % 3 == 0 {
                assert_eq!(world.answer(who, &Request::Invalidate { key }), Ok(0));
            }
        }
        answers.extend(world.links(who, KeyId::SESSION).iter().map(|key| key.0 as u32));
        world.pass(10);
    }
    let shown = world.proc(Who::user(1, 0), ProcFile::Keys);
    (answers, shown)
}

#[test]
fn one_seed_and_one_history_give_one_state() {
    assert_eq!(history(7), history(7));
}

#[test]
fn another_seed_gives_other_serials() {
    assert_ne!(history(7).0, history(8).0);
}
