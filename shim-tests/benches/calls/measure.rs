//! Turns of about a millisecond: on a shared machine speed changes from second to
//! second, and only neighbours in time can be compared.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long one turn lasts.
const TURN: Duration = Duration::from_millis(1);
/// Turns before the first that counts.
const WARM_UP_TURNS: usize = 3;
/// Clock readings that tell what reading it costs.
const CLOCK_READINGS: usize = 10_000;

/// Makes one call, puts back what it changed, and gives the call's own time in
/// nanoseconds. An error when the answer is not what it must be.
pub(crate) type Subject<'a> = Box<dyn FnMut() -> Result<u64> + 'a>;

/// Makes calls for a turn, and gives each one's time in nanoseconds; at least one.
pub(crate) type Turn<'a> = Box<dyn FnMut() -> Result<Vec<f64>> + 'a>;

/// What one subject took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// The median of each turn, in nanoseconds.
    pub(crate) turns_ns: Vec<f64>,
    /// Every call, in nanoseconds.
    pub(crate) calls_ns: Vec<f64>,
}

/// One call's result and its time in nanoseconds, without what reading the clock costs.
pub(crate) fn timed<T>(call: impl FnOnce() -> T) -> (T, u64) {
    let began = Instant::now();
    let result = call();
    let took = began.elapsed().as_nanos() as u64;
    (result, took.saturating_sub(clock_ns()))
}

/// Nanoseconds between two readings of the clock with nothing between them.
fn clock_ns() -> u64 {
    static COST: OnceLock<u64> = OnceLock::new();
    *COST.get_or_init(|| {
        let readings = (0..CLOCK_READINGS).map(|_| Instant::now().elapsed().as_nanos() as f64);
        quantile(&mut readings.collect::<Vec<_>>(), 0.5) as u64
    })
}

/// Lets the subjects take turns for that long, at least one turn each. A column that
/// cannot run is `None` and stays so.
pub(crate) fn take_turns(
    subjects: &mut [Option<Subject<'_>>],
    time: Duration,
) -> Result<Vec<Option<Times>>> {
    let turns = subjects.iter_mut().map(|subject| {
        let subject = subject.as_mut()?;
        Some(Box::new(|| turn(subject)) as Turn<'_>)
    });
    take_turns_of(turns, time)
}

/// The same for subjects that make their turns themselves.
pub(crate) fn take_turns_of<'a>(
    turns: impl IntoIterator<Item = Option<Turn<'a>>>,
    time: Duration,
) -> Result<Vec<Option<Times>>> {
    let began = Instant::now();
    let mut turns: Vec<_> = turns.into_iter().collect();
    let mut times: Vec<_> =
        turns.iter().map(|turn| turn.as_ref().map(|_| Times::default())).collect();
    for round in 0.. {
        for (turn, times) in turns.iter_mut().zip(&mut times) {
            if let (Some(turn), Some(times)) = (turn, times) {
                let mut calls = turn()?;
                if round >= WARM_UP_TURNS {
                    times.turns_ns.push(quantile(&mut calls, 0.5));
                    times.calls_ns.append(&mut calls);
                }
            }
        }
        if round >= WARM_UP_TURNS && began.elapsed() >= time {
            break;
        }
    }
    Ok(times)
}

fn turn(subject: &mut Subject<'_>) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut calls_ns = Vec::new();
    while began.elapsed() < TURN {
        calls_ns.push(subject()? as f64);
    }
    Ok(calls_ns)
}

/// The value that this share of them, 0 to 1, does not exceed; sorts them. There must
/// be one.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
