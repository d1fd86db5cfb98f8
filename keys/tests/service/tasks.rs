//! Tasks that call, or are given a session, before anybody has reported them.

use keyshim_abi::{KeyId, Request};

use crate::world::{Who, World};

#[test]
fn the_first_call_of_a_task_may_join_a_session_by_name() {
    let mut world = World::new();
    let who = Who::user(1, 1000);
    let session = world.join(who, Some("work"));
    let get = Request::GetKeyringId { id: KeyId::SESSION, create: false };
    assert_eq!(world.answer(who, &get), Ok(session.0 as u32));
}

#[test]
fn a_parent_that_has_not_called_yet_can_be_given_a_session() {
    let mut world = World::new();
    let parent = Who::user(1, 1000);
    let child = Who { parent: Some(1), ..Who::user(2, 1000) };
    let session = world.join(child, None);
    assert_eq!(world.answer(child, &Request::SessionToParent), Ok(0));
    let get = Request::GetKeyringId { id: KeyId::SESSION, create: false };
    assert_eq!(world.answer(parent, &get), Ok(session.0 as u32));
}
