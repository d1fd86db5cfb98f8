//! A domain with a clock that tests set and tasks that they name by number.

use keyshim_abi::caller::{
    Caller, Capability, Gid, Ids, NamespaceOf, Parent, Privileges, TaskId, Uid, Unprivileged,
    UserNamespace,
};
use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, KeyId, Payload, Perm, Request};
use keyshim_keys::{
    CallId, Config, KeyService, Now, Outcome, Profile, Refusal, SeededEntropy, TaskEvent, Upcalls,
};

/// Every capability of the outermost namespace.
struct All;

impl Privileges for All {
    fn in_group(&self, _: Gid) -> bool {
        false
    }
    fn each_group(&self, _: &mut dyn FnMut(Gid)) {}
    fn capable(&self, _: Capability) -> bool {
        true
    }
    fn capable_in_own_namespace(&self, _: Capability) -> bool {
        true
    }
}

/// Who calls.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    pub(crate) task: u64,
    pub(crate) uid: u32,
    pub(crate) namespace: UserNamespace<'static>,
    pub(crate) privileged: bool,
    /// Its parent, a task of the same user.
    pub(crate) parent: Option<u64>,
}

impl Who {
    /// A task of that user in the outermost namespace.
    pub(crate) const fn user(task: u64, uid: u32) -> Who {
        let namespace = UserNamespace::OUTERMOST;
        Who { task, uid, namespace, privileged: uid == 0, parent: None }
    }

    fn ids(self) -> Ids {
        Ids::all(Uid(self.uid), Gid(self.uid))
    }

    pub(crate) fn caller(self) -> Caller<'static> {
        let privileges: &dyn Privileges = if self.privileged { &All } else { &Unprivileged };
        Caller {
            task: TaskId(self.task),
            tid: self.task as u32,
            ids: self.ids(),
            namespace: NamespaceOf::Known(self.namespace),
            parent: self.parent.map(|task| Parent {
                task: TaskId(task),
                ids: self.ids(),
                unfit: false,
            }),
            privileges,
        }
    }
}

pub(crate) struct World {
    pub(crate) service: KeyService,
    pub(crate) now: Now,
}

impl World {
    pub(crate) fn new() -> World {
        World::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> World {
        World::begin_with(seed, Upcalls::On, Profile::LINUX_6)
    }

    pub(crate) fn with_upcalls(upcalls: Upcalls) -> World {
        World::begin_with(1, upcalls, Profile::LINUX_6)
    }

    pub(crate) fn profiled(profile: Profile) -> World {
        World::begin_with(1, Upcalls::On, profile)
    }

    fn begin_with(seed: u64, upcalls: Upcalls, profile: Profile) -> World {
        let entropy = Box::new(SeededEntropy::new(seed));
        let service = KeyService::new(Config { entropy, upcalls, profile });
        World { service, now: Now(1_000_000) }
    }

    /// One call, after which every invariant holds, and what it gave.
    pub(crate) fn submit(&mut self, who: Who, request: &Request<'_>) -> (Answer, Vec<u8>) {
        let mut data = Vec::new();
        let outcome = self.begin(who, CallId(0), request, &mut data);
        match outcome {
            Outcome::Done(answer) => (answer, data),
            Outcome::Waiting => panic!("{request:?} waits"),
        }
    }

    /// One call, perhaps one that waits, after which every invariant holds.
    pub(crate) fn begin(
        &mut self,
        who: Who,
        call: CallId,
        request: &Request<'_>,
        data: &mut Vec<u8>,
    ) -> Outcome {
        let outcome = self.service.submit(self.now, call, &who.caller(), request, data);
        self.service.audit().unwrap();
        outcome
    }

    pub(crate) fn answer(&mut self, who: Who, request: &Request<'_>) -> Answer {
        self.submit(who, request).0
    }

    /// One call whose cost is of interest: without an audit, which looks at every key.
    pub(crate) fn unaudited(&mut self, who: Who, request: &Request<'_>) -> Answer {
        match self.service.submit(self.now, CallId(0), &who.caller(), request, &mut Vec::new()) {
            Outcome::Done(answer) => answer,
            Outcome::Waiting => panic!("{request:?} waits"),
        }
    }

    pub(crate) fn add(&mut self, who: Who, type_name: &str, name: &str, ring: KeyId) -> Answer {
        let payload = if type_name == "keyring" { &b""[..] } else { b"secret" };
        self.answer(
            who,
            &Request::AddKey {
                type_name: Ok(type_name.as_bytes()),
                description: Some(Ok(name.as_bytes())),
                payload: Payload::Carried(payload),
                keyring: ring,
            },
        )
    }

    /// A key that must be made.
    pub(crate) fn key(&mut self, who: Who, type_name: &str, name: &str, ring: KeyId) -> KeyId {
        KeyId(self.add(who, type_name, name, ring).expect("the key is made") as i32)
    }

    pub(crate) fn search(&mut self, who: Who, type_name: &str, name: &str, ring: KeyId) -> Answer {
        self.answer(
            who,
            &Request::Search {
                keyring: ring,
                type_name: Ok(type_name.as_bytes()),
                description: Ok(name.as_bytes()),
                destination: KeyId(0),
            },
        )
    }

    /// A fresh session, named or not.
    pub(crate) fn join(&mut self, who: Who, name: Option<&str>) -> KeyId {
        let name = name.map(|name| Ok(name.as_bytes()));
        let answer = self.answer(who, &Request::JoinSessionKeyring { name });
        KeyId(answer.expect("a session") as i32)
    }

    /// A key of that type and name that somebody was refused, for a minute.
    pub(crate) fn refuse(&mut self, who: Who, type_name: &str, name: &str, error: Errno) -> KeyId {
        let refusal = Refusal {
            type_name: type_name.as_bytes(),
            description: name.as_bytes(),
            error,
            timeout_s: 60,
        };
        let answer = self.service.add_negative(self.now, &who.caller(), KeyId::SESSION, refusal);
        self.service.audit().unwrap();
        KeyId(answer.expect("a negative key") as i32)
    }

    pub(crate) fn setperm(&mut self, who: Who, key: KeyId, perm: u32) {
        assert_eq!(self.answer(who, &Request::Setperm { key, perm: Perm(perm) }), Ok(0));
    }

    pub(crate) fn describe(&mut self, who: Who, key: KeyId) -> Result<String, Errno> {
        let (answer, data) = self.submit(who, &Request::Describe { key, room: Some(4096) });
        let len = answer? as usize;
        assert_eq!((data.len(), data.last()), (len, Some(&0)));
        Ok(String::from_utf8(data[..len - 1].to_vec()).unwrap())
    }

    /// The serials that a ring lists.
    pub(crate) fn links(&mut self, who: Who, key: KeyId) -> Vec<KeyId> {
        let (answer, data) = self.submit(who, &Request::Read { key, room: Some(1 << 24) });
        assert_eq!(answer.map(|len| len as usize), Ok(data.len()));
        data.chunks_exact(4).map(|raw| KeyId(i32::from_ne_bytes(raw.try_into().unwrap()))).collect()
    }

    /// The line of a key in `/proc/keys`, as far as this caller sees it.
    pub(crate) fn proc_line(&mut self, who: Who, key: KeyId) -> Option<String> {
        let text = self.proc(who, ProcFile::Keys);
        let begin = format!("{:08x} ", key.0);
        text.lines().find(|line| line.starts_with(&begin)).map(str::to_owned)
    }

    pub(crate) fn proc(&mut self, who: Who, file: ProcFile) -> String {
        let mut text = Vec::new();
        self.service.proc_read(self.now, &who.caller(), file, &mut text);
        String::from_utf8(text).unwrap()
    }

    pub(crate) fn set(&mut self, knob: Knob, value: &str) {
        self.service.knob_write(knob, value.as_bytes()).unwrap();
    }

    /// Lets time pass, with the collector at work.
    pub(crate) fn pass(&mut self, seconds: u32) {
        self.now = self.now.plus(seconds);
        self.service.collect(self.now);
        self.service.audit().unwrap();
    }

    pub(crate) fn fork(&mut self, parent: Who, child: u64) -> Who {
        let event = TaskEvent::Forked { parent: TaskId(parent.task), child: TaskId(child) };
        self.service.task_event(self.now, event);
        Who { task: child, ..parent }
    }
}
