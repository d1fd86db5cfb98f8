//! The keyrings that the kernel makes for threads and processes, and whose they are
//! (`install_thread_keyring_to_cred` and its like).

use alloc::borrow::Cow;
use alloc::format;

use keyshim_abi::Errno;
use keyshim_abi::caller::{Ids, TaskId};

use crate::create::NewKey;
use crate::key::KeyIx;
use crate::key_type::TypeIx;
use crate::lookup::Call;
use crate::process_keys::{Numbers, Task};
use crate::profile::{FollowIds, RingNames};
use crate::quota::Charge;
use crate::service::KeyService;

/// Which of a task's keyrings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKeyring {
    Thread,
    Process,
    /// One without a name of its own.
    Session,
}

/// For whom a keyring is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) task: TaskId,
    pub(crate) ids: Ids,
    /// The user namespace where its name will be known.
    pub(crate) namespace: u64,
}

impl Whose {
    fn caller(call: &Call<'_>) -> Whose {
        let caller = call.caller;
        Whose { task: caller.task, ids: caller.ids, namespace: caller.namespace().number }
    }
}

impl KeyService {
    pub(crate) fn thread_keyring(&mut self, call: &Call<'_>, create: bool) -> Result<KeyIx, Errno> {
        match self.task(call).rings.thread {
            Some(ring) => Ok(ring),
            None if !create => Err(Errno::ENOKEY),
            None => {
                let whose = Whose::caller(call);
                let ring = self.new_task_keyring(whose, TaskKeyring::Thread, Charge::Overrun)?;
                self.task(call).rings.thread = Some(ring);
                Ok(ring)
            }
        }
    }

    pub(crate) fn process_keyring(
        &mut self,
        call: &Call<'_>,
        create: bool,
    ) -> Result<KeyIx, Errno> {
        match self.task(call).rings.process {
            Some(ring) => Ok(ring),
            None if !create => Err(Errno::ENOKEY),
            None => {
                let whose = Whose::caller(call);
                let ring = self.new_task_keyring(whose, TaskKeyring::Process, Charge::Overrun)?;
                self.task(call).rings.process = Some(ring);
                Ok(ring)
            }
        }
    }

    /// A new session without a name, with one use. Only the first one may overrun the
    /// quota.
    pub(crate) fn new_anonymous_session(&mut self, call: &Call<'_>) -> Result<KeyIx, Errno> {
        let first = self.task(call).rings.session.is_none();
        let charge = if first { Charge::Overrun } else { Charge::Limited };
        self.new_task_keyring(Whose::caller(call), TaskKeyring::Session, charge)
    }

    /// A keyring for a task, with one use; of that charge, if it counts at all.
    pub(crate) fn new_task_keyring(
        &mut self,
        whose: Whose,
        kind: TaskKeyring,
        charge: Charge,
    ) -> Result<KeyIx, Errno> {
        let name = self.ring_name(whose.task, kind);
        let perm = match kind {
            TaskKeyring::Session => self.profile.session_perm,
            _ => self.profile.task_keyring_perm,
        };
        let charge = if self.profile.task_keyrings_count { charge } else { Charge::Free };
        self.allocate_keyring(&NewKey {
            key_type: TypeIx::KEYRING,
            description: name.as_bytes(),
            uid: whose.ids.uid,
            gid: whose.ids.gid,
            perm,
            charge,
            namespace: whose.namespace,
        })
    }

    fn ring_name(&self, task: TaskId, kind: TaskKeyring) -> Cow<'static, str> {
        let plain = match kind {
            TaskKeyring::Thread => "_tid",
            TaskKeyring::Process => "_pid",
            TaskKeyring::Session => "_ses",
        };
        if self.profile.ring_names == RingNames::Plain {
            return plain.into();
        }
        let Numbers { pid, tid } = self.numbers.get(&task).copied().unwrap_or_default();
        let number = if kind == TaskKeyring::Thread { tid } else { pid };
        format!("{plain}.{number}").into()
    }

    /// A process keyring for a task that begins or executes a program, where kernels make
    /// it then. One that counts for nothing is never refused.
    pub(crate) fn process_keyring_at_once(&mut self, task: TaskId) {
        let Some(&Task { ids, rings, .. }) = self.tasks.get(&task) else { return };
        if !self.profile.process_keyring_at_once || rings.process.is_some() {
            return;
        }
        let whose = Whose { task, ids, namespace: 0 };
        let ring = self.new_task_keyring(whose, TaskKeyring::Process, Charge::Overrun).ok();
        match self.tasks.get_mut(&task) {
            Some(task) => task.rings.process = ring,
            None => ring.into_iter().for_each(|ring| self.put(ring)),
        }
    }

    /// The keyrings that belong to whom a thread acts for (`key_fsuid_changed`).
    pub(crate) fn ids_changed(&mut self, task: TaskId, ids: Ids) {
        let Some(record) = self.tasks.get_mut(&task) else { return };
        let old = core::mem::replace(&mut record.ids, ids);
        let rings = record.rings;
        let of_users = |ids: Ids| [ids.uid, ids.euid, ids.suid, ids.fsuid];
        let of_groups = |ids: Ids| [ids.gid, ids.egid, ids.sgid, ids.fsgid];
        let (process, users, groups) = match self.profile.follow_ids {
            FollowIds::Thread => (None, old.fsuid != ids.fsuid, old.fsgid != ids.fsgid),
            FollowIds::ThreadAndProcess => {
                (rings.process, of_users(old) != of_users(ids), of_groups(old) != of_groups(ids))
            }
        };
        for ring in rings.thread.into_iter().chain(process) {
            let key = self.store.get_mut(ring);
            key.uid = if users { ids.fsuid } else { key.uid };
            key.gid = if groups { ids.fsgid } else { key.gid };
        }
        if old.uid != ids.uid {
            self.moves_in(ids.uid);
            self.moves_out(old.uid);
        }
    }
}
