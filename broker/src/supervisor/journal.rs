//! Results that nobody heard.
//!
//! Before Linux 5.19 any signal interrupts a thread whose call we are carrying out.
//! If its handler restarts system calls, the same call comes once more; the key that
//! it asked for has been made already. So the result of a call that did not reach its
//! thread is kept, and is the answer when that thread makes the same call again.
//!
//! *The same* is the same instruction with the same registers and the same bytes behind
//! them: a program that fills one buffer with one description after another makes a
//! new call each time. In between, the handler may have made calls of its own, and some
//! of those may not have been heard either; so a thread has several such results, and
//! they are forgotten after a number of other calls, lest one be the answer to a call
//! that was never interrupted. What may as well be done again is not kept at all, and of
//! requests for keys those are not that Linux lets a signal interrupt: they begin anew.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use keyshim_abi::Request;
use keyshim_abi::caller::TaskId;
use keyshim_abi::marshal::RawCall;

/// Threads remembered at most. One more, and the one interrupted first is forgotten.
const REMEMBERED_MAX: usize = 4096;
/// Results kept of one thread: handlers that interrupt each other.
const NESTED_MAX: usize = 8;
/// Calls of its thread after which a result has not been asked for again.
const CALLS_MAX: u32 = 64;

/// A call that changes something, as it is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deed {
    raw: RawCall,
    instruction: u64,
    content: u64,
    /// It asks for a key, wherever that is from: once the key has died, for another one.
    pub(super) wants_a_key: bool,
}

struct Unheard {
    deed: Deed,
    value: i64,
    calls_since: u32,
}

#[derive(Default)]
struct Thread {
    unheard: Vec<Unheard>,
    turn: u64,
}

/// What threads have not heard.
#[derive(Default)]
pub(crate) struct Journal {
    threads: HashMap<TaskId, Thread>,
    turns: u64,
    secret: RandomState,
}

impl Journal {
    /// A call from that instruction, if it is one that must not be carried out twice.
    pub(crate) fn deed(
        &self,
        raw: &RawCall,
        instruction: u64,
        request: &Request<'_>,
    ) -> Option<Deed> {
        let deed = || {
            let content = self.secret.hash_one(request);
            let wants_a_key = matches!(request, Request::RequestKey { .. });
            Deed { raw: *raw, instruction, content, wants_a_key }
        };
        (!is_repeatable(request)).then(deed)
    }

    /// Notes that a call was carried out and its thread did not hear of it.
    pub(crate) fn note(&mut self, task: TaskId, deed: Deed, value: i64) {
        self.turns += 1;
        if self.threads.len() >= REMEMBERED_MAX && !self.threads.contains_key(&task) {
            let eldest = self.threads.iter().min_by_key(|(_, thread)| thread.turn);
            if let Some(task) = eldest.map(|(&task, _)| task) {
                self.threads.remove(&task);
            }
        }
        let thread = self.threads.entry(task).or_default();
        thread.turn = self.turns;
        if thread.unheard.len() >= NESTED_MAX {
            thread.unheard.remove(0);
        }
        thread.unheard.push(Unheard { deed, value, calls_since: 0 });
    }

    /// A thread makes a call: what it has not heard of that very call. The results
    /// of calls that interrupted it go with it.
    pub(crate) fn take(&mut self, task: TaskId, deed: Option<&Deed>) -> Option<i64> {
        let thread = self.threads.get_mut(&task)?;
        let same = |unheard: &Unheard| Some(&unheard.deed) == deed;
        let value = thread.unheard.iter().rposition(same).map(|at| {
            let value = thread.unheard[at].value;
            thread.unheard.truncate(at);
            value
        });
        thread.unheard.iter_mut().for_each(|unheard| unheard.calls_since += 1);
        thread.unheard.retain(|unheard| unheard.calls_since < CALLS_MAX);
        if thread.unheard.is_empty() {
            self.threads.remove(&task);
        }
        value
    }
}

/// True for what gives the same when it is done once more.
const fn is_repeatable(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::GetKeyringId { .. }
            | Request::Describe { .. }
            | Request::Search { .. }
            | Request::Read { .. }
            | Request::GetSecurity { .. }
            | Request::Capabilities { .. }
            | Request::Other { .. }
    )
}

#[cfg(test)]
mod tests {
    use keyshim_abi::KeyId;
    use keyshim_abi::marshal::Entry;

    use super::*;

    const THREAD: TaskId = TaskId(7);

    fn join<'a>(name: &'a [u8]) -> Request<'a> {
        Request::JoinSessionKeyring { name: Some(Ok(name)) }
    }

    /// By the same registers from the same place.
    fn deed(journal: &Journal, request: &Request<'_>) -> Deed {
        journal.deed(&RawCall::native(Entry::Keyctl, [1, 2, 3, 4, 5]), 4096, request).unwrap()
    }

    #[test]
    fn what_was_not_heard_is_said_once_more_and_only_once() {
        let mut journal = Journal::default();
        let one = deed(&journal, &join(b"one"));
        journal.note(THREAD, one, 4711);
        assert_eq!(journal.take(TaskId(8), Some(&one)), None);
        assert_eq!(journal.take(THREAD, Some(&one)), Some(4711));
        assert_eq!(journal.take(THREAD, Some(&one)), None);
        assert!(journal.threads.is_empty());
    }

    #[test]
    fn another_text_in_the_same_buffer_is_another_call() {
        let mut journal = Journal::default();
        journal.note(THREAD, deed(&journal, &join(b"one")), 4711);
        let two = deed(&journal, &join(b"two"));
        assert_eq!(journal.take(THREAD, Some(&two)), None);
    }

    #[test]
    fn calls_of_a_handler_come_between() {
        let mut journal = Journal::default();
        let (outer, inner) = (deed(&journal, &join(b"out")), deed(&journal, &join(b"in")));
        journal.note(THREAD, outer, 1);
        assert_eq!(journal.take(THREAD, Some(&inner)), None);
        journal.note(THREAD, inner, 2);
        assert_eq!(journal.take(THREAD, None), None);
        assert_eq!(journal.take(THREAD, Some(&outer)), Some(1));
        assert_eq!(journal.take(THREAD, Some(&inner)), None);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut journal = Journal::default();
        let one = deed(&journal, &join(b"one"));
        journal.note(THREAD, one, 1);
        for _ in 0..CALLS_MAX {
            assert_eq!(journal.take(THREAD, None), None);
        }
        assert_eq!(journal.take(THREAD, Some(&one)), None);
    }

    #[test]
    fn a_question_may_be_asked_again() {
        let journal = Journal::default();
        let raw = RawCall::native(Entry::Keyctl, [11, 2, 3, 4, 5]);
        let read = Request::Read { key: KeyId::SESSION, room: None };
        assert_eq!(journal.deed(&raw, 0, &read), None);
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut journal = Journal::default();
        let one = deed(&journal, &join(b"one"));
        for task in 0..2 * REMEMBERED_MAX as u64 {
            journal.note(TaskId(task), one, 1);
            (0..NESTED_MAX).for_each(|_| journal.note(TaskId(0), one, 1));
        }
        assert_eq!(journal.threads.len(), REMEMBERED_MAX);
        assert_eq!(journal.threads[&TaskId(0)].unheard.len(), NESTED_MAX);
    }
}
