//! Whose keyrings: thread, process and session of each task, and those of users
//! (`process_keys.c`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use keyshim_abi::caller::{Gid, Ids, TaskId};
use keyshim_abi::uapi::reqkey_default as default;
use keyshim_abi::{Errno, Need, Perm};

use crate::create::NewKey;
use crate::key::{KeyIx, KeyRef};
use crate::key_type::TypeIx;
use crate::lookup::Call;
use crate::permission;
use crate::profile::{MissingSession, RingNames, UserKeyringsLive};
use crate::quota::Charge;
use crate::search::{Goal, Miss, Search};
use crate::service::KeyService;

/// The keys that a thread's credentials use: the keyrings that it subscribes to, and the
/// authority that it has assumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Subscriptions {
    pub(crate) thread: Option<KeyIx>,
    pub(crate) process: Option<KeyIx>,
    pub(crate) session: Option<KeyIx>,
    pub(crate) authority: Option<KeyIx>,
}

impl Subscriptions {
    pub(crate) fn each(&self) -> impl Iterator<Item = KeyIx> {
        [self.thread, self.process, self.session, self.authority].into_iter().flatten()
    }

    /// What another process, or another program, goes on with.
    pub(crate) fn inherited(&self) -> Subscriptions {
        Subscriptions { thread: None, process: None, ..*self }
    }
}

/// A thread (`struct cred`, as far as keys go).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) ids: Ids,
    pub(crate) rings: Subscriptions,
    /// `KEY_REQKEY_DEFL_*`.
    pub(crate) reqkey_default: i32,
    /// The program image whose file holds credentials of the past.
    pub(crate) image: Option<ImageIx>,
}

impl Task {
    pub(crate) fn new(ids: Ids) -> Task {
        Task { ids, rings: Subscriptions::default(), reqkey_default: default::DEFAULT, image: None }
    }
}

/// What `/proc` calls a thread, and its process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
}

/// The number of an image; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageIx(pub(crate) u64);

/// A program that execve has loaded. Its file was opened with the credentials of
/// before and stays mapped, so the keyrings of before live until the last process
/// that shares the image has gone or executes another.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) users: usize,
    pub(crate) rings: Subscriptions,
}

/// What a user namespace keeps.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Registers {
    /// `.user_reg`: links the users' keyrings.
    pub(crate) user: Option<KeyIx>,
    /// `.persistent_register`: links the persistent keyrings.
    pub(crate) persistent: Option<KeyIx>,
}

/// The namespaces that have registers.
pub(crate) type Namespaces = BTreeMap<u64, Registers>;

/// A user's two keyrings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserKeyrings {
    pub(crate) user: KeyIx,
    pub(crate) user_session: KeyIx,
}

const POSSESSOR_ALL_BUT_SETATTR: Perm = Perm::POSSESSOR_ALL.without(Perm::possessor(Need::Setattr));
/// `.user_reg`: 0c030000.
const USER_REGISTER_PERM: Perm = Perm(0x0c03_0000);
/// Persistent keyrings and their register: 1f030000.
pub(crate) const PERSISTENT_PERM: Perm = POSSESSOR_ALL_BUT_SETATTR.with(Perm(0x0003_0000));

impl KeyService {
    /// The caller's record; a thread that nobody has reported starts without rings.
    pub(crate) fn task(&mut self, call: &Call<'_>) -> &mut Task {
        if self.profile.ring_names == RingNames::Numbered {
            // A thread that nobody has numbered counts as a process of its own.
            let tid = call.caller.tid;
            self.numbers.entry(call.caller.task).or_insert(Numbers { pid: tid, tid });
        }
        self.take_up(call.caller.task, call.caller.ids)
    }

    /// The record of a task, which may be new.
    pub(crate) fn take_up(&mut self, id: TaskId, ids: Ids) -> &mut Task {
        if !self.tasks.contains_key(&id) {
            self.moves_in(ids.uid);
        }
        self.tasks.entry(id).or_insert_with(|| Task::new(ids))
    }

    pub(crate) fn subscriptions(&self, task: TaskId) -> Subscriptions {
        self.tasks.get(&task).map(|task| task.rings).unwrap_or_default()
    }

    /// The rings that a search of this caller goes through: those of its credentials, and
    /// without a session the user-session keyring if there is a usable one.
    pub(crate) fn searched(&self, call: &Call<'_>, mut rings: Subscriptions) -> Subscriptions {
        if rings.session.is_none() {
            rings.session = self.existing_user_session(call);
        }
        rings
    }

    fn existing_user_session(&self, call: &Call<'_>) -> Option<KeyIx> {
        if self.profile.user_keyrings == UserKeyringsLive::WithTheUser {
            return self.residents.rings(call.caller.ids.uid).map(|rings| rings.user_session);
        }
        let register = self.namespaces.get(&call.caller.namespace().number)?.user?;
        let name = self.user_ring_name("_uid_ses", call);
        self.search_register(call, register, name.as_bytes()).ok().flatten()
    }

    /// The ring of that name in a register. None when there is none; the error of
    /// one that is revoked, expired or not searchable.
    fn search_register(
        &self,
        call: &Call<'_>,
        register: KeyIx,
        name: &[u8],
    ) -> Result<Option<KeyIx>, Errno> {
        let search = Search {
            profile: &self.profile,
            store: &self.store,
            now: call.now,
            caller: call.caller,
            index: self.index(TypeIx::KEYRING, name),
            goal: Goal::Usable,
            recurse: false,
            matcher: None,
        };
        match search.below(KeyRef::possessed(register)) {
            Ok(found) => Ok(Some(found.key)),
            Err(Miss::Nothing) => Ok(None),
            Err(Miss::Because(errno)) => Err(errno),
        }
    }

    fn user_ring_name(&self, prefix: &str, call: &Call<'_>) -> String {
        let inside = call.caller.namespace().uids.inward(call.caller.ids.uid.0);
        format!("{prefix}.{}", inside.unwrap_or(u32::MAX))
    }

    /// The keyrings of the caller's real user, made when missing
    /// (`look_up_user_keyrings`). EDQUOT, or the state of one that is there.
    pub(crate) fn user_keyrings(&mut self, call: &Call<'_>) -> Result<UserKeyrings, Errno> {
        if self.profile.user_keyrings == UserKeyringsLive::WithTheUser {
            return self.residents.rings(call.caller.ids.uid).ok_or(Errno::EDQUOT);
        }
        let register = self.user_register(call)?;
        let user_name = self.user_ring_name("_uid", call);
        let user = match self.search_register(call, register, user_name.as_bytes())? {
            Some(user) => user,
            None => self.new_user_keyring(call, &user_name, None, register)?,
        };
        let session_name = self.user_ring_name("_uid_ses", call);
        let user_session = match self.search_register(call, register, session_name.as_bytes())? {
            Some(session) => session,
            None => self.new_user_keyring(call, &session_name, Some(user), register)?,
        };
        Ok(UserKeyrings { user, user_session })
    }

    fn user_register(&mut self, call: &Call<'_>) -> Result<KeyIx, Errno> {
        let namespace = call.caller.namespace();
        if let Some(register) = self.namespaces.get(&namespace.number).and_then(|r| r.user) {
            return Ok(register);
        }
        let register = self.allocate_keyring(&NewKey {
            key_type: TypeIx::KEYRING,
            description: b".user_reg",
            uid: namespace.owner,
            gid: Gid::INVALID,
            perm: USER_REGISTER_PERM,
            charge: Charge::Limited,
            namespace: namespace.number,
        })?;
        self.namespaces.entry(namespace.number).or_default().user = Some(register);
        Ok(register)
    }

    /// A user's keyring, with `inside` linked into it, linked into the register.
    fn new_user_keyring(
        &mut self,
        call: &Call<'_>,
        name: &str,
        inside: Option<KeyIx>,
        register: KeyIx,
    ) -> Result<KeyIx, Errno> {
        let ring = self.allocate_keyring(&NewKey {
            key_type: TypeIx::KEYRING,
            description: name.as_bytes(),
            uid: call.caller.ids.uid,
            gid: Gid::INVALID,
            perm: self.profile.user_keyring_perm,
            charge: Charge::Limited,
            namespace: call.caller.namespace().number,
        })?;
        self.store.get_mut(ring).flags.uid_keyring = true;
        let linked = inside
            .map_or(Ok(()), |inside| self.link(ring, inside))
            .and_then(|()| self.link(register, ring));
        self.put(ring);
        linked.map(|()| ring)
    }

    /// The session keyring. Without one, access installs the user-session keyring, or
    /// a new one if keys are to be made; a user-session keyring gives way to a new one
    /// likewise. Whatever stands in the way of that is ENOKEY.
    pub(crate) fn session_keyring(
        &mut self,
        call: &Call<'_>,
        create: bool,
    ) -> Result<KeyIx, Errno> {
        let session = self.task(call).rings.session;
        let create = create && self.profile.missing_session == MissingSession::NewToMakeKeys;
        let stays = |ring: &KeyIx| !create || !self.store.get(*ring).flags.uid_keyring;
        if let Some(session) = session.filter(stays) {
            return Ok(session);
        }
        if session.is_none() {
            let rings = self.user_keyrings(call).map_err(|_| Errno::ENOKEY)?;
            if !create {
                self.hold(rings.user_session);
                self.install_session(call.caller.task, call.caller.ids, rings.user_session);
                return Ok(rings.user_session);
            }
        }
        self.join_anonymous_session(call).map_err(|_| Errno::ENOKEY)
    }

    /// A new session without a name.
    pub(crate) fn join_anonymous_session(&mut self, call: &Call<'_>) -> Result<KeyIx, Errno> {
        let ring = self.new_anonymous_session(call)?;
        self.install_session(call.caller.task, call.caller.ids, ring);
        Ok(ring)
    }

    /// A session of that name: one that grants SEARCH to those who do not possess it,
    /// or a new one. None when it is the caller's already (`join_session_keyring`).
    pub(crate) fn join_named_session(
        &mut self,
        call: &Call<'_>,
        name: &[u8],
    ) -> Result<Option<KeyIx>, Errno> {
        let ring = match self.find_keyring_by_name(call, name) {
            Some(ring) if self.has_joined(call, ring) => return Ok(None),
            Some(ring) => {
                self.hold(ring);
                ring
            }
            None => self.allocate_keyring(&NewKey {
                key_type: TypeIx::KEYRING,
                description: name,
                uid: call.caller.ids.uid,
                gid: call.caller.ids.gid,
                perm: self.profile.named_session_perm,
                charge: Charge::Limited,
                namespace: call.caller.namespace().number,
            })?,
        };
        self.install_session(call.caller.task, call.caller.ids, ring);
        Ok(Some(ring))
    }

    /// True for the caller's session where joining it again is nothing.
    fn has_joined(&mut self, call: &Call<'_>, ring: KeyIx) -> bool {
        self.profile.rejoining_gives_0 && self.task(call).rings.session == Some(ring)
    }

    fn find_keyring_by_name(&self, call: &Call<'_>, name: &[u8]) -> Option<KeyIx> {
        let namespace = call.caller.namespace();
        let hash = self.index(TypeIx::KEYRING, name).hash.bits();
        self.names.of_hash(hash).iter().copied().find(|&ring| {
            let key = self.store.get(ring);
            key.usage > 0
                && key.namespace == namespace.number
                && namespace.uids.inward(key.uid.0).is_some()
                && !key.flags.revoked
                && *key.description == *name
                && permission::check(key, false, call.caller, Need::Search).is_ok()
        })
    }

    /// Makes a ring, already held for it, the session of a task; one that nobody has
    /// reported has no other.
    pub(crate) fn install_session(&mut self, task: TaskId, ids: Ids, ring: KeyIx) {
        let record = self.take_up(task, ids);
        if let Some(old) = record.rings.session.replace(ring) {
            self.put(old);
        }
    }

    /// Where a key goes when the request does not say, by the caller's setting, in the
    /// order of falling through. It must grant WRITE, EACCES, unless it is where the
    /// requester wants it for whom the caller acts (`construct_get_dest_keyring`).
    pub(crate) fn default_destination(&mut self, call: &Call<'_>) -> Result<KeyIx, Errno> {
        let task = *self.task(call);
        let wanted = task.reqkey_default;
        if matches!(wanted, default::DEFAULT | default::REQUESTOR) {
            let authority = task.rings.authority.and_then(|key| self.authority(key));
            if let Some(authority) = authority {
                return Ok(authority.destination);
            }
        }
        let rings = task.rings;
        let own = match wanted {
            default::DEFAULT | default::REQUESTOR | default::THREAD => {
                rings.thread.or(rings.process).or(rings.session)
            }
            default::PROCESS => rings.process.or(rings.session),
            default::SESSION => rings.session,
            _ => None,
        };
        let ring = match (own, wanted) {
            (Some(ring), _) => ring,
            (None, default::USER) => self.user_keyrings(call)?.user,
            (None, _) => self.user_keyrings(call)?.user_session,
        };
        permission::check(self.store.get(ring), true, call.caller, Need::Write)?;
        Ok(ring)
    }
}
