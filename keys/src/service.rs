//! The face of the service: one domain, and what may be done with it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use keyshim_abi::caller::{Caller, TaskId};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Request};

use crate::entropy::Entropy;
use crate::hasher::IndexHasher;
use crate::key::KeyIx;
use crate::key_type::{KeyType, Types};
use crate::lookup::Call;
use crate::names::Names;
use crate::ops;
use crate::process_keys::{Image, ImageIx, Namespaces, Task};
use crate::quota::{Knobs, Users};
use crate::store::Store;
use crate::{Now, TaskEvent};

/// How a domain begins.
pub struct Config {
    /// Randomness: the system's, or a generator with a seed.
    pub entropy: Box<dyn Entropy>,
}

/// One key universe.
pub struct KeyService {
    pub(crate) entropy: Box<dyn Entropy>,
    pub(crate) hasher: IndexHasher,
    pub(crate) store: Store,
    pub(crate) types: Types,
    pub(crate) users: Users,
    pub(crate) knobs: Knobs,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) images: BTreeMap<ImageIx, Image>,
    pub(crate) next_image: u64,
    pub(crate) namespaces: Namespaces,
    pub(crate) names: Names,
    /// Keys that expire, or were revoked, and when.
    pub(crate) deaths: BTreeSet<(Now, KeyIx)>,
    /// Keys that nobody uses any more, to be destroyed when the call has ended.
    pub(crate) graveyard: Vec<KeyIx>,
    /// Some ring has had more links than one node of its tree holds.
    pub(crate) order_is_undefined: bool,
}

impl KeyService {
    /// An empty universe.
    #[must_use]
    pub fn new(config: Config) -> KeyService {
        let mut entropy = config.entropy;
        KeyService {
            hasher: IndexHasher::new(&mut *entropy),
            entropy,
            store: Store::default(),
            types: Types::builtin(),
            users: Users::default(),
            knobs: Knobs::default(),
            tasks: BTreeMap::new(),
            images: BTreeMap::new(),
            next_image: 0,
            namespaces: Namespaces::new(),
            names: Names::default(),
            deaths: BTreeSet::new(),
            graveyard: Vec::new(),
            order_is_undefined: false,
        }
    }

    /// Carries out one call. Bytes for the caller's buffer are appended to `data`,
    /// never more than the room that the request offers.
    pub fn submit(
        &mut self,
        now: Now,
        caller: &Caller<'_>,
        request: &Request<'_>,
        data: &mut Vec<u8>,
    ) -> Answer {
        let call = Call { now, caller };
        self.refresh_ids(&call);
        let answer = ops::carry_out(self, &call, request, data);
        self.reap();
        answer
    }

    /// Takes note of what happened to a task.
    pub fn task_event(&mut self, _now: Now, event: TaskEvent) {
        self.apply(event);
        self.reap();
    }

    /// Adds a key type. EEXIST when one of that name is registered.
    pub fn register_type(&mut self, key_type: Arc<dyn KeyType>) -> Result<(), Errno> {
        self.types.register(key_type)
    }

    /// True when this thread has a session keyring of its own choosing or its
    /// parents', so that no call of its can make it get another by access alone. A
    /// user-session keyring is none: it gives way as soon as a key is to be made.
    #[must_use]
    pub fn has_session(&self, task: TaskId) -> bool {
        let session = self.tasks.get(&task).and_then(|task| task.rings.session);
        session.is_some_and(|ring| !self.store.get(ring).flags.uid_keyring)
    }

    /// True when this thread has a thread keyring.
    #[must_use]
    pub fn has_thread_keyring(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|task| task.rings.thread.is_some())
    }

    /// True when this thread has a process keyring.
    #[must_use]
    pub fn has_process_keyring(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|task| task.rings.process.is_some())
    }

    /// True when the program that this thread runs keeps a thread or process keyring
    /// alive from before its execve.
    #[must_use]
    pub fn has_left_keyrings(&self, task: TaskId) -> bool {
        let image = self.tasks.get(&task).and_then(|task| task.image);
        let image = image.and_then(|image| self.images.get(&image));
        image.is_some_and(|image| image.rings.thread.or(image.rings.process).is_some())
    }

    /// How many keys there are, the registers and the users' own keyrings left out:
    /// what would be lost if the domain ended now.
    #[must_use]
    pub fn key_count(&self) -> usize {
        let standing =
            |key: &crate::key::Key| key.flags.uid_keyring || key.description.first() == Some(&b'.');
        self.store.iter().filter(|(_, key)| !standing(key)).count()
    }

    /// True once any keyring has held more than sixteen links: from then on the order
    /// of a listing, and which of several equal keys a search finds, depend on a secret
    /// in this domain as in a kernel.
    #[must_use]
    pub fn order_is_undefined(&self) -> bool {
        self.order_is_undefined
    }

    /// A call with new ids implies that they have changed.
    pub(crate) fn refresh_ids(&mut self, call: &Call<'_>) {
        let ids = call.caller.ids;
        if self.tasks.get(&call.caller.task).is_some_and(|task| task.ids != ids) {
            self.ids_changed(call.caller.task, ids);
        }
    }
}
