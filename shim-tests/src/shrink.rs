//! A history that shows a difference, made as short as it can be.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::differential::{
    Difference, Recorded, Verdict, compare_core, compare_road, rerecord, without_the_dead,
};
use crate::step::History;
use crate::world::actor::Road;

/// A short history, and what differs at its end.
pub struct Shrunk {
    /// What the kernel said to each step of it.
    pub recorded: Recorded,
    /// The difference.
    pub difference: Difference,
}

/// Which world is compared with the kernel.
#[derive(Debug, Clone)]
pub enum Other {
    /// The core.
    Core,
    /// Actors on that road.
    Road(Road),
}

/// The comparison, from the recording on.
pub fn compare(recorded: &Recorded, other: &Other, actor: &Path) -> Result<Verdict> {
    let (verdict, disordered) = compare_core(recorded)?;
    match other {
        Other::Core => Ok(verdict),
        Other::Road(road) => compare_road(recorded, disordered, road, actor),
    }
}

/// Drops steps while the two worlds still differ, for at most so long.
pub fn shrink(
    history: &History,
    at: usize,
    other: &Other,
    actor: &Path,
    patience: Duration,
) -> Result<Option<Shrunk>> {
    let began = Instant::now();
    let mut best = history.clone();
    best.steps.truncate(at + 1);
    let Some(mut shrunk) = differs(&best, other, actor)? else { return Ok(None) };
    let mut chunk = best.steps.len().div_ceil(2);
    while chunk > 0 && began.elapsed() < patience {
        let mut at = 0;
        while at < shrunk.recorded.history.steps.len() && began.elapsed() < patience {
            let mut fewer = shrunk.recorded.history.clone();
            let end = (at + chunk).min(fewer.steps.len());
            fewer.steps.drain(at..end);
            match differs(&without_the_dead(&fewer)?, other, actor)? {
                Some(smaller) => shrunk = smaller,
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    Ok(Some(shrunk))
}

/// The history up to the difference, if there is one.
fn differs(history: &History, other: &Other, actor: &Path) -> Result<Option<Shrunk>> {
    let mut recorded = rerecord(history, actor)?;
    let Verdict::Differs(difference) = compare(&recorded, other, actor)? else { return Ok(None) };
    recorded.history.steps.truncate(difference.at + 1);
    recorded.seen.truncate(difference.at + 1);
    Ok(Some(Shrunk { recorded, difference }))
}

impl Shrunk {
    /// As a script, in which the last line says what the kernel gives.
    #[must_use]
    pub fn script(&self) -> String {
        let difference = &self.difference;
        format!(
            "# the kernel says {}\n# the other says {}\n{}",
            difference.kernel,
            difference.other,
            self.recorded.script()
        )
    }
}
