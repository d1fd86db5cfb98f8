//! The pure core: calls are marshalled from made-up memory, tasks are those of the
//! model, the clock is what we say.

use std::cell::RefCell;

use anyhow::Result;
use keyshim_abi::Errno;
use keyshim_abi::marshal::{self, Entry, RawCall};
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::reply::Reply;
use keyshim_abi::user_memory::UserMemory;
use keyshim_keys::{Config, Entropy, KeyService, Now, TaskEvent};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Deed, ProcText, World};
use crate::model::Tasks;
use crate::wire::{BAD_ADDRESS, Register, Report, UNTOUCHED};

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

/// A key service and the tasks that call it.
pub struct CoreWorld {
    service: KeyService,
    tasks: Tasks,
    now: Now,
    id_base: u32,
}

impl CoreWorld {
    /// An empty universe with one task of that name.
    #[must_use]
    pub fn new(seed: u64, first: &str, second: i64, id_base: u32) -> CoreWorld {
        let entropy = Box::new(Seeded(ChaCha8Rng::seed_from_u64(seed)));
        let mut service = KeyService::new(Config { entropy });
        let mut tasks = Tasks::default();
        let now = Now(second);
        let task = tasks.begin(first);
        let ids = keyshim_abi::caller::Ids::all(
            keyshim_abi::caller::Uid::ROOT,
            keyshim_abi::caller::Gid(0),
        );
        service.task_event(now, TaskEvent::Appeared { task, ids });
        CoreWorld { service, tasks, now, id_base }
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

    fn call(&mut self, actor: &str, entry: u8, registers: &[Register]) -> Result<(i64, Vec<u8>)> {
        let mut args = [0u64; 5];
        let mut regions = Vec::new();
        for (index, register) in registers.iter().enumerate().take(5) {
            let address = (index as u64 + 1) << SHIFT;
            let (value, region) = match register {
                Register::Value(value) => (*value, Vec::new()),
                Register::Bad => (BAD_ADDRESS, Vec::new()),
                Register::In(bytes) => (address, bytes.clone()),
                Register::Out(len) => (address, vec![UNTOUCHED; *len as usize]),
            };
            args[index] = value;
            regions.push(region);
        }
        let entry = [Entry::AddKey, Entry::RequestKey, Entry::Keyctl][usize::from(entry)];
        let memory = Regions(RefCell::new(regions));
        let ret = self.submit(actor, &RawCall::native(entry, args), &memory)?;
        let out = registers.iter().position(|register| matches!(register, Register::Out(_)));
        let mut regions = memory.0.into_inner();
        Ok((ret, out.map_or_else(Vec::new, |index| std::mem::take(&mut regions[index]))))
    }

    fn submit(&mut self, actor: &str, call: &RawCall, memory: &Regions) -> Result<i64> {
        let mut scratch = vec![0; call.scratch_len()];
        let mut data = Vec::new();
        let answer = match marshal::request(call, memory, &mut scratch) {
            Err(errno) => Err(errno),
            Ok(request) => {
                let caller = self.tasks.caller(actor)?;
                self.service.collect(self.now);
                self.service.submit(self.now, &caller, &request, &mut data)
            }
        };
        Ok(marshal::deliver(call, &Reply { answer, data: &data }, memory))
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

    fn exited(&mut self, ended: Vec<keyshim_abi::caller::TaskId>) {
        for task in ended {
            self.service.task_event(self.now, TaskEvent::Exited { task });
        }
    }

    fn task_deed(&mut self, actor: &str, deed: &Deed) -> Result<()> {
        let task = self.tasks.find(actor)?.id;
        match deed {
            Deed::Fork(name) => {
                let child = self.tasks.fork(actor, name)?;
                self.service.task_event(self.now, TaskEvent::Forked { parent: task, child });
            }
            Deed::Thread(name) => {
                let child = self.tasks.thread(actor, name)?;
                self.service.task_event(self.now, TaskEvent::ThreadStarted { parent: task, child });
            }
            Deed::Exec => {
                let ended = self.tasks.exec(actor)?;
                self.service.task_event(self.now, TaskEvent::Execed { task });
                self.exited(ended);
                let ids = self.tasks.find(actor)?.ids;
                self.service.task_event(self.now, TaskEvent::IdsChanged { task, ids });
            }
            Deed::Exit => {
                let ended = self.tasks.exit(actor)?;
                self.exited(ended);
            }
            _ => {}
        }
        Ok(())
    }
}

impl World for CoreWorld {
    fn act(&mut self, actor: &str, deed: &Deed) -> Result<Report> {
        let (mut ret, mut out) = (0, Vec::new());
        match deed {
            Deed::Call(entry, registers) => (ret, out) = self.call(actor, *entry, registers)?,
            Deed::Open(text) => out = self.read(actor, *text)?,
            Deed::SetIds(which, wanted) => {
                let task = self.tasks.find_mut(actor)?;
                if !task.set_ids(*which, *wanted) {
                    ret = -i64::from(Errno::EPERM.raw());
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
                    false => ret = -i64::from(Errno::EPERM.raw()),
                }
            }
            Deed::Wait(seconds) => self.now = self.now.plus(*seconds),
            other => self.task_deed(actor, other)?,
        }
        Ok(Report { ret, out, second_before: self.now.0, second_after: self.now.0 })
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
