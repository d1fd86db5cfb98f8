//! The same history in two worlds, the kernel being the judge.
//!
//! The kernel goes first and the second of each step is recorded; the other world
//! is given the same seconds. What is excused, and nothing else:
//!
//! * A step during which the kernel's second changed may have been judged by either.
//!   Both are tried; when neither fits, the history is *cut* there and counted.
//! * A keyring that has held more than sixteen links lists its keys, and is searched,
//!   in an order that depends on a secret of each boot. Listings of it are compared
//!   as sets; when a search finds another key of several equal ones, the history is
//!   cut there.
//! * Linux destroys keys and drops credentials in the background. The kernel world
//!   waits for that, see [`crate::world::kernel`].
//! * In `/proc/keys` the usage count of keyrings, which tasks' credentials hold, and
//!   in `/proc/key-users` the count of references to the record.
//! * What kernels do differently among themselves, see `differential/between_kernels.rs`.
//! * Under the supervisor alone, what follows once a thread that is not its process's main
//!   one has made another: nobody says who made a thread (COMPATIBILITY.md). A history is
//!   *cut* where it goes another way after that.
//! * The quota of a user for whom helpers have been called: the name of a helper's session
//!   keyring holds a serial in decimal, whose length is by chance. A history in which
//!   quota is full in one world only is cut there.
//! * Where a `big_key` of 640 to 1,200 bytes lies, `[buff]` or `[file]`: each build of
//!   the kernel draws that line elsewhere.

use std::collections::HashSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use keyshim_keys::Profile;

use crate::model::Tasks;
use crate::script;
use crate::step::{Action, History, Step};
use crate::workload::{Abilities, Workload};
use crate::world::World;
use crate::world::actor::{ActorWorld, Road};
use crate::world::core::CoreWorld;
use crate::world::run::{Run, Seen, preamble};

mod between_kernels;
mod serial_length;

/// Ids of the core's users begin here: seven digits, as everywhere.
const CORE_ID_BASE: u32 = 1_000_000;
/// How many ambiguous seconds are tried the other way round.
const FLIPS_MAX: usize = 6;

/// A history and what the kernel said to each step.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The steps.
    pub history: History,
    /// What each gave.
    pub seen: Vec<Seen>,
    /// The second in which it began.
    pub start_second: i64,
}

impl Recorded {
    /// As a script in which each step says what the kernel gave.
    #[must_use]
    pub fn script(&self) -> String {
        let mut history = self.history.clone();
        for (step, seen) in history.steps.iter_mut().zip(&self.seen) {
            step.expect = vec![seen.text.clone()];
        }
        script::print(&history)
    }
}

/// How a comparison ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same to the end.
    Same,
    /// The same up to this step, at which an excuse of the above ends it.
    Cut(usize, &'static str),
    /// Another answer at this step.
    Differs(Difference),
}

/// Two answers to one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Index of the step.
    pub at: usize,
    /// What the kernel said.
    pub kernel: String,
    /// What the other world said.
    pub other: String,
}

fn present_second() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// What a seed makes, on the kernel.
pub fn record(seed: u64, steps: usize, abilities: Abilities, actor: &Path) -> Result<Recorded> {
    let mut workload = Workload::new(seed, abilities)?;
    let flavour = workload.flavour();
    let start_second = present_second();
    let world = ActorWorld::new(Road::Kernel, actor, "r")?;
    let mut run = Run::begin(world, flavour.start)?;
    let mut history = History {
        profile: Profile::default(),
        start: flavour.start,
        needs_big_key: flavour.big_key_percent > 0,
        needs_dns_resolver: false,
        needs_upcalls: flavour.upcalls,
        steps: Vec::new(),
    };
    let mut seen = Vec::new();
    for _ in 0..steps {
        let step = workload.next_step();
        let one = run.step(&step)?;
        workload.learn(&step, &one, run.naming())?;
        history.steps.push(step);
        seen.push(one);
    }
    Ok(Recorded { history, seen, start_second })
}

/// A given history on the kernel.
pub fn rerecord(history: &History, actor: &Path) -> Result<Recorded> {
    let start_second = present_second();
    let world = ActorWorld::new(Road::Kernel, actor, "r")?;
    let mut run = Run::begin(world, history.start)?;
    let mut seen = Vec::new();
    for step in &history.steps {
        seen.push(run.step(step)?);
    }
    Ok(Recorded { history: history.clone(), seen, start_second })
}

/// The history without the steps of actors that are not there (any more), as is
/// left when some steps have been taken out.
pub fn without_the_dead(history: &History) -> Result<History> {
    if history.needs_upcalls {
        // Who lives depends on which requests bring helpers: a run passes over the others.
        return Ok(history.clone());
    }
    let mut tasks = Tasks::default();
    tasks.begin("r");
    let mut kept = History { steps: Vec::new(), ..history.clone() };
    for (index, step) in preamble(history.start).iter().chain(&history.steps).enumerate() {
        let actor = step.actor.as_str();
        if tasks.get(actor).is_none() {
            continue;
        }
        match &step.action {
            Action::Fork(name) | Action::Thread(name) if tasks.get(name).is_some() => continue,
            Action::Fork(name) => drop(tasks.fork(actor, name)?),
            Action::Thread(name) => drop(tasks.thread(actor, name)?),
            Action::Exec => drop(tasks.exec(actor)?),
            Action::Exit => drop(tasks.exit(actor)?),
            _ => {}
        }
        if index >= preamble(history.start).len() {
            kept.steps.push(step.clone());
        }
    }
    Ok(kept)
}

/// The same history in the core. Also says whether the order of some keyring
/// became undefined in its course.
pub fn compare_core(recorded: &Recorded) -> Result<(Verdict, bool)> {
    let ambiguous: Vec<usize> = (0..recorded.seen.len())
        .filter(|&index| recorded.seen[index].second_before < recorded.seen[index].second_after)
        .collect();
    let mut early: Vec<usize> = Vec::new();
    loop {
        let (verdict, disordered) = replay_core(recorded, &early)?;
        let Verdict::Differs(difference) = &verdict else { return Ok((verdict, disordered)) };
        let next = ambiguous.iter().rev().find(|at| **at <= difference.at && !early.contains(at));
        match next {
            Some(at) if early.len() < FLIPS_MAX => early.push(*at),
            _ if ambiguous.contains(&difference.at) => {
                return Ok((Verdict::Cut(difference.at, "the second changed"), disordered));
            }
            _ => return Ok((verdict, disordered)),
        }
    }
}

/// The core, with the later second of each ambiguous step but for the `early` ones.
fn replay_core(recorded: &Recorded, early: &[usize]) -> Result<(Verdict, bool)> {
    let world = CoreWorld::new(7, "r", recorded.start_second, CORE_ID_BASE);
    let mut run = Run::begin(world, recorded.history.start)?;
    let upcalls = recorded.history.needs_upcalls;
    for (index, (step, kernel)) in recorded.history.steps.iter().zip(&recorded.seen).enumerate() {
        let second = match early.contains(&index) {
            true => kernel.second_before,
            false => kernel.second_after,
        };
        if second > 0 {
            run.world.reach(second)?;
        }
        let other = run.step(step)?;
        let disordered = run.world.disordered();
        let texts = [kernel.text.as_str(), other.text.as_str()];
        if let Some(verdict) = judge(index, step, texts, disordered, upcalls) {
            return Ok((verdict, disordered));
        }
    }
    Ok((Verdict::Same, run.world.disordered()))
}

/// The same history in another world of actors.
pub fn compare_road(
    recorded: &Recorded,
    disordered: bool,
    road: &Road,
    actor: &Path,
) -> Result<Verdict> {
    let timed = recorded.history.steps.iter().any(sets_timeout);
    let start_second = present_second();
    let world = ActorWorld::new(road.clone(), actor, "r")?;
    let mut run = Run::begin(world, recorded.history.start)?;
    let mut late = false;
    let mut makers = Makers::default();
    let upcalls = recorded.history.needs_upcalls;
    for (index, (step, kernel)) in recorded.history.steps.iter().zip(&recorded.seen).enumerate() {
        makers.after(step);
        let second = kernel.second_before - recorded.start_second + start_second;
        let acts = kernel.second_before > 0;
        if timed && acts {
            late |= !run.world.reach(second)?;
        }
        let other = run.step(step)?;
        let unsure = late
            || (acts && other.second_before != second)
            || other.second_before != other.second_after
            || kernel.second_before != kernel.second_after;
        late |= unsure && sets_timeout(step);
        let texts = [kernel.text.as_str(), other.text.as_str()];
        if let Some(verdict) = judge(index, step, texts, disordered, upcalls) {
            return Ok(match verdict {
                _ if timed && unsure => Verdict::Cut(index, "the second changed"),
                _ if makers.are_unsure && matches!(road, Road::Supervised(_)) => {
                    Verdict::Cut(index, "nobody says who made a thread")
                }
                verdict => verdict,
            });
        }
    }
    Ok(Verdict::Same)
}

/// Whether it is clear, without being told, which thread made each of the others.
#[derive(Default)]
struct Makers<'a> {
    threads: HashSet<&'a str>,
    are_unsure: bool,
}

impl<'a> Makers<'a> {
    fn after(&mut self, step: &'a Step) {
        match &step.action {
            Action::Thread(name) => {
                self.are_unsure |= self.threads.contains(step.actor.as_str());
                self.threads.insert(name);
            }
            // A thread that calls exec goes on as the main one.
            Action::Exec => drop(self.threads.remove(step.actor.as_str())),
            _ => {}
        }
    }
}

fn sets_timeout(step: &Step) -> bool {
    let Action::Call(call) = &step.action else { return false };
    matches!(call.verb.name, "set_timeout" | "get_persistent")
}

/// `None` when both say the same, or what is excused.
fn judge(
    at: usize,
    step: &Step,
    [kernel, other]: [&str; 2],
    disordered: bool,
    upcalls: bool,
) -> Option<Verdict> {
    if kernel == other
        || (disordered && same_members(kernel, other))
        || between_kernels::excuses(&step.action, kernel, other)
        || (upcalls && serial_length::excuses(&step.action, kernel, other))
    {
        return None;
    }
    if upcalls && [kernel, other].contains(&"EDQUOT") {
        return Some(Verdict::Cut(at, "the length of a serial"));
    }
    if disordered && is_key(kernel) && is_key(other) {
        return Some(Verdict::Cut(at, "the order of a large keyring"));
    }
    Some(Verdict::Differs(Difference { at, kernel: kernel.to_owned(), other: other.to_owned() }))
}

fn is_key(text: &str) -> bool {
    text.strip_prefix(['k', 'x']).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

fn same_members(one: &str, other: &str) -> bool {
    fn members(text: &str) -> Option<Vec<&str>> {
        let mut members: Vec<&str> =
            text.strip_prefix('[')?.strip_suffix(']')?.split(' ').collect();
        members.sort_unstable();
        Some(members)
    }
    members(one).is_some_and(|one| Some(one) == members(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_excused_only_where_it_is_undefined() {
        let step = Step::new("a", Action::Exec);
        let judge = |kernel, other, disordered| judge(0, &step, [kernel, other], disordered, false);
        assert_eq!(judge("[k1 k2]", "[k2 k1]", true), None);
        assert!(matches!(judge("[k1 k2]", "[k2 k1]", false), Some(Verdict::Differs(_))));
        assert!(matches!(judge("[k1 k2]", "[k2 k3]", true), Some(Verdict::Differs(_))));
        assert!(matches!(judge("k1", "k2", true), Some(Verdict::Cut(..))));
        assert!(matches!(judge("k1", "ENOKEY", true), Some(Verdict::Differs(_))));
    }
}
