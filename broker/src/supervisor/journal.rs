//! Results that nobody heard.
//!
//! Before Linux 5.19 any signal interrupts a thread whose call we are carrying out.
//! If its handler restarts system calls, the same call comes once more; the key that
//! it asked for has been made already. So the result of a call that did not reach its
//! thread is kept, and is the answer when that thread's next call is the same.

use std::collections::HashMap;

use keyshim_abi::marshal::RawCall;

/// Threads remembered at most. One more, and the one interrupted first is forgotten.
const REMEMBERED_MAX: usize = 4096;

struct Unheard {
    call: RawCall,
    value: i64,
    turn: u64,
}

/// What threads have not heard, one call each.
#[derive(Default)]
pub(crate) struct Journal {
    unheard: HashMap<u32, Unheard>,
    turns: u64,
}

impl Journal {
    /// Notes that a call was carried out and its thread did not hear of it.
    pub(crate) fn note(&mut self, tid: u32, call: RawCall, value: i64) {
        self.turns += 1;
        if self.unheard.len() >= REMEMBERED_MAX {
            let eldest = self.unheard.iter().min_by_key(|(_, unheard)| unheard.turn);
            if let Some(tid) = eldest.map(|(&tid, _)| tid) {
                self.unheard.remove(&tid);
            }
        }
        self.unheard.insert(tid, Unheard { call, value, turn: self.turns });
    }

    /// What a thread that makes this call has not heard yet. Any call of its makes
    /// an end of what was noted.
    pub(crate) fn take(&mut self, tid: u32, call: &RawCall) -> Option<i64> {
        let unheard = self.unheard.remove(&tid)?;
        (unheard.call == *call).then_some(unheard.value)
    }
}

#[cfg(test)]
mod tests {
    use keyshim_abi::marshal::Entry;

    use super::*;

    fn call(first: u64) -> RawCall {
        RawCall::native(Entry::AddKey, [first, 2, 3, 4, 5])
    }

    #[test]
    fn what_was_not_heard_is_said_once_more_and_only_once() {
        let mut journal = Journal::default();
        journal.note(7, call(1), 4711);
        assert_eq!(journal.take(8, &call(1)), None);
        assert_eq!(journal.take(7, &call(1)), Some(4711));
        assert_eq!(journal.take(7, &call(1)), None);
    }

    #[test]
    fn another_call_makes_an_end_of_it() {
        let mut journal = Journal::default();
        journal.note(7, call(1), 4711);
        assert_eq!(journal.take(7, &call(2)), None);
        assert_eq!(journal.take(7, &call(1)), None);
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut journal = Journal::default();
        for tid in 0..2 * REMEMBERED_MAX as u32 {
            journal.note(tid, call(1), i64::from(tid));
        }
        assert_eq!(journal.unheard.len(), REMEMBERED_MAX);
        assert_eq!(journal.take(0, &call(1)), None);
        let last = 2 * REMEMBERED_MAX as u32 - 1;
        assert_eq!(journal.take(last, &call(1)), Some(i64::from(last)));
    }
}
