//! Histories from a seed: who acts next, and what it does.
//!
//! Arguments are mostly drawn from what the history has made so far, because a
//! random serial only ever meets ENOKEY; a few are junk. Nobody here knows what a
//! step will give.

use anyhow::Result;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::Tasks;
use crate::step::{Action, Arg, Call, IdArg, Start, Step, Text, Which};
use crate::trace::Naming;
use crate::verb;
use crate::world::run::{Seen, preamble};
use upcalls::Upcalls;

mod args;
mod calls;
mod upcalls;

/// Most tasks that live at once.
const TASKS_MAX: usize = 6;
/// Users of a history.
pub const USERS: u32 = 3;

/// What the world can do that not every world can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Actors can begin without a session keyring.
    pub bare: bool,
    /// There is the type `big_key`.
    pub big_key: bool,
    /// Helpers are called.
    pub upcalls: bool,
}

/// What a history is about, besides everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavour {
    /// How it begins.
    pub start: Start,
    /// Large payloads, so that quotas fill up.
    pub heavy: bool,
    /// Keyrings in keyrings, more than anything else.
    pub deep: bool,
    /// Many links in one keyring, whose order then is the hash's.
    pub wide: bool,
    /// Threads are made by any thread, not by main threads only.
    pub any_thread: bool,
    /// New keys of the type `big_key`, of a hundred; 0 where the kernel lacks it.
    pub big_key_percent: u32,
    /// Keys are requested that helpers make.
    pub upcalls: bool,
}

/// A key that the history has made.
#[derive(Debug, Clone)]
struct Made {
    name: String,
    keyring: bool,
    maker: String,
    /// The keyring it was made in, as the maker called it.
    home: Option<Arg>,
}

/// The state of one history's generator.
pub struct Workload {
    rng: ChaCha8Rng,
    flavour: Flavour,
    tasks: Tasks,
    made: Vec<Made>,
    count: usize,
    task_count: usize,
    timeouts_pending: bool,
    waits_left: u32,
    upcalls: Upcalls,
}

impl Workload {
    /// The history of that seed.
    pub fn new(seed: u64, abilities: Abilities) -> Result<Workload> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let big_key_percent = match (abilities.big_key, rng.random_ratio(1, 3)) {
            (false, _) => 0,
            (true, false) => 6,
            (true, true) => 36,
        };
        let flavour = Flavour {
            start: if rng.random_ratio(1, 6) && abilities.bare {
                Start::Bare
            } else {
                Start::Sessions
            },
            heavy: rng.random_ratio(1, 5),
            deep: rng.random_ratio(1, 4),
            wide: rng.random_ratio(1, 12),
            any_thread: rng.random_ratio(1, 4),
            big_key_percent,
            upcalls: abilities.upcalls && rng.random_ratio(1, 2),
        };
        let mut tasks = Tasks::default();
        tasks.begin("r");
        let mut workload = Workload {
            rng,
            flavour,
            tasks,
            made: Vec::new(),
            count: 0,
            task_count: 0,
            timeouts_pending: false,
            waits_left: 2,
            upcalls: Upcalls::default(),
        };
        for step in preamble(flavour.start) {
            workload.follow(&step, true)?;
        }
        Ok(workload)
    }

    /// What this history is about.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The next step.
    pub fn next_step(&mut self) -> Step {
        if let Some(step) = self.upcall_step() {
            return step;
        }
        let actor = self.actor();
        if self.timeouts_pending && self.waits_left > 0 && self.rng.random_ratio(1, 8) {
            self.waits_left -= 1;
            self.timeouts_pending = false;
            return Step::new(&actor, Action::Wait(self.rng.random_range(1..=2)));
        }
        match self.rng.random_range(0..100) {
            0..8 => self.task_step(actor),
            8..10 => Step::new(&actor, Action::ProcKeys),
            10 => Step::new(&actor, Action::KeyUsers),
            11 => Step::new(&actor, Action::Status),
            _ => self.call_step(actor),
        }
    }

    /// Takes note of what a step gave.
    pub fn learn(&mut self, step: &Step, seen: &Seen, naming: &Naming) -> Result<()> {
        if self.learn_wait(step, seen) {
            return Ok(());
        }
        let Action::Call(call) = &step.action else {
            return self.follow(step, seen.ok);
        };
        if !seen.ok {
            return Ok(());
        }
        if call.verb.name == "set_timeout" {
            self.timeouts_pending = true;
        }
        let is_new = seen.text != "0" && !self.made.iter().any(|made| made.name == seen.text);
        if let Some(name) = step.bind.as_ref().filter(|_| is_new) {
            let keyring = naming.is_keyring(Some(&Arg::Key(args::named(name))));
            let maker = step.actor.clone();
            let home = match call.verb.name {
                "add_key" => call.args.last().cloned(),
                _ => None,
            };
            self.made.push(Made { name: name.clone(), keyring, maker, home });
        }
        Ok(())
    }

    /// Keeps the model of the tasks in step. Ids are those of a made-up base: only
    /// their being equal counts here.
    fn follow(&mut self, step: &Step, ok: bool) -> Result<()> {
        let actor = step.actor.as_str();
        if !ok {
            return Ok(());
        }
        match &step.action {
            Action::Fork(name) => drop(self.tasks.fork(actor, name)?),
            Action::Thread(name) => drop(self.tasks.thread(actor, name)?),
            Action::Exec => drop(self.tasks.exec(actor)?),
            Action::Exit => drop(self.tasks.exit(actor)?),
            Action::SetIds(which, ids) => {
                let ids = ids.map(args::model_id);
                self.tasks.find_mut(actor)?.set_ids(*which, ids);
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody who lives. Root acts least, and in a bare history not at all but to
    /// fork: without a session it would be given root's own keyrings, which are not
    /// the history's.
    fn actor(&mut self) -> String {
        let names = self.tasks.names();
        let acts = |name: &&str| !self.is_root(name) && !self.waits(name);
        let others: Vec<&str> = names.into_iter().filter(acts).collect();
        let root_acts = self.flavour.start == Start::Sessions && self.rng.random_ratio(1, 12);
        match others.choose(&mut self.rng) {
            Some(name) if !root_acts => (*name).to_owned(),
            _ => "r".to_owned(),
        }
    }

    /// True for a task whose real user is root: its user keyrings outlive histories.
    fn is_root(&self, actor: &str) -> bool {
        self.tasks.get(actor).is_none_or(|task| task.ids.uid.0 == 0)
    }

    fn task_step(&mut self, actor: String) -> Step {
        let living = self.tasks.names().len();
        let crowded = living >= TASKS_MAX;
        let first = actor == "r" || self.is_held_up(&actor);
        let action = match self.rng.random_range(0..20) {
            0..6 if !crowded => self.fork(&actor),
            6..9 if !crowded => self.thread(&actor),
            9..11 if !first => Action::Exec,
            11..13 if !first && living > 2 => Action::Exit,
            13..15 => Action::SetGroups(vec![self.own(), self.own()]),
            15 => Action::SetIds(Which::FsUid, [self.own(); 3]),
            16 => Action::SetIds(Which::FsGid, [self.own(); 3]),
            17 => Action::SetIds(Which::Gids, self.three_ids()),
            _ if !first => Action::SetIds(Which::Uids, self.three_ids()),
            _ => self.fork(&actor),
        };
        if actor == "r" && matches!(action, Action::SetIds(Which::Uids | Which::Gids, _)) {
            return Step::new("r", Action::SetGroups(Vec::new()));
        }
        Step::new(&actor, action)
    }

    fn fork(&mut self, _actor: &str) -> Action {
        self.task_count += 1;
        Action::Fork(format!("p{}", self.task_count))
    }

    fn thread(&mut self, actor: &str) -> Action {
        let main = self.tasks.get(actor).is_some_and(|task| task.main);
        if !main && !self.flavour.any_thread {
            if self.is_held_up(actor) {
                return self.fork(actor);
            }
            return Action::Exec;
        }
        self.task_count += 1;
        Action::Thread(format!("t{}", self.task_count))
    }

    fn own(&mut self) -> IdArg {
        IdArg::Own(self.rng.random_range(1..=USERS as u8))
    }

    fn three_ids(&mut self) -> [IdArg; 3] {
        if self.rng.random_ratio(1, 2) {
            return [self.own(); 3];
        }
        std::array::from_fn(|_| match self.rng.random_range(0..6) {
            0 | 1 => IdArg::Number(u32::MAX),
            _ => self.own(),
        })
    }

    fn call_step(&mut self, actor: String) -> Step {
        let call = self.call(&actor);
        let mut step = Step::new(&actor, Action::Call(call));
        let Action::Call(call) = &step.action else { return step };
        if !matches!(call.verb.gives, verb::Gives::KeyOfType(_) | verb::Gives::Keyring) {
            return step;
        }
        self.count += 1;
        step.bind = Some(format!("k{}", self.count));
        step
    }

    fn build(name: &'static str, args: Vec<Arg>) -> Call {
        Call { verb: verb::get(name), args }
    }

    fn string(text: &str) -> Arg {
        Arg::Text(Text::new(text))
    }
}
