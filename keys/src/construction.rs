//! Making a key that was requested and not found (`request_key.c`).
//!
//! The key is allocated and linked at once, under construction; its requester waits
//! until the helper has ended, everybody else only until the key is finished. A helper
//! that ends without finishing it leaves a negative key behind for a minute.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_abi::{Errno, Need};

use crate::create::NewKey;
use crate::effect::{CallId, Effect, Upcall, UpcallId};
use crate::key::{KeyIx, KeyRef};
use crate::key_type::{Made, Match, Requested, TypeIx};
use crate::lookup::{Call, Stop, Wait};
use crate::permission;
use crate::profile::ConstructedBy;
use crate::quota::Charge;
use crate::search::{Goal, Miss};
use crate::service::{KeyService, Upcalls};

/// Who made a request, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// A caller of `request_key(2)`, who is told a serial.
    Caller,
    /// A service, which is given the key and cannot be interrupted.
    Service,
}

/// What is requested.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) key_type: TypeIx,
    pub(crate) description: &'a [u8],
    pub(crate) callout: Option<&'a [u8]>,
    pub(crate) destination: Option<KeyIx>,
    pub(crate) claimant: Claimant,
}

/// An upcall that has not ended.
#[derive(Debug)]
pub(crate) struct Construction {
    pub(crate) call: CallId,
    pub(crate) claimant: Claimant,
    pub(crate) key: KeyIx,
    /// None where anybody may make the key.
    pub(crate) authority_key: Option<KeyIx>,
    /// The helper's session keyring; none for a type that makes its keys itself.
    pub(crate) session: Option<KeyIx>,
    pub(crate) requester: TaskId,
    /// The keyring that the requester wants the key in, where it is linked in the end.
    pub(crate) destination: Option<KeyIx>,
}

impl Construction {
    pub(crate) fn each_use(&self) -> impl Iterator<Item = KeyIx> {
        [self.key].into_iter().chain(self.each_other_use())
    }

    /// All but that of the key itself.
    pub(crate) fn each_other_use(&self) -> impl Iterator<Item = KeyIx> {
        [self.authority_key, self.session, self.destination].into_iter().flatten()
    }
}

/// The upcalls that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Constructions {
    pub(crate) running: BTreeMap<UpcallId, Construction>,
    next: u64,
}

/// The session keyring that a helper begins with, and the one that it is told of.
#[derive(Clone, Copy)]
struct HelperSession {
    helper: Option<KeyIx>,
    requester: KeyIx,
}

/// A key that is to be made, and by whom.
#[derive(Clone, Copy)]
struct Begun<'a> {
    key: KeyIx,
    authority_key: Option<KeyIx>,
    destination: Option<KeyIx>,
    callout: &'a [u8],
    claimant: Claimant,
}

/// A key with one use, to be made; or one that is there already.
enum Allocated {
    New(KeyIx),
    Present(KeyIx),
}

impl KeyService {
    /// Finds a key or has it made. Errors in order (`request_key_and_link`): the type's
    /// about the description; the search's, an expired key counting as none; LINK on a
    /// key that was found EACCES, the link's; not found and nobody to make it ENOKEY,
    /// EPERM for a keyring; the destination's WRITE EACCES, EDQUOT, the link's.
    pub(crate) fn request(&mut self, call: &Call<'_>, wanted: Wanted<'_>) -> Result<KeyIx, Stop> {
        let key_type = Arc::clone(self.types.get(wanted.key_type));
        let matcher = key_type.match_preparse(wanted.description)?;
        let found = self.find_requested(call, &wanted, matcher.as_deref());
        match (found, wanted.callout) {
            (Ok(found), _) => {
                if let Some(destination) = wanted.destination {
                    if self.profile.request_wants_link {
                        let key = self.store.get(found.key);
                        permission::check(key, found.possessed, call.caller, Need::Link)?;
                    }
                    self.link(destination, found.key)?;
                }
                Ok(found.key)
            }
            (Err(Miss::Because(errno)), _) => Err(errno.into()),
            (Err(Miss::Nothing), None) => Err(Errno::ENOKEY.into()),
            (Err(Miss::Nothing), Some(_))
                if wanted.key_type == TypeIx::KEYRING && !self.profile.keyrings_are_requested =>
            {
                Err(Errno::EPERM.into())
            }
            (Err(Miss::Nothing), Some(callout)) => {
                if self.upcalls == Upcalls::Off && key_type.maker().is_none() {
                    return Err(Errno::ENOKEY.into());
                }
                self.construct(call, &wanted, matcher, callout)
            }
        }
    }

    fn find_requested(
        &self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        matcher: Option<&dyn Match>,
    ) -> Result<KeyRef, Miss> {
        let index = self.index(wanted.key_type, wanted.description);
        self.search_process(call, index, Goal::UsableOrExpired, matcher)
    }

    fn construct(
        &mut self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        matcher: Option<Box<dyn Match>>,
        callout: &[u8],
    ) -> Result<KeyIx, Stop> {
        let claimant = wanted.claimant;
        let begun = match self.profile.construction {
            ConstructedBy::Authority => {
                let destination = match wanted.destination {
                    Some(ring) => ring,
                    None => self.default_destination(call)?,
                };
                let key = match self.allocate_linked(call, wanted, matcher, destination)? {
                    Allocated::New(key) => key,
                    Allocated::Present(key) => return Ok(key),
                };
                let authority_key = match self.new_authority(call, key, destination, callout) {
                    Ok(authority_key) => authority_key,
                    Err(errno) => {
                        self.negate(call.now, key, None);
                        self.put(key);
                        return Err(errno.into());
                    }
                };
                let authority_key = Some(authority_key);
                Begun { key, authority_key, destination: None, callout, claimant }
            }
            ConstructedBy::AnyWriter => {
                if let Some(key) = self.being_made(call, wanted, matcher.as_deref()) {
                    return Err(Stop::Waits(Wait::Elsewhere(key, claimant)));
                }
                let key = self.allocate_unfinished(call, wanted)?;
                let destination = wanted.destination;
                Begun { key, authority_key: None, destination, callout, claimant }
            }
        };
        self.begin(call, wanted, begun)
    }

    /// Has a key made that is there, under construction.
    fn begin(
        &mut self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        begun: Begun<'_>,
    ) -> Result<KeyIx, Stop> {
        let key_type = Arc::clone(self.types.get(wanted.key_type));
        let Some(maker) = key_type.maker() else {
            return match self.helper_session(call, &begun) {
                Ok(session) => self.call_out(call, begun, Some(session)),
                Err(errno) => Ok(self.apply_made(call, begun, Made::Failed(errno))?),
            };
        };
        let requested = Requested {
            serial: self.store.get(begun.key).serial,
            description: wanted.description,
            callout: begun.callout,
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
        };
        match maker.make(&requested) {
            Made::Later => self.call_out(call, begun, None),
            made => Ok(self.apply_made(call, begun, made)?),
        }
    }

    /// What a type made at once, or why nobody can make it.
    fn apply_made(
        &mut self,
        call: &Call<'_>,
        begun: Begun<'_>,
        made: Made,
    ) -> Result<KeyIx, Errno> {
        let construction = self.construction(call, begun, None);
        self.end(call.now, &construction, |service| {
            service.fill(call.now, construction.key, construction.authority_key, made)
        })
    }

    fn construction(
        &mut self,
        call: &Call<'_>,
        begun: Begun<'_>,
        session: Option<KeyIx>,
    ) -> Construction {
        let Begun { key, authority_key, destination, claimant, .. } = begun;
        if let Some(destination) = destination {
            self.hold(destination);
        }
        let requester = call.caller.task;
        Construction {
            call: call.id,
            claimant,
            key,
            authority_key,
            session,
            requester,
            destination,
        }
    }

    /// The key that somebody has made for the same user already and that would do, if it is
    /// not finished (`request_key_construction` of old kernels).
    fn being_made(
        &self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        matcher: Option<&dyn Match>,
    ) -> Option<KeyIx> {
        let mut running = self.constructions.running.values().map(|running| running.key);
        running.find(|&key| {
            let key = self.store.get(key);
            let is_it = match matcher {
                Some(matcher) => matcher.matches(&key.description),
                None => *key.description == *wanted.description,
            };
            let is_of_user = key.charged_to == call.caller.ids.fsuid;
            key.flags.under_construction && key.key_type == wanted.key_type && is_of_user && is_it
        })
    }

    fn allocate_unfinished(
        &mut self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<KeyIx, Errno> {
        let key_type = Arc::clone(self.types.get(wanted.key_type));
        let key = self.allocate(&NewKey {
            key_type: wanted.key_type,
            description: wanted.description,
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
            perm: self.requested_perm(wanted.key_type, &*key_type),
            charge: Charge::Limited,
            namespace: call.caller.namespace().number,
        })?;
        self.store.get_mut(key).flags.under_construction = true;
        Ok(key)
    }

    /// Allocates the key and links it, heeding no restriction (`construct_alloc_key`).
    fn allocate_linked(
        &mut self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        matcher: Option<Box<dyn Match>>,
        destination: KeyIx,
    ) -> Result<Allocated, Errno> {
        let key = self.allocate_unfinished(call, wanted)?;
        // Finding the destination may have brought a keyring that holds the key.
        let found = self.find_requested(call, wanted, matcher.as_deref());
        let linked = self.is_keyring(destination).then_some(()).ok_or(Errno::ENOTDIR);
        let linked = linked.and_then(|()| {
            let to_link = found.map_or(key, |found| found.key);
            let link = self.prepare_link_to(destination, to_link)?;
            self.finish_link(link, to_link)
        });
        match (linked, found) {
            (Ok(()), Err(_)) => Ok(Allocated::New(key)),
            (linked, found) => {
                self.store.get_mut(key).flags.under_construction = false;
                self.put(key);
                linked.map(|()| Allocated::Present(found.map_or(key, |found| found.key)))
            }
        }
    }

    /// The session keyring that a helper begins with, `_req.N`, with the authorisation
    /// key in it, if there is one. EDQUOT when its link or the user keyrings cannot be paid for.
    fn helper_session(
        &mut self,
        call: &Call<'_>,
        begun: &Begun<'_>,
    ) -> Result<HelperSession, Errno> {
        let user_session = self.user_keyrings(call)?.user_session;
        let requester = self.subscriptions(call.caller.task).session.unwrap_or(user_session);
        let Some(authority_key) = begun.authority_key else {
            return Ok(HelperSession { helper: None, requester });
        };
        let name = format!("_req.{}", self.store.get(begun.key).serial);
        let session = self.allocate_keyring(&NewKey {
            key_type: TypeIx::KEYRING,
            description: name.as_bytes(),
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
            perm: self.profile.session_perm,
            charge: Charge::Overrun,
            namespace: call.caller.namespace().number,
        })?;
        match self.link(session, authority_key) {
            Ok(()) => Ok(HelperSession { helper: Some(session), requester }),
            Err(errno) => {
                self.put(session);
                Err(errno)
            }
        }
    }

    /// Has the shell call somebody. Takes over the caller's uses of the keys.
    fn call_out(
        &mut self,
        call: &Call<'_>,
        begun: Begun<'_>,
        session: Option<HelperSession>,
    ) -> Result<KeyIx, Stop> {
        let id = UpcallId(self.constructions.next);
        self.constructions.next += 1;
        let rings = self.subscriptions(call.caller.task);
        let serial = |ring: KeyIx| self.store.get(ring).serial;
        let wanted = self.store.get(begun.key);
        let upcall = Upcall {
            id,
            call: call.id,
            requester: call.caller.task,
            by_type: session.is_none(),
            key: wanted.serial,
            type_name: self.types.get(wanted.key_type).name(),
            description: wanted.description.as_slice().into(),
            uid: call.caller.ids.fsuid,
            gid: call.caller.ids.fsgid,
            thread: rings.thread.map(serial),
            process: rings.process.map(serial),
            session: session.map(|session| serial(session.requester)),
            callout: begun.callout.into(),
            shows_callout: self.profile.construction == ConstructedBy::AnyWriter,
        };
        let session = session.and_then(|session| session.helper);
        let construction = self.construction(call, begun, session);
        self.constructions.running.insert(id, construction);
        self.effects.push(Effect::StartUpcall(upcall));
        Err(Stop::Waits(Wait::Upcall))
    }
}
