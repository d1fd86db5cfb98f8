//! The face of the service: one domain, and what may be done with it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use keyshim_abi::Request;
use keyshim_abi::caller::{Caller, TaskId, Uid};

use crate::construction::Constructions;
use crate::effect::{CallId, Effect, Outcome};
use crate::entropy::Entropy;
use crate::hasher::IndexHasher;
use crate::held::Held;
use crate::key::KeyIx;
use crate::key_type::Types;
use crate::lookup::{Call, Stop};
use crate::names::Names;
use crate::ops;
use crate::process_keys::{Image, ImageIx, Namespaces, Numbers, Task};
use crate::profile::{MissingSession, Profile, UserKeyringsLive};
use crate::quota::{Knobs, Users};
use crate::residents::Residents;
use crate::store::Store;
use crate::waiting::Waiters;
use crate::{Now, TaskEvent};

/// How a domain begins.
pub struct Config {
    /// Randomness: the system's, or a generator with a seed.
    pub entropy: Box<dyn Entropy>,
    /// Whether somebody is called for keys that are not there.
    pub upcalls: Upcalls,
    /// Which kernel it behaves like.
    pub profile: Profile,
}

/// What happens to a request for a key that is not there, with callout information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upcalls {
    /// ENOKEY, as without callout information, unless the key's type makes its keys
    /// itself.
    Off,
    /// The shell is to start a helper ([`crate::Effect::StartUpcall`]).
    On,
}

/// One key universe.
pub struct KeyService {
    pub(crate) profile: Profile,
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
    pub(crate) residents: Residents,
    pub(crate) numbers: BTreeMap<TaskId, Numbers>,
    pub(crate) names: Names,
    /// Keys that expire, or were revoked, and when.
    pub(crate) deaths: BTreeSet<(Now, KeyIx)>,
    /// The same for keys of types that are collected without delay.
    pub(crate) deaths_at_once: BTreeSet<(Now, KeyIx)>,
    /// Keys that nobody uses any more, to be destroyed when the call has ended.
    pub(crate) graveyard: Vec<KeyIx>,
    /// Keys that are used until the present input has ended.
    pub(crate) used_until_the_end: Vec<KeyIx>,
    /// Some ring has had more links than one node of its tree holds.
    pub(crate) order_is_undefined: bool,
    pub(crate) upcalls: Upcalls,
    pub(crate) constructions: Constructions,
    pub(crate) waiters: Waiters,
    /// Keys that have been finished since their waiters were last woken.
    pub(crate) finished: Vec<KeyIx>,
    pub(crate) held: Held,
    pub(crate) effects: Vec<Effect>,
}

impl KeyService {
    /// An empty universe.
    #[must_use]
    pub fn new(config: Config) -> KeyService {
        let mut entropy = config.entropy;
        let mut service = KeyService {
            profile: config.profile,
            hasher: IndexHasher::new(&mut *entropy),
            entropy,
            store: Store::new(config.profile.user_keyrings),
            types: Types::builtin(&config.profile),
            users: Users::default(),
            knobs: Knobs::of(&config.profile),
            tasks: BTreeMap::new(),
            images: BTreeMap::new(),
            next_image: 0,
            namespaces: Namespaces::new(),
            residents: Residents::default(),
            numbers: BTreeMap::new(),
            names: Names::default(),
            deaths: BTreeSet::new(),
            deaths_at_once: BTreeSet::new(),
            graveyard: Vec::new(),
            used_until_the_end: Vec::new(),
            order_is_undefined: false,
            upcalls: config.upcalls,
            constructions: Constructions::default(),
            waiters: Waiters::default(),
            finished: Vec::new(),
            held: Held::default(),
            effects: Vec::new(),
        };
        service.moves_in(Uid::ROOT);
        service
    }

    /// Carries out one call. Bytes for the caller's buffer are appended to `data`, never
    /// more than the room that the request offers. A call that waits is answered by a
    /// later input, by an effect with its number.
    pub fn submit(
        &mut self,
        now: Now,
        id: CallId,
        caller: &Caller<'_>,
        request: &Request<'_>,
        data: &mut Vec<u8>,
    ) -> Outcome {
        let call = Call::new(now, id, caller);
        self.refresh_ids(&call);
        let outcome = match ops::carry_out(self, &call, request, data) {
            Ok(value) => Outcome::Done(Ok(value)),
            Err(Stop::Refused(errno)) => Outcome::Done(Err(errno)),
            Err(Stop::Waits(wait)) => {
                self.begin_wait(&call, request, wait);
                Outcome::Waiting
            }
        };
        self.settle(now);
        outcome
    }

    /// Takes note of what happened to a task.
    pub fn task_event(&mut self, now: Now, event: TaskEvent) {
        self.apply(event);
        self.settle(now);
    }

    /// What the shell is to do because of the inputs so far, in order.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    /// Which kernel it behaves like.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether somebody is called for keys that are not there.
    #[must_use]
    pub const fn upcalls(&self) -> Upcalls {
        self.upcalls
    }

    /// True when this thread has a session keyring of its own choosing or its
    /// parents', so that no call of its can make it get another by access alone. A
    /// user-session keyring is none: it gives way as soon as a key is to be made.
    #[must_use]
    pub fn has_session(&self, task: TaskId) -> bool {
        let session = self.tasks.get(&task).and_then(|task| task.rings.session);
        let gives_way = self.profile.missing_session == MissingSession::NewToMakeKeys;
        session.is_some_and(|ring| !(gives_way && self.store.get(ring).flags.uid_keyring))
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

    /// A call with new ids implies that they have changed, and any call that its user is
    /// there.
    pub(crate) fn refresh_ids(&mut self, call: &Call<'_>) {
        let ids = call.caller.ids;
        if self.tasks.get(&call.caller.task).is_some_and(|task| task.ids != ids) {
            self.ids_changed(call.caller.task, ids);
        }
        if self.profile.user_keyrings == UserKeyringsLive::WithTheUser {
            self.task(call);
        }
    }
}
