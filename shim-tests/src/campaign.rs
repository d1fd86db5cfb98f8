//! Many histories at once: their waits overlap.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::differential::{Verdict, compare_core, compare_road, record};
use crate::shrink::{Other, shrink};
use crate::workload::Abilities;
use crate::world::actor::Road;

/// How long a failing history is made shorter.
const SHRINK_PATIENCE: Duration = Duration::from_secs(120);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The first seed; the others follow it.
    pub seed: u64,
    /// How many histories.
    pub histories: u64,
    /// Steps of each.
    pub steps: usize,
    /// How many at once.
    pub workers: usize,
    /// What the kernel can do.
    pub abilities: Abilities,
    /// True to compare the core.
    pub core: bool,
    /// The way to the other world of actors to compare, if any.
    pub second: Option<Road>,
    /// The program of the actors.
    pub actor: PathBuf,
    /// Differences to shrink; the others are only named.
    pub shrink_max: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Comparisons that were the same to the end.
    pub same: u64,
    /// Comparisons that an excuse cut short.
    pub cut: u64,
    /// Steps that were compared.
    pub steps: u64,
    /// A text for each difference.
    pub differences: Vec<String>,
    /// A text for each history of which the kernel gave another account than the core,
    /// and the core's own when it was put to it once more. The core gives the same each
    /// time, so it was the kernel, or the machine, that was otherwise engaged.
    pub unsteady: Vec<String>,
    /// Histories that could not take place.
    pub faults: Vec<String>,
}

impl Tally {
    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} comparisons the same, {} cut short by an excuse, {} differ, {} unsteady, {} faults; \
             {} steps",
            self.same,
            self.cut,
            self.differences.len(),
            self.unsteady.len(),
            self.faults.len(),
            self.steps
        )
    }
}

/// Runs the plan. `progress` hears of every history that is done.
pub fn run(plan: &Plan, progress: &(dyn Fn(&Tally) + Sync)) -> Tally {
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..plan.workers {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= plan.histories {
                        return;
                    }
                    let seed = plan.seed + turn;
                    let fault = one(plan, seed, &tally).err();
                    let Ok(mut tally) = tally.lock() else { return };
                    if let Some(fault) = fault {
                        tally.faults.push(format!("seed {seed}: {fault:#}"));
                    }
                    progress(&tally);
                }
            });
        }
    });
    tally.into_inner().unwrap_or_default()
}

fn one(plan: &Plan, seed: u64, tally: &Mutex<Tally>) -> Result<()> {
    let recorded = record(seed, plan.steps, plan.abilities, &plan.actor)?;
    let (verdict, disordered) = compare_core(&recorded)?;
    if plan.core {
        note(plan, seed, &verdict, &recorded.history, &Other::Core, tally)?;
    }
    let Some(road) = &plan.second else { return Ok(()) };
    let verdict = compare_road(&recorded, disordered, road, &plan.actor)?;
    note(plan, seed, &verdict, &recorded.history, &Other::Road(road.clone()), tally)
}

fn note(
    plan: &Plan,
    seed: u64,
    verdict: &Verdict,
    history: &crate::step::History,
    other: &Other,
    tally: &Mutex<Tally>,
) -> Result<()> {
    let world = match other {
        Other::Core => "core",
        Other::Road(Road::Kernel) => "the kernel again",
        Other::Road(Road::Preload(_)) => "preload",
        Other::Road(Road::Supervised(_)) => "the supervisor",
    };
    let Ok(mut held) = tally.lock() else { return Ok(()) };
    let difference = match verdict {
        Verdict::Same => {
            held.same += 1;
            held.steps += history.steps.len() as u64;
            return Ok(());
        }
        Verdict::Cut(at, _) => {
            held.cut += 1;
            held.steps += *at as u64;
            return Ok(());
        }
        Verdict::Differs(difference) => difference,
    };
    let title = format!(
        "seed {seed}, {world}, step {}: the kernel says {}, the other {}",
        difference.at, difference.kernel, difference.other
    );
    let is_named_only = held.differences.len() >= plan.shrink_max;
    drop(held);
    let patience = if is_named_only { Duration::ZERO } else { SHRINK_PATIENCE };
    let shrunk = shrink(history, difference.at, other, &plan.actor, patience)?;
    let Ok(mut held) = tally.lock() else { return Ok(()) };
    match shrunk {
        Some(_) if is_named_only => held.differences.push(title),
        Some(shrunk) => held.differences.push(format!("{title}\n{}", shrunk.script())),
        None if matches!(other, Other::Core) => held.unsteady.push(title),
        None => held.differences.push(format!("{title}\nit does not differ again")),
    }
    Ok(())
}
