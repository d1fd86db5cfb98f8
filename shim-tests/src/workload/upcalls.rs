//! Histories in which helpers make keys: who waits, and what a helper does.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};

use super::Workload;
use crate::step::{Action, Arg, KeyArg, Step, Text};
use crate::world::run::Seen;

/// Most helpers that live at once.
const HELPERS_MAX: usize = 3;
const AUTHORITY: Arg = Arg::Key(KeyArg::Number(-7));
const DESTINATION: Arg = Arg::Key(KeyArg::Number(-8));

/// Who waits, and for whom helpers act.
#[derive(Debug, Default)]
pub(super) struct Upcalls {
    /// Actors that wait in a call.
    waiting: BTreeSet<String>,
    /// The name of the key that each helper is to make.
    targets: BTreeMap<String, String>,
}

impl Workload {
    pub(super) fn waits(&self, actor: &str) -> bool {
        self.upcalls.waiting.contains(actor)
    }

    /// True when the actor's process, or its parent, would wait for a thread that waits.
    pub(super) fn is_held_up(&self, actor: &str) -> bool {
        let Some(task) = self.tasks.get(actor) else { return false };
        let same =
            |name: &String| self.tasks.get(name).is_some_and(|other| other.process == task.process);
        self.upcalls.waiting.iter().any(same)
    }

    /// True when the parent of this actor waits.
    pub(super) fn parent_waits(&self, actor: &str) -> bool {
        self.tasks.parent_of(actor).is_some_and(|parent| self.waits(parent))
    }

    /// What a request says about the key, which brings a helper if it is not there.
    pub(super) fn callout(&mut self, actor: &str) -> Arg {
        let helpers = self.upcalls.targets.keys().filter(|name| self.tasks.get(name).is_some());
        let crowded = helpers.count() >= HELPERS_MAX || actor == "r";
        if !self.flavour.upcalls || crowded || self.rng.random_ratio(1, 3) {
            return Arg::Text(Text::Null);
        }
        match self.rng.random_range(0..20) {
            0 => Arg::Text(Text::Bad),
            1 => Workload::string(""),
            _ => Workload::string("what I want"),
        }
    }

    /// A step of somebody who waits, or of a helper; none most of the time.
    pub(super) fn upcall_step(&mut self) -> Option<Step> {
        let waiting = self.upcalls.waiting.iter().choose(&mut self.rng).cloned();
        if let Some(actor) = waiting.filter(|_| self.rng.random_ratio(1, 5)) {
            let interrupt = self.rng.random_ratio(1, 5);
            let action = if interrupt { Action::Interrupt } else { Action::Answer };
            return Some(Step::new(&actor, action));
        }
        let idle = |name: &&String| self.tasks.get(name).is_some() && !self.waits(name);
        let idle: Vec<String> = self.upcalls.targets.keys().filter(idle).cloned().collect();
        let helper = idle.choose(&mut self.rng).filter(|_| self.rng.random_ratio(2, 5));
        helper.map(|helper| self.helper_step(helper))
    }

    fn helper_step(&mut self, helper: &str) -> Step {
        let target = self.upcalls.targets.get(helper).cloned().unwrap_or_default();
        let key = Arg::Key(KeyArg::Named(target));
        let ring = self.helper_ring(helper);
        let (name, args) = match self.rng.random_range(0..100) {
            0..25 => ("assume_authority", vec![key]),
            25..37 => ("instantiate", vec![key, self.payload("user"), ring]),
            37..40 => ("instantiate_iov", vec![key, self.pieces(), ring]),
            40..43 => ("negate", vec![key, Arg::Number(self.rng.random_range(0..3)), ring]),
            43..48 => {
                let error = *[126u64, 128, 999, 0, 512].choose(&mut self.rng).unwrap_or(&126);
                ("reject", vec![key, Arg::Number(60), Arg::Number(error), ring])
            }
            48..53 => ("read", vec![AUTHORITY, self.room()]),
            53..56 => ("describe", vec![key, self.room()]),
            56..58 => ("set_timeout", vec![key, Arg::Number(90)]),
            58..60 => ("set_reqkey_keyring", vec![self.default_destination(helper)]),
            60..62 => return Step::new(helper, Action::Arguments),
            62..64 => return Step::new(helper, self.fork(helper)),
            64..76 if !self.is_held_up(helper) => return Step::new(helper, Action::Exit),
            76..78 if !self.is_held_up(helper) => return Step::new(helper, Action::Exec),
            _ => return self.call_step(helper.to_owned()),
        };
        Step::new(helper, Action::Call(Workload::build(name, args)))
    }

    /// A setting for SET_REQKEY_KEYRING. Root's user keyrings are not the history's: others
    /// would find there what is requested.
    pub(super) fn default_destination(&mut self, actor: &str) -> Arg {
        match self.rng.random_range(-2..=8i64) {
            4 | 5 if self.is_root(actor) => Arg::Number(3),
            setting => Arg::Number(setting as u64),
        }
    }

    fn helper_ring(&mut self, helper: &str) -> Arg {
        match self.rng.random_range(0..10) {
            0..6 => Arg::Key(KeyArg::Number(0)),
            6..8 => DESTINATION,
            8 => AUTHORITY,
            _ => self.ring(helper),
        }
    }

    /// Takes note of calls that wait and of those that have been answered. True when
    /// there is no more to a step.
    pub(super) fn learn_wait(&mut self, step: &Step, seen: &Seen) -> bool {
        if matches!(step.action, Action::Answer) && seen.text != "waits" {
            self.upcalls.waiting.remove(&step.actor);
        }
        let Action::Call(_) = step.action else { return matches!(step.action, Action::Answer) };
        let helper = seen.text.strip_prefix("upcall ");
        if helper.is_none() && seen.text != "waits" {
            return false;
        }
        self.upcalls.waiting.insert(step.actor.clone());
        if let (Some(helper), Some(key)) = (helper, &step.bind) {
            // A name that is new: helpers are counted.
            let _ = self.tasks.helper(helper);
            self.upcalls.targets.insert(helper.to_owned(), key.clone());
            self.made.push(super::Made {
                name: key.clone(),
                keyring: false,
                maker: step.actor.clone(),
                home: None,
            });
        }
        true
    }
}
