//! A file server that wants a ticket of whoever opens a file, as file systems in the
//! kernel do: it registers a type of key, requests the user's key at open, looks into it
//! at each access, and lets go of it at close. A helper gets a ticket that is not there;
//! here it is a task of this program, elsewhere it is a process that the program starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyshim_abi::caller::{Caller, Gid, Ids, NamespaceOf, TaskId, Uid, Unprivileged};
use keyshim_abi::{Errno, KeyId, Payload as Sent, Request};
use keyshim_examples::{ALICE, alice, answer};
use keyshim_keys::{
    CallId, Config, Effect, HeldKey, KeyRequest, KeyService, KeyType, Now, Preparsed, Profile,
    SeededEntropy, TaskEvent, Upcall, Upcalls,
};

const OPENER: TaskId = TaskId(1);
const HELPER: TaskId = TaskId(2);
const MORNING: Now = Now(1_000_000_000);
const TICKET_LIFE_S: u32 = 3600;

/// `ticket:SERVER`, whose payload is for the server alone: nobody can read it.
struct Ticket;

impl KeyType for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        if data.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(Preparsed { life_s: Some(TICKET_LIFE_S), ..Preparsed::copied(data) })
    }

    fn vet_description(&self, description: &[u8]) -> Result<(), Errno> {
        if description.starts_with(b"ticket:") { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn wipes_when_revoked(&self) -> bool {
        true
    }
}

struct Server {
    keys: KeyService,
    /// The ticket behind each open file.
    open: BTreeMap<u32, HeldKey>,
}

impl Server {
    fn open(&mut self, now: Now, file: u32) -> Result<(), Errno> {
        let what = (&b"ticket"[..], &b"ticket:files"[..]);
        let request =
            self.keys.request_key(now, CallId(1), &alice(OPENER), what, Some(b"alice@REALM"));
        let key = match request {
            KeyRequest::Found(key) => key,
            KeyRequest::Refused(errno) => return Err(errno),
            KeyRequest::Waiting => self.wait(now)?,
        };
        println!("open {file}: {:?}", self.keys.key_info(&key)?.type_name);
        self.open.insert(file, key);
        Ok(())
    }

    /// Does what the service wants until the key is there.
    fn wait(&mut self, now: Now) -> Result<HeldKey, Errno> {
        loop {
            for effect in self.keys.take_effects() {
                match effect {
                    Effect::StartUpcall(upcall) => self.helper(now, &upcall)?,
                    Effect::Requested { key, .. } => return key,
                    Effect::Reply { .. } => unreachable!("no call of a caller's waits"),
                }
            }
        }
    }

    /// What `/sbin/request-key` would do in a process of its own.
    fn helper(&mut self, now: Now, upcall: &Upcall) -> Result<(), Errno> {
        println!("request-key {}", upcall.arguments().join(" "));
        let ids = Ids::all(Uid::ROOT, Gid(0));
        let begun = TaskEvent::UpcallStarted { upcall: upcall.id, task: HELPER, ids };
        self.keys.task_event(now, begun);
        let caller = Caller {
            task: HELPER,
            tid: 2,
            ids,
            namespace: NamespaceOf::OUTERMOST,
            parent: None,
            privileges: &Unprivileged,
        };
        let key = KeyId(upcall.key.raw());
        let mut principal = Vec::new();
        for request in
            [Request::AssumeAuthority { key }, Request::Read { key: KeyId::AUTH, room: Some(4096) }]
        {
            answer(self.keys.submit(now, CallId(2), &caller, &request, &mut principal))?;
        }
        let ticket = [b"ticket of ", &principal[..]].concat();
        let payload = Sent::Carried(&ticket);
        let made = Request::Instantiate { key, payload, keyring: KeyId(0) };
        answer(self.keys.submit(now, CallId(2), &caller, &made, &mut Vec::new()))?;
        self.keys.task_event(now, TaskEvent::Exited { task: HELPER });
        self.keys.upcall_exited(now, upcall.id);
        Ok(())
    }

    /// True when the ticket behind an open file is still good.
    fn access(&self, now: Now, file: u32) -> Result<usize, Errno> {
        let key = self.open.get(&file).ok_or(Errno::EBADF)?;
        self.keys.with_payload(now, key, |ticket| ticket.len())
    }

    fn close(&mut self, file: u32) {
        self.open.remove(&file);
    }
}

fn main() -> Result<(), Errno> {
    let entropy = Box::new(SeededEntropy::new(1));
    let keys = KeyService::new(Config { entropy, upcalls: Upcalls::On, profile: Profile::LINUX_6 });
    let mut server = Server { keys, open: BTreeMap::new() };
    server.keys.register_type(Arc::new(Ticket))?;
    server.keys.task_event(MORNING, TaskEvent::Appeared { task: OPENER, ids: ALICE });

    server.open(MORNING, 1)?;
    server.open(MORNING, 2)?;
    assert_eq!(server.access(MORNING, 1), Ok(21), "the helper's ticket, asked for once");
    assert_eq!(server.open[&1].serial(), server.open[&2].serial(), "the same for both files");

    let noon = MORNING.plus(TICKET_LIFE_S);
    assert_eq!(server.access(noon, 1), Err(Errno::EKEYEXPIRED), "a reference is no right");
    server.open(noon, 3)?;
    assert!(server.access(noon, 3).is_ok(), "an expired ticket counts as none");

    for file in [1, 2, 3] {
        server.close(file);
    }
    assert_eq!(server.access(noon, 3), Err(Errno::EBADF));
    server.keys.unregister_type(b"ticket")?;
    Ok(())
}
