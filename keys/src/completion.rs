//! The end of a construction: by its helper, by its type, or by a helper that ended
//! without a word.

use alloc::sync::Arc;
use alloc::vec::Vec;

use keyshim_abi::Errno;
use keyshim_abi::caller::TaskId;

use crate::Now;
use crate::construction::Construction;
use crate::effect::{Effect, Upcall, UpcallId};
use crate::key::{KeyIx, KeyState};
use crate::key_type::Made;
use crate::service::KeyService;

/// Seconds that a key stays negative whose helper did not finish it
/// (`key_negative_timeout`).
const NEGATIVE_TIMEOUT_S: u32 = 60;

impl KeyService {
    /// The helper of an upcall has ended, whatever it said: what it left of the key
    /// counts. Unknown upcalls are passed over.
    pub fn upcall_exited(&mut self, now: Now, upcall: UpcallId) {
        self.end_upcall(now, upcall, |service, construction| {
            let key = service.store.get(construction.key);
            let unfinished = key.flags.under_construction || key.validate(now).is_err();
            if unfinished { Err(Errno::ENOKEY) } else { Ok(()) }
        });
    }

    /// The helper of an upcall could not be started: the key becomes negative for a
    /// minute, and its requester is told why.
    pub fn upcall_failed(&mut self, now: Now, upcall: UpcallId, errno: Errno) {
        self.end_upcall(now, upcall, |_, _| Err(errno));
    }

    /// A type brings what it had asked time for ([`Made::Later`]; again `Later` counts as
    /// ENOKEY).
    pub fn finish_upcall(&mut self, now: Now, upcall: UpcallId, made: Made) {
        self.end_upcall(now, upcall, |service, construction| {
            service.fill(now, construction.key, construction.authority_key, made)
        });
    }

    /// Answers upcalls that have arisen by a function, for programs that embed the service
    /// and have no helper to start. Those for which it has nothing (`None`) stay among the
    /// effects, as does everything else that arises. The function may be asked about keys that
    /// its own answers have others request.
    ///
    /// ```
    /// # use keyshim_abi::Errno;
    /// # use keyshim_keys::{KeyService, Made, Now, Secret};
    /// # fn answer(service: &mut KeyService, now: Now) {
    /// service.answer_upcalls(now, |upcall| match (upcall.type_name, &*upcall.description) {
    ///     ("user", b"colour") => Some(Made::Payload(Secret::new(b"green"[..].into()))),
    ///     ("user", _) => Some(Made::Rejected { error: Errno::ENOKEY, timeout_s: 10 }),
    ///     _ => None,
    /// });
    /// # }
    /// ```
    pub fn answer_upcalls(&mut self, now: Now, mut answer: impl FnMut(&Upcall) -> Option<Made>) {
        let mut left = Vec::new();
        loop {
            let mut made = Vec::new();
            for effect in self.take_effects() {
                match effect {
                    Effect::StartUpcall(upcall) => match answer(&upcall) {
                        Some(answered) => made.push((upcall.id, answered)),
                        None => left.push(Effect::StartUpcall(upcall)),
                    },
                    other => left.push(other),
                }
            }
            if made.is_empty() {
                break;
            }
            for (upcall, answered) in made {
                self.finish_upcall(now, upcall, answered);
            }
        }
        self.effects = left;
    }

    fn end_upcall(
        &mut self,
        now: Now,
        upcall: UpcallId,
        result: impl FnOnce(&mut KeyService, &Construction) -> Result<(), Errno>,
    ) {
        if let Some(construction) = self.constructions.running.remove(&upcall) {
            let made = self.end(now, &construction, |service| result(service, &construction));
            self.hand_over(construction.call, construction.claimant, made);
        }
        self.settle(now);
    }

    /// The end of a construction, whose uses it gives back: what it comes to for its
    /// requester.
    pub(crate) fn end(
        &mut self,
        now: Now,
        construction: &Construction,
        result: impl FnOnce(&mut KeyService) -> Result<(), Errno>,
    ) -> Result<KeyIx, Errno> {
        let key = construction.key;
        let result = result(self);
        let concluded = self.conclude(now, construction, result);
        let linked = concluded.and_then(|()| match construction.destination {
            Some(destination) => self.link(destination, key),
            None => Ok(()),
        });
        for used in construction.each_other_use() {
            self.put(used);
        }
        self.put_in_the_end(key);
        linked.map(|()| key)
    }

    pub(crate) fn fill(
        &mut self,
        now: Now,
        key: KeyIx,
        authority_key: Option<KeyIx>,
        made: Made,
    ) -> Result<(), Errno> {
        match made {
            Made::Payload(data) => self.instantiate_and_link(now, key, &data, None, authority_key),
            Made::Rejected { error, timeout_s } => {
                self.reject_and_link(now, key, (timeout_s, error), None, authority_key)
            }
            Made::Failed(errno) => Err(errno),
            Made::Later => Err(Errno::ENOKEY),
        }
    }

    /// Ends the authority of an upcall; what is not finished becomes negative
    /// (`complete_request_key`). The error of the upcall, or of the key.
    fn conclude(
        &mut self,
        now: Now,
        construction: &Construction,
        result: Result<(), Errno>,
    ) -> Result<(), Errno> {
        let key = construction.key;
        match (result, construction.authority_key) {
            (Ok(()), Some(authority_key)) => self.revoke(authority_key, now),
            (Ok(()), None) => {}
            (Err(_), Some(authority_key)) => self.negate(now, key, Some(authority_key)),
            (Err(_), None) => self.negate_in_session(now, key, construction.requester),
        }
        match construction.authority_key {
            Some(_) => result.and_then(|()| self.state(now, key)),
            // How long such a key is valid is not the requester's question.
            None => result.and_then(|()| self.store.get(key).rejection()),
        }
    }

    /// Makes a key negative that nobody has finished, for its requester's session keyring,
    /// if that has one and is still there.
    fn negate_in_session(&mut self, now: Now, key: KeyIx, requester: TaskId) {
        if self.store.get(key).is_finished() {
            return;
        }
        self.negate(now, key, None);
        if let Some(session) = self.subscriptions(requester).session {
            // A full keyring goes without it.
            let _ = self.link(session, key);
        }
    }

    /// Why a key cannot be had: its stored error, or that it is no longer valid.
    pub(crate) fn state(&self, now: Now, key: KeyIx) -> Result<(), Errno> {
        let key = self.store.get(key);
        key.rejection().and_then(|()| key.validate(now))
    }

    pub(crate) fn negate(&mut self, now: Now, key: KeyIx, authority_key: Option<KeyIx>) {
        let refusal = (NEGATIVE_TIMEOUT_S, Errno::ENOKEY);
        // A key that is finished already stays as it is.
        let _ = self.reject_and_link(now, key, refusal, None, authority_key);
    }

    /// Gives a key under construction its payload, and links it. Errors in order
    /// (`key_instantiate_and_link`): the type's preparse; ENOTDIR, EKEYREVOKED, EDQUOT;
    /// the restriction's; finished already EBUSY; EDQUOT. Where nothing is checked ahead:
    /// EBUSY, the type's preparse, EDQUOT, and of a key that is finished then, the link's.
    pub(crate) fn instantiate_and_link(
        &mut self,
        now: Now,
        key: KeyIx,
        data: &[u8],
        ring: Option<KeyIx>,
        authority_key: Option<KeyIx>,
    ) -> Result<(), Errno> {
        let type_ix = self.store.get(key).key_type;
        let key_type = Arc::clone(self.types.get(type_ix));
        let checks_ahead = self.profile.checks_ahead;
        if !checks_ahead && self.store.get(key).is_finished() {
            return Err(Errno::EBUSY);
        }
        let prep = self.preparse(now, &*key_type, data)?;
        let ahead = ring.filter(|_| checks_ahead);
        let link = ahead.map(|ring| self.prepare_link_to(ring, key)).transpose()?;
        let checked =
            ring.map_or(Ok(()), |ring| self.check_restriction(ring, type_ix, &prep.payload));
        let done = checked.and_then(|()| match self.store.get(key).state {
            KeyState::Uninstantiated => self.instantiate(key, prep),
            _ => Err(Errno::EBUSY),
        });
        match (done, link) {
            (Ok(()), Some(link)) => {
                self.finish_link(link, key)?;
                // If it expired while it was made, it has been collected already, and this
                // link is a new one.
                self.set_expiry(key, self.store.get(key).expiry);
            }
            (Err(_), Some(link)) => self.cancel_link(link),
            (_, None) => {}
        }
        done?;
        self.finish(key, authority_key);
        match ring.filter(|_| !checks_ahead) {
            Some(ring) => self.link(ring, key),
            None => Ok(()),
        }
    }

    /// Makes a key under construction negative for some seconds, and links it. Errors
    /// (`key_reject_and_link`): a restricted ring EPERM; finished already EBUSY. That it
    /// cannot be linked, ENOTDIR, EKEYREVOKED, EDQUOT, is said, but does not keep it from
    /// being finished.
    pub(crate) fn reject_and_link(
        &mut self,
        now: Now,
        key: KeyIx,
        (timeout_s, error): (u32, Errno),
        ring: Option<KeyIx>,
        authority_key: Option<KeyIx>,
    ) -> Result<(), Errno> {
        if ring.is_some_and(|ring| self.store.get(ring).restriction.is_some()) {
            return Err(Errno::EPERM);
        }
        let link = ring.map(|ring| self.prepare_link_to(ring, key)).transpose();
        if !matches!(self.store.get(key).state, KeyState::Uninstantiated) {
            if let Ok(Some(link)) = link {
                self.cancel_link(link);
            }
            return Err(Errno::EBUSY);
        }
        self.store.get_mut(key).state = KeyState::Rejected(error);
        self.users.key_instantiated(self.store.get(key).charged_to);
        self.set_expiry(key, Some(now.plus(timeout_s)));
        let linked = match link {
            Ok(Some(link)) => self.finish_link(link, key),
            Ok(None) => Ok(()),
            Err(errno) => Err(errno),
        };
        self.finish(key, authority_key);
        linked
    }

    /// Wakes who waits for a key, and ends the authority over it.
    fn finish(&mut self, key: KeyIx, authority_key: Option<KeyIx>) {
        let flags = &mut self.store.get_mut(key).flags;
        if core::mem::take(&mut flags.under_construction) {
            self.finished.push(key);
        }
        if let Some(authority_key) = authority_key {
            self.invalidate(authority_key);
        }
    }
}
