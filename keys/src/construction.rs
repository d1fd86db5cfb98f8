//! Making a key that was requested and not found (`request_key.c`).
//!
//! The key is allocated and linked at once, under construction; its requester waits
//! until the helper has ended, everybody else only until the key is finished. A helper
//! that ends without finishing it leaves a negative key behind for a minute.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;

use keyshim_abi::uapi::reqkey_default as default;
use keyshim_abi::{Errno, Need};

use crate::create::NewKey;
use crate::effect::{CallId, Effect, Upcall, UpcallId};
use crate::key::{KeyIx, KeyRef};
use crate::key_type::{Made, Match, Requested, TypeIx};
use crate::lookup::{Call, Stop, Wait};
use crate::permission;
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
    pub(crate) authority_key: KeyIx,
    /// The helper's session keyring; none for a type that makes its keys itself.
    pub(crate) session: Option<KeyIx>,
}

impl Construction {
    pub(crate) fn each_use(&self) -> impl Iterator<Item = KeyIx> {
        [self.key, self.authority_key].into_iter().chain(self.session)
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
    helper: KeyIx,
    requester: KeyIx,
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
                    let key = self.store.get(found.key);
                    permission::check(key, found.possessed, call.caller, Need::Link)?;
                    self.link(destination, found.key)?;
                }
                Ok(found.key)
            }
            (Err(Miss::Because(errno)), _) => Err(errno.into()),
            (Err(Miss::Nothing), None) => Err(Errno::ENOKEY.into()),
            (Err(Miss::Nothing), Some(_)) if wanted.key_type == TypeIx::KEYRING => {
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
        let key_type = Arc::clone(self.types.get(wanted.key_type));
        match key_type.maker() {
            Some(maker) => {
                let requested = Requested {
                    serial: self.store.get(key).serial,
                    description: wanted.description,
                    callout,
                    uid: call.caller.ids.fsuid,
                    gid: call.caller.ids.fsgid,
                };
                match maker.make(&requested) {
                    Made::Later => self.call_out(call, key, authority_key, None, wanted.claimant),
                    made => self.apply_made(call.now, key, authority_key, made).map_err(Stop::from),
                }
            }
            None => {
                let session = match self.helper_session(call, key, authority_key) {
                    Ok(session) => session,
                    Err(errno) => {
                        let failed = Made::Failed(errno);
                        return Ok(self.apply_made(call.now, key, authority_key, failed)?);
                    }
                };
                self.call_out(call, key, authority_key, Some(session), wanted.claimant)
            }
        }
    }

    /// Where a key goes when the request does not say, by the caller's setting, in the
    /// order of falling through. It must grant WRITE, EACCES, unless it is where the
    /// requester wants it for whom the caller acts (`construct_get_dest_keyring`).
    fn default_destination(&mut self, call: &Call<'_>) -> Result<KeyIx, Errno> {
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

    /// Allocates the key and links it, heeding no restriction (`construct_alloc_key`).
    fn allocate_linked(
        &mut self,
        call: &Call<'_>,
        wanted: &Wanted<'_>,
        matcher: Option<Box<dyn Match>>,
        destination: KeyIx,
    ) -> Result<Allocated, Errno> {
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
    /// key in it. EDQUOT when its link or the user keyrings cannot be paid for.
    fn helper_session(
        &mut self,
        call: &Call<'_>,
        key: KeyIx,
        authority_key: KeyIx,
    ) -> Result<HelperSession, Errno> {
        let user_session = self.user_keyrings(call)?.user_session;
        let requester = self.subscriptions(call.caller.task).session.unwrap_or(user_session);
        let name = format!("_req.{}", self.store.get(key).serial);
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
            Ok(()) => Ok(HelperSession { helper: session, requester }),
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
        key: KeyIx,
        authority_key: KeyIx,
        session: Option<HelperSession>,
        claimant: Claimant,
    ) -> Result<KeyIx, Stop> {
        let id = UpcallId(self.constructions.next);
        self.constructions.next += 1;
        let rings = self.subscriptions(call.caller.task);
        let serial = |ring: KeyIx| self.store.get(ring).serial;
        let requester_session = session.map(|session| session.requester);
        let wanted = self.store.get(key);
        let callout =
            self.authority(authority_key).map_or(&[][..], |authority| authority.callout());
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
            session: requester_session.map(serial),
            callout: callout.into(),
        };
        let session = session.map(|session| session.helper);
        let construction = Construction { call: call.id, claimant, key, authority_key, session };
        self.constructions.running.insert(id, construction);
        self.effects.push(Effect::StartUpcall(upcall));
        Err(Stop::Waits(Wait::Upcall))
    }
}
