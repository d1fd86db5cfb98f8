//! The table of calls that wait, found by number, by task and by turn.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_keys::CallId;

use super::{Outbox, Road};
use crate::supervisor::Trapped;

/// Threads looked at in one round.
const LOOKS_MAX: usize = 32;

struct Waiting {
    task: TaskId,
    road: Road,
}

/// The calls that wait.
#[derive(Default)]
pub(crate) struct Waits {
    calls: HashMap<CallId, Waiting>,
    /// The same by their threads, of which one has several if signals have interrupted it.
    of_tasks: BTreeSet<(TaskId, CallId)>,
    /// Those for whose threads nobody says that a signal has come, with the threads' numbers.
    watched: BTreeMap<CallId, u32>,
    /// The last of them that was looked at.
    looked_at: CallId,
    last: u64,
    /// Where deeds go.
    pub(crate) outbox: Arc<Outbox>,
}

impl Waits {
    /// A number for the next call.
    pub(crate) fn number(&mut self) -> CallId {
        self.last += 1;
        CallId(self.last)
    }

    /// Notes that a call waits, and whether a signal would end that.
    pub(crate) fn add(&mut self, call: CallId, task: TaskId, mut road: Road, interruptible: bool) {
        if let Road::Trapped(trapped) = &mut road
            && interruptible
        {
            trapped.note_interruptible();
            self.watched.insert(call, trapped.tid());
        }
        self.of_tasks.insert((task, call));
        self.calls.insert(call, Waiting { task, road });
    }

    /// Takes out a call that is answered.
    pub(crate) fn take(&mut self, call: CallId) -> Option<Road> {
        let Waiting { task, road } = self.calls.remove(&call)?;
        self.of_tasks.remove(&(task, call));
        self.watched.remove(&call);
        Some(road)
    }

    /// Takes the roads back from those of a thread's calls that are made once more: what they
    /// are answered with is nothing that it has missed.
    pub(crate) fn abandon(&mut self, task: TaskId, is_once_more: impl Fn(&Trapped) -> bool) {
        for call in self.of_task(task) {
            let Some(Waiting { road, .. }) = self.calls.get_mut(&call) else { continue };
            if matches!(road, Road::Trapped(trapped) if is_once_more(trapped)) {
                *road = Road::Nobody;
                self.watched.remove(&call);
            }
        }
    }

    /// True when that call came out of the kernel.
    pub(crate) fn is_trapped(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|waiting| matches!(waiting.road, Road::Trapped(_)))
    }

    /// Notes that what a call is answered with is for a signal's sake.
    pub(super) fn note_interrupted(&mut self, call: CallId) {
        if let Some(Waiting { road: Road::Trapped(trapped), .. }) = self.calls.get_mut(&call) {
            trapped.is_interrupted = true;
        }
    }

    /// The calls of a thread.
    pub(crate) fn of_task(&self, task: TaskId) -> Vec<CallId> {
        let of_task = self.of_tasks.range((task, CallId(0))..=(task, CallId(u64::MAX)));
        // Nearly always there is none at all.
        of_task.map(|&(_, call)| call).collect()
    }

    /// Those of them that are answered over that connection.
    pub(crate) fn of_connection(&self, task: TaskId, id: u64) -> Vec<CallId> {
        let road = |call: &CallId| self.calls.get(call).map(|waiting| &waiting.road);
        let is_its =
            |call: &CallId| matches!(road(call), Some(Road::Connection(its)) if *its == id);
        let mut calls = self.of_task(task);
        calls.retain(is_its);
        calls
    }

    /// Whose turn it is to be looked at, each with the number of its thread: a few of
    /// however many there are, and the others after them.
    pub(crate) fn next_watched(&mut self) -> Vec<(CallId, u32)> {
        let behind = self.watched.range((Excluded(self.looked_at), Unbounded));
        let from_the_first = self.watched.range(..=self.looked_at);
        let turn = behind.chain(from_the_first).take(LOOKS_MAX);
        let turn: Vec<_> = turn.map(|(&call, &tid)| (call, tid)).collect();
        if let Some(&(last, _)) = turn.last() {
            self.looked_at = last;
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_watched(count: u32) -> Waits {
        let mut waits = Waits::default();
        for tid in 1..=count {
            let call = waits.number();
            waits.add(call, TaskId(7), Road::Nobody, true);
            waits.watched.insert(call, tid);
        }
        waits
    }

    #[test]
    fn all_have_their_turn_and_few_at_a_time() {
        let mut waits = with_watched(100);
        let mut turns: Vec<u32> = Vec::new();
        for _ in 0..4 {
            let turn = waits.next_watched();
            assert!(turn.len() <= LOOKS_MAX);
            turns.extend(turn.iter().map(|&(_, tid)| tid));
        }
        turns.sort_unstable();
        turns.dedup();
        assert_eq!(turns, Vec::from_iter(1..=100));
    }

    #[test]
    fn a_few_are_looked_at_once_in_each_round() {
        let mut waits = with_watched(3);
        for _ in 0..3 {
            let mut turn = waits.next_watched();
            turn.sort_unstable();
            assert_eq!(turn, [(CallId(1), 1), (CallId(2), 2), (CallId(3), 3)]);
        }
        waits.take(CallId(2));
        assert_eq!(waits.next_watched().len(), 2);
    }

    #[test]
    fn calls_are_found_by_task_and_connection() {
        let mut waits = Waits::default();
        let (one, other) = (TaskId(1), TaskId(2));
        for (task, road) in [(one, 64), (other, 65), (one, 66)] {
            let call = waits.number();
            waits.add(call, task, Road::Connection(road), true);
        }
        assert_eq!(waits.of_task(one), [CallId(1), CallId(3)]);
        assert_eq!(waits.of_connection(one, 66), [CallId(3)]);
        assert_eq!(waits.of_connection(other, 66), []);
        assert!(waits.take(CallId(3)).is_some() && waits.take(CallId(3)).is_none());
        assert_eq!(waits.of_task(one), [CallId(1)]);
        assert!(waits.next_watched().is_empty());
    }
}
