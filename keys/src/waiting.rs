//! Calls that wait for a key under construction: entries in a table, no threads.
//!
//! A call that looks up such a key stops there. When the key is finished the call
//! begins anew, with the key as it was found the first time, because its checks up to
//! that point have no lasting effect; so each operation is written as if it never
//! waited.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use keyshim_abi::caller::TaskId;
use keyshim_abi::frame::{self, Message};
use keyshim_abi::limits::REQUEST_HEAD_LEN_MAX;
use keyshim_abi::{Errno, Request};
use zeroize::Zeroizing;

use crate::Now;
use crate::construction::Claimant;
use crate::credentials::Credentials;
use crate::effect::{CallId, Data, Effect};
use crate::key::{KeyIx, KeyRef};
use crate::lookup::{Call, Stop, Wait};
use crate::ops;
use crate::service::KeyService;

/// A call that waits.
pub(crate) struct Waiter {
    pub(crate) call: CallId,
    pub(crate) who: Credentials,
    until: Until,
}

/// What happens when the key is finished.
enum Until {
    /// The key is the answer of a request.
    Requested(Claimant),
    /// The call begins anew: its request as a frame, and the keys it has waited for.
    Again { request: Zeroizing<Vec<u8>>, resolved: Vec<KeyRef>, claimant: Claimant },
}

impl Until {
    fn again(request: &Request<'_>, resolved: Vec<KeyRef>, claimant: Claimant) -> Until {
        Until::Again { request: as_frame(request), resolved, claimant }
    }

    const fn claimant(&self) -> Claimant {
        match *self {
            Until::Requested(claimant) | Until::Again { claimant, .. } => claimant,
        }
    }
}

/// Who waits, by key in the order of arrival, by call and by task.
#[derive(Default)]
pub(crate) struct Waiters {
    queue: BTreeMap<(KeyIx, u64), Waiter>,
    by_call: BTreeMap<CallId, (KeyIx, u64)>,
    by_task: BTreeSet<(TaskId, CallId)>,
    next: u64,
}

impl Waiters {
    fn add(&mut self, key: KeyIx, waiter: Waiter) {
        let place = (key, self.next);
        self.next += 1;
        self.by_call.insert(waiter.call, place);
        self.by_task.insert((waiter.who.task, waiter.call));
        self.queue.insert(place, waiter);
    }

    fn take(&mut self, call: CallId) -> Option<(KeyIx, Waiter)> {
        let place = self.by_call.remove(&call)?;
        let waiter = self.queue.remove(&place)?;
        self.by_task.remove(&(waiter.who.task, call));
        Some((place.0, waiter))
    }

    fn first(&mut self, key: KeyIx) -> Option<Waiter> {
        let (_, waiter) = self.queue.range((key, 0)..=(key, u64::MAX)).next()?;
        let call = waiter.call;
        self.take(call).map(|(_, waiter)| waiter)
    }

    /// Each with the key that it waits for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyIx, &Waiter)> {
        self.queue.iter().map(|(&(key, _), waiter)| (key, waiter))
    }

    pub(crate) fn waits(&self, call: CallId) -> bool {
        self.by_call.contains_key(&call)
    }

    fn of_task(&self, task: TaskId) -> Vec<CallId> {
        let of_task = self.by_task.range((task, CallId(0))..=(task, CallId(u64::MAX)));
        of_task.map(|&(_, call)| call).collect()
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.queue.len() == self.by_call.len()
            && self.queue.len() == self.by_task.len()
            && self.by_call.iter().all(|(call, place)| {
                self.queue.get(place).is_some_and(|waiter| {
                    waiter.call == *call && self.by_task.contains(&(waiter.who.task, *call))
                })
            })
    }
}

impl KeyService {
    /// Notes that a call waits.
    pub(crate) fn begin_wait(&mut self, call: &Call<'_>, request: &Request<'_>, wait: Wait) {
        let who = Credentials::of(call.caller);
        let (key, until) = match wait {
            // The construction knows who requested it.
            Wait::Upcall => return,
            Wait::Requested(key, claimant) => (key, Until::Requested(claimant)),
            Wait::Lookup(found) => {
                let mut resolved = call.resolved.to_vec();
                resolved.push(found);
                (found.key, Until::again(request, resolved, Claimant::Caller))
            }
            Wait::Elsewhere(key, claimant) => (key, Until::again(request, Vec::new(), claimant)),
        };
        self.hold(key);
        self.waiters.add(key, Waiter { call: call.id, who, until });
    }

    /// Ends a wait because a signal came, or its task: the call answers EINTR, and READ,
    /// which hides why it has no key, ENOKEY. False when the call does not wait or
    /// cannot be interrupted: whoever caused an upcall waits for its end.
    pub fn cancel(&mut self, now: Now, call: CallId) -> bool {
        let cancelled = self.profile.waits_are_interruptible && self.interrupt(call);
        self.settle(now);
        cancelled
    }

    /// True when a call waits and [`KeyService::cancel`] would end that.
    #[must_use]
    pub fn is_interruptible(&self, call: CallId) -> bool {
        let place = self.waiters.by_call.get(&call);
        let waiter = place.and_then(|place| self.waiters.queue.get(place));
        let is_callers = waiter.is_some_and(|waiter| waiter.until.claimant() == Claimant::Caller);
        self.profile.waits_are_interruptible && is_callers
    }

    fn interrupt(&mut self, call: CallId) -> bool {
        let Some((key, waiter)) = self.waiters.take(call) else { return false };
        if waiter.until.claimant() == Claimant::Service {
            self.waiters.add(key, waiter);
            return false;
        }
        let errno = match waiter.until {
            Until::Requested(_) => Errno::EINTR,
            Until::Again { ref request, .. } => match request_of(request) {
                Some(Request::Read { .. }) => Errno::ENOKEY,
                _ => Errno::EINTR,
            },
        };
        self.put(key);
        self.reply(call, Err(errno), Zeroizing::default());
        true
    }

    /// The waits of a task end with it.
    pub(crate) fn interrupt_task(&mut self, task: TaskId) {
        for call in self.waiters.of_task(task) {
            self.interrupt(call);
        }
    }

    /// Lets every call go on whose key has been finished, then destroys what nobody
    /// uses any more. The end of every input.
    pub(crate) fn settle(&mut self, now: Now) {
        while let Some(key) = self.finished.pop() {
            while let Some(waiter) = self.waiters.first(key) {
                self.go_on(now, key, waiter);
                self.put(key);
            }
        }
        self.reap();
    }

    fn go_on(&mut self, now: Now, key: KeyIx, waiter: Waiter) {
        match waiter.until {
            Until::Requested(claimant) => {
                let result = self.state(now, key).map(|()| key);
                self.hand_over(waiter.call, claimant, result);
            }
            Until::Again { request, claimant: Claimant::Service, .. } => {
                let caller = waiter.who.caller();
                self.request_again(&Call::new(now, waiter.call, &caller), &request);
            }
            Until::Again { request, resolved, .. } => {
                // Only a request that no caller of Linux can make is too long to keep.
                let Some(request) = request_of(&request) else {
                    return self.reply(waiter.call, Err(Errno::EINVAL), Zeroizing::default());
                };
                let caller = waiter.who.caller();
                let call = Call { now, id: waiter.call, caller: &caller, resolved: &resolved };
                let mut data = Zeroizing::default();
                match ops::carry_out(self, &call, &request, &mut data) {
                    Ok(value) => self.reply(waiter.call, Ok(value), data),
                    Err(Stop::Refused(errno)) => self.reply(waiter.call, Err(errno), data),
                    Err(Stop::Waits(wait)) => self.begin_wait(&call, &request, wait),
                }
            }
        }
    }

    /// A service's request from its beginning.
    fn request_again(&mut self, call: &Call<'_>, request: &[u8]) {
        let wanted = request_of(request);
        let Some(request @ Request::RequestKey { type_name, description, callout, .. }) = wanted
        else {
            return;
        };
        let what = (type_name.unwrap_or_default(), description.unwrap_or_default());
        let key = match self.find_or_make(call, what, callout.and_then(Result::ok)) {
            Ok(key) => Ok(key),
            Err(Stop::Refused(errno)) => Err(errno),
            Err(Stop::Waits(wait)) => return self.begin_wait(call, &request, wait),
        };
        self.effects.push(Effect::Requested { call: call.id, key });
    }

    /// Answers a request that waited.
    pub(crate) fn hand_over(
        &mut self,
        call: CallId,
        claimant: Claimant,
        result: Result<KeyIx, Errno>,
    ) {
        match claimant {
            Claimant::Caller => {
                let answer = result.map(|key| ops::serial_of(self, key));
                self.reply(call, answer, Zeroizing::default());
            }
            Claimant::Service => {
                let key = result.map(|key| self.held_key(key));
                self.effects.push(Effect::Requested { call, key });
            }
        }
    }

    fn reply(
        &mut self,
        call: CallId,
        answer: keyshim_abi::reply::Answer,
        data: Zeroizing<Vec<u8>>,
    ) {
        self.effects.push(Effect::Reply { call, answer, data: Data(data) });
    }
}

/// A request that owns what it points to.
fn as_frame(request: &Request<'_>) -> Zeroizing<Vec<u8>> {
    let mut frame = Zeroizing::new(alloc::vec![0; REQUEST_HEAD_LEN_MAX]);
    if let Ok(encoded) = frame::encode_message(&Message::Call(*request), &mut frame) {
        let (head_len, trailing) = (encoded.head_len, encoded.trailing);
        let mut whole = Zeroizing::new(Vec::with_capacity(head_len + trailing.len()));
        whole.extend_from_slice(&frame[..head_len]);
        whole.extend_from_slice(trailing);
        return whole;
    }
    Zeroizing::default()
}

fn request_of(frame: &[u8]) -> Option<Request<'_>> {
    match frame::decode_message(frame.get(frame::LENGTH_LEN..)?) {
        Ok(Message::Call(request)) => Some(request),
        _ => None,
    }
}
