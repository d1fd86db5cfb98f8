//! The key service inside a program: tasks are what we say, and so is the time.
//!
//! A login makes a session keyring; a child inherits it; a key in it expires when the
//! clock is turned; the session ends with its last task. No process, no socket and no
//! waiting is needed, which makes this a way to test programs' use of keys. Run it with
//! `cargo run -p keyshim-examples --example session`.

use keyshim_abi::caller::TaskId;
use keyshim_abi::{Errno, KeyId, Payload, Request};
use keyshim_examples::{ALICE, alice, answer};
use keyshim_keys::{CallId, Config, KeyService, Now, Profile, SeededEntropy, TaskEvent, Upcalls};

const LOGIN: TaskId = TaskId(1);
const CHILD: TaskId = TaskId(2);
const LATER: TaskId = TaskId(3);
const SECRET: &[u8] = b"open sesame";
const TOKEN_LIFE_S: u32 = 30;

/// A service and the clock that it is told the time from.
struct World {
    service: KeyService,
    now: Now,
}

impl World {
    fn new() -> World {
        let service = KeyService::new(Config {
            entropy: Box::new(SeededEntropy::new(1)),
            upcalls: Upcalls::Off,
            profile: Profile::LINUX_6,
        });
        World { service, now: Now(1_000_000_000) }
    }

    fn happens(&mut self, what: &str, event: TaskEvent) {
        println!("{what}");
        self.service.task_event(self.now, event);
    }

    /// One call of a task: the id that it returns.
    fn call(&mut self, what: &str, task: TaskId, request: &Request<'_>) -> Result<KeyId, Errno> {
        let answer = answer(self.service.submit(
            self.now,
            CallId(0),
            &alice(task),
            request,
            &mut Vec::new(),
        ));
        println!("    {what} -> {answer:?}");
        answer.map(|number| KeyId::from_register(number.into()))
    }

    /// One call of a task that reads a payload.
    fn read(&mut self, what: &str, task: TaskId, key: KeyId) -> Result<Vec<u8>, Errno> {
        let mut data = Vec::new();
        let request = Request::Read { key, room: Some(4096) };
        let answer =
            answer(self.service.submit(self.now, CallId(0), &alice(task), &request, &mut data));
        println!("    {what} -> {answer:?}");
        answer.map(|_| data)
    }

    /// Turns the clock to when something is to be collected, until nothing is.
    fn wait_for_collections(&mut self) {
        while let Some(due) = self.service.next_collection() {
            println!("{} s go by", due.0 - self.now.0);
            self.now = self.now.max(due);
            self.service.collect(self.now);
        }
    }
}

/// A session keyring with a token in it that lives for [`TOKEN_LIFE_S`].
fn log_in(world: &mut World) -> Result<(KeyId, KeyId), Errno> {
    world.happens("alice logs in", TaskEvent::Appeared { task: LOGIN, ids: ALICE });
    let join = Request::JoinSessionKeyring { name: None };
    let session = world.call("join a new session keyring", LOGIN, &join)?;
    let add = Request::AddKey {
        type_name: Ok(b"user"),
        description: Some(Ok(b"token")),
        payload: Payload::Carried(SECRET),
        keyring: KeyId::SESSION,
    };
    let token = world.call("add a token to it", LOGIN, &add)?;
    let limit = Request::SetTimeout { key: token, timeout_s: TOKEN_LIFE_S };
    world.call("let it live for 30 s", LOGIN, &limit)?;
    Ok((session, token))
}

/// The child of a fork has the session keyring until it joins one of its own.
fn inherit_and_leave(world: &mut World, token: KeyId) -> Result<(), Errno> {
    world.happens("she forks a child", TaskEvent::Forked { parent: LOGIN, child: CHILD });
    assert_eq!(world.read("the child reads the token", CHILD, token)?, SECRET, "inherited");
    let join = Request::JoinSessionKeyring { name: None };
    world.call("the child joins a session keyring of its own", CHILD, &join)?;
    let refused = world.read("and reads the token again", CHILD, token);
    assert_eq!(refused, Err(Errno::EACCES), "the same user, but possessed no longer");
    world.happens("the child exits", TaskEvent::Exited { task: CHILD });
    Ok(())
}

/// An expired key says so until it is collected, and then is none.
fn expire(world: &mut World, token: KeyId) -> Result<(), Errno> {
    world.now = world.now.plus(TOKEN_LIFE_S - 1);
    println!("29 s go by");
    assert_eq!(world.read("alice reads the token", LOGIN, token)?, SECRET, "a second is left");
    world.now = world.now.plus(1);
    println!("another second goes by");
    let expired = world.read("alice reads the token", LOGIN, token);
    assert_eq!(expired, Err(Errno::EKEYEXPIRED), "its time is up");
    world.wait_for_collections();
    let gone = world.read("alice reads the token", LOGIN, token);
    assert_eq!(gone, Err(Errno::ENOKEY), "collected");
    Ok(())
}

fn main() -> Result<(), Errno> {
    let mut world = World::new();
    let (session, token) = log_in(&mut world)?;
    inherit_and_leave(&mut world, token)?;
    expire(&mut world, token)?;

    world.happens("alice logs out", TaskEvent::Exited { task: LOGIN });
    world.happens("and in again", TaskEvent::Appeared { task: LATER, ids: ALICE });
    let look = Request::GetKeyringId { id: session, create: false };
    let gone = world.call("look for the old session keyring", LATER, &look);
    assert_eq!(gone, Err(Errno::ENOKEY), "a session goes with its last task");
    Ok(())
}
