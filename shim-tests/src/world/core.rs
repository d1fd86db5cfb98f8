//! The pure core: calls are marshalled from made-up memory, tasks are those of the
//! model, the clock is what we say.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use keyshim_abi::Errno;
use keyshim_abi::caller::{Gid, Ids, TaskId, Uid};
use keyshim_abi::marshal::{self, Entry, RawCall};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::reply::Reply;
use keyshim_abi::user_memory::UserMemory;
use keyshim_keys::{
    CallId, Config, Effect, Entropy, KeyService, Now, Outcome, Profile, TaskEvent, Upcall,
    UpcallId, Upcalls,
};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Deed, ProcText, World};
use crate::model::Tasks;
use crate::wire::{self, BAD_ADDRESS, Progress, Register, Report, UNTOUCHED};

/// Address of the buffer in register n: `(n + 1) << SHIFT`.
const SHIFT: u32 = 32;

struct Seeded(ChaCha8Rng);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The memory of a call: each register's bytes in a region of their own.
struct Regions(RefCell<Vec<Vec<u8>>>);

impl Regions {
    fn with<T>(
        &self,
        address: u64,
        len: usize,
        then: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, Errno> {
        let mut regions = self.0.borrow_mut();
        let index = (address >> SHIFT).checked_sub(1).ok_or(Errno::EFAULT)? as usize;
        let region = regions.get_mut(index).ok_or(Errno::EFAULT)?;
        let at = (address & ((1 << SHIFT) - 1)) as usize;
        // Memory is mapped in pages: what lies behind a short string can be read.
        if region.len() < at + len && at + len <= region.len().next_multiple_of(4096) {
            let end = at + len;
            let mut padded = region.clone();
            padded.resize(end, 0);
            return Ok(then(&mut padded[at..end]));
        }
        region.get_mut(at..at + len).map(then).ok_or(Errno::EFAULT)
    }
}

impl UserMemory for Regions {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.with(address, into.len(), |bytes| into.copy_from_slice(bytes))
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.with(address, from.len(), |bytes| bytes.copy_from_slice(from))
    }
}

/// A call that has been made, and the register of its buffer.
struct Begun {
    call: RawCall,
    memory: Regions,
    out: Option<usize>,
}

impl Begun {
    fn end(self, reply: &Reply<'_>) -> Given {
        let ret = marshal::deliver(&self.call, reply, &self.memory);
        let mut regions = self.memory.0.into_inner();
        let out = self.out.map_or_else(Vec::new, |index| std::mem::take(&mut regions[index]));
        Given { progress: Progress::Done, ret, out }
    }
}

/// What a call gives.
#[derive(Default)]
struct Given {
    progress: Progress,
    ret: i64,
    out: Vec<u8>,
}

/// A call that waits, or has an answer that nobody has asked for yet.
struct Waiting {
    id: CallId,
    begun: Option<Begun>,
    given: Option<Given>,
}

struct Helper {
    task: TaskId,
    upcall: Upcall,
}

/// A key service and the tasks that call it.
pub struct CoreWorld {
    service: KeyService,
    tasks: Tasks,
    now: Now,
    id_base: u32,
    /// By actor.
    waiting: HashMap<String, Waiting>,
    /// By the name of the actor that the helper is.
    helpers: HashMap<String, Helper>,
}

impl CoreWorld {
    /// An empty universe with one task of that name.
    #[must_use]
    pub fn new(seed: u64, first: &str, second: i64, id_base: u32) -> CoreWorld {
        CoreWorld::profiled(seed, first, (second, id_base), Profile::default())
    }

    /// The same of another kernel.
    #[must_use]
    pub fn profiled(
        seed: u64,
        first: &str,
        (second, id_base): (i64, u32),
        profile: Profile,
    ) -> CoreWorld {
        let entropy = Box::new(Seeded(ChaCha8Rng::seed_from_u64(seed)));
        let service = KeyService::new(Config { entropy, upcalls: Upcalls::On, profile });
        let mut tasks = Tasks::default();
        let now = Now(second);
        let task = tasks.begin(first);
        let ids = Ids::all(Uid::ROOT, Gid(0));
        let (waiting, helpers) = (HashMap::new(), HashMap::new());
        let mut world = CoreWorld { service, tasks, now, id_base, waiting, helpers };
        world.begin(first, TaskEvent::Appeared { task, ids });
        world
    }

    /// What `/proc` would call a task, and how it begins.
    fn begin(&mut self, name: &str, event: TaskEvent) {
        if let Ok(task) = self.tasks.find(name) {
            let (pid, tid) = (task.process as u32, task.id.0 as u32);
            let numbered = TaskEvent::Numbered { task: task.id, pid, tid };
            self.service.task_event(self.now, numbered);
        }
        self.service.task_event(self.now, event);
    }

    /// The service, to look at it.
    #[must_use]
    pub fn service(&self) -> &KeyService {
        &self.service
    }

    /// The present second.
    #[must_use]
    pub fn second(&self) -> i64 {
        self.now.0
    }

    fn call(&mut self, actor: &str, entry: u8, registers: &[Register]) -> Result<Given> {
        let mut args = [0u64; 5];
        let mut regions = Vec::new();
        for (index, register) in registers.iter().enumerate().take(5) {
            let address = (index as u64 + 1) << SHIFT;
            let (value, region) = match register {
                Register::Value(value) => (*value, Vec::new()),
                Register::Bad => (BAD_ADDRESS, Vec::new()),
                Register::In(bytes) => (address, bytes.clone()),
                Register::Scattered(pieces) => (address, wire::scattered(pieces, address)),
                Register::Out(len) => (address, vec![UNTOUCHED; *len as usize]),
            };
            args[index] = value;
            regions.push(region);
        }
        let entry = [Entry::AddKey, Entry::RequestKey, Entry::Keyctl][usize::from(entry)];
        let out = registers.iter().position(|register| matches!(register, Register::Out(_)));
        let memory = Regions(RefCell::new(regions));
        let begun = Begun { call: RawCall::native(entry, args), memory, out };
        self.submit(actor, begun)
    }

    fn submit(&mut self, actor: &str, begun: Begun) -> Result<Given> {
        let mut scratch = vec![0; begun.call.scratch_len()];
        let mut data = Vec::new();
        let id = CallId(self.tasks.find(actor)?.id.0);
        let outcome = match marshal::request(&begun.call, &begun.memory, &mut scratch) {
            Err(errno) => Outcome::Done(Err(errno)),
            Ok(request) => {
                let caller = self.tasks.caller(actor)?;
                self.service.collect(self.now);
                self.service.submit(self.now, id, &caller, &request, &mut data)
            }
        };
        let given = match outcome {
            Outcome::Done(answer) => begun.end(&Reply { answer, data: &data }),
            Outcome::Waiting => {
                self.waiting
                    .insert(actor.to_owned(), Waiting { id, begun: Some(begun), given: None });
                Given { progress: Progress::Waits, ..Given::default() }
            }
        };
        match self.follow_effects()? {
            Some(upcall) => Ok(Given { progress: upcall, ..given }),
            None => Ok(given),
        }
    }

    /// Hands out answers, and starts a helper: which one, for the key of that serial.
    fn follow_effects(&mut self) -> Result<Option<Progress>> {
        let mut started = None;
        for effect in self.service.take_effects() {
            match effect {
                Effect::Reply { call, answer, data } => {
                    let waiting = self.waiting.values_mut().find(|waiting| waiting.id == call);
                    let waiting = waiting.context("an answer to nobody")?;
                    let begun = waiting.begun.take().context("a second answer")?;
                    waiting.given = Some(begun.end(&Reply { answer, data: &data.0 }));
                }
                Effect::Requested { .. } => bail!("no service requests keys here"),
                Effect::StartUpcall(upcall) => {
                    let name = format!("h{}", self.helpers.len() + 1);
                    let task = self.tasks.helper(&name)?;
                    let ids = Ids::all(Uid::ROOT, Gid(0));
                    let event = TaskEvent::UpcallStarted { upcall: upcall.id, task, ids };
                    self.begin(&name, event);
                    started = Some(Progress::Upcall(name.clone(), upcall.key.raw()));
                    self.helpers.insert(name, Helper { task, upcall });
                }
            }
        }
        Ok(started)
    }

    /// The helpers among tasks that have ended: their upcalls are over.
    fn end_upcalls(&mut self, ended: &[TaskId]) {
        let over: Vec<UpcallId> = self
            .helpers
            .values()
            .filter(|helper| ended.contains(&helper.task))
            .map(|helper| helper.upcall.id)
            .collect();
        for upcall in over {
            self.service.upcall_exited(self.now, upcall);
        }
    }

    fn read(&mut self, actor: &str, text: ProcText) -> Result<Vec<u8>> {
        let file = match text {
            ProcText::Keys => ProcFile::Keys,
            ProcText::KeyUsers => ProcFile::KeyUsers,
            ProcText::Status => return Ok(self.tasks.find(actor)?.status().into_bytes()),
        };
        let caller = self.tasks.caller(actor)?;
        let mut into = Vec::new();
        self.service.collect(self.now);
        self.service.proc_read(self.now, &caller, file, &mut into);
        Ok(into)
    }

    fn answer(&mut self, actor: &str) -> Result<Given> {
        let waiting = self.waiting.get_mut(actor).context("an actor that does not wait")?;
        match waiting.given.take() {
            Some(given) => {
                self.waiting.remove(actor);
                Ok(given)
            }
            None => Ok(Given { progress: Progress::Waits, ..Given::default() }),
        }
    }

    fn exited(&mut self, ended: &[TaskId]) {
        for &task in ended {
            self.service.task_event(self.now, TaskEvent::Exited { task });
        }
    }

    fn task_deed(&mut self, actor: &str, deed: &Deed) -> Result<()> {
        let task = self.tasks.find(actor)?.id;
        match deed {
            Deed::Fork(name) => {
                let child = self.tasks.fork(actor, name)?;
                self.begin(name, TaskEvent::Forked { parent: task, child });
            }
            Deed::Thread(name) => {
                let child = self.tasks.thread(actor, name)?;
                self.begin(name, TaskEvent::ThreadStarted { parent: task, child });
            }
            Deed::Exec => {
                let ended = self.tasks.exec(actor)?;
                self.service.task_event(self.now, TaskEvent::Execed { task });
                self.exited(&ended);
                let ids = self.tasks.find(actor)?.ids;
                self.service.task_event(self.now, TaskEvent::IdsChanged { task, ids });
            }
            Deed::Exit => {
                let ended = self.tasks.exit(actor)?;
                self.exited(&ended);
                self.end_upcalls(&ended);
            }
            _ => {}
        }
        Ok(())
    }
}

impl World for CoreWorld {
    fn act(&mut self, actor: &str, deed: &Deed) -> Result<Report> {
        let mut given = Given::default();
        match deed {
            Deed::Call(entry, registers) => given = self.call(actor, *entry, registers)?,
            Deed::Open(text) => given.out = self.read(actor, *text)?,
            Deed::Answer => given = self.answer(actor)?,
            Deed::Interrupt => {
                let id = self.waiting.get(actor).context("an actor that does not wait")?.id;
                self.service.cancel(self.now, id);
            }
            Deed::Arguments => {
                let helper = self.helpers.get(actor).context("an actor that is no helper")?;
                given.out = helper.upcall.arguments().join(" ").into_bytes();
                if let Some(callout) = helper.upcall.callout_argument() {
                    given.out.extend([b" ", callout].concat());
                }
            }
            Deed::SetIds(which, wanted) => {
                let task = self.tasks.find_mut(actor)?;
                if !task.set_ids(*which, *wanted) {
                    given.ret = -i64::from(Errno::EPERM.raw());
                }
                let event = TaskEvent::IdsChanged { task: task.id, ids: task.ids };
                self.service.task_event(self.now, event);
            }
            Deed::SetGroups(groups) => {
                let task = self.tasks.find_mut(actor)?;
                match task.effective {
                    true => {
                        task.groups.clone_from(groups);
                        task.groups.sort_unstable();
                    }
                    false => given.ret = -i64::from(Errno::EPERM.raw()),
                }
            }
            Deed::Wait(seconds) => self.now = self.now.plus(*seconds),
            other => self.task_deed(actor, other)?,
        }
        self.follow_effects()?;
        let Given { progress, ret, out } = given;
        let second = self.now.0;
        Ok(Report { progress, ret, out, second_before: second, second_after: second })
    }

    fn is_there(&self, actor: &str, waiting: bool) -> bool {
        self.tasks.get(actor).is_some() && self.waiting.contains_key(actor) == waiting
    }

    fn reach(&mut self, second: i64) -> Result<bool> {
        self.now = Now(second);
        Ok(true)
    }

    fn disordered(&self) -> bool {
        self.service.order_is_undefined()
    }

    fn id_base(&self) -> u32 {
        self.id_base
    }
}
