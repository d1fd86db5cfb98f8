//! The core alone, from a seed: thousands of steps a second, the clock jumping, and
//! after each step the invariants that `KeyService::audit` knows.
//!
//! `cargo sim -- SEED [PROFILE]` replays one seed and prints its steps.
//! `KEYSHIM_SIMULATIONS` chooses how many seeds run otherwise, of each profile.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use keyshim_keys::Profile;
use keyshim_tests::script;
use keyshim_tests::step::Action;
use keyshim_tests::workload::{Abilities, Workload};
use keyshim_tests::world::World;
use keyshim_tests::world::core::CoreWorld;
use keyshim_tests::world::run::Run;
use libtest_mimic::{Arguments, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of one seed.
const STEPS: usize = 1500;
/// A second in November 2026; any will do.
const START_SECOND: i64 = 1_795_000_000;

fn main() -> Result<ExitCode> {
    if let Some(seed) = std::env::args().nth(1).and_then(|word| word.parse().ok()) {
        let name = std::env::args().nth(2).unwrap_or_else(|| Profile::default().name.to_owned());
        let profile = Profile::named(&name, false).context("there is no such profile")?;
        simulate(seed, &profile, true)?;
        println!("seed {seed}: {STEPS} steps, every invariant held");
        return Ok(ExitCode::SUCCESS);
    }
    let count: u64 = match std::env::var("KEYSHIM_SIMULATIONS") {
        Ok(value) => value.parse().context("KEYSHIM_SIMULATIONS")?,
        Err(_) => 200,
    };
    let share = count.div_ceil(4);
    let parts = (0..4).flat_map(|part| Profile::ALL.map(|[profile, _]| (part, profile)));
    let trials = parts
        .map(|(part, profile)| {
            let seeds = part * share..(part + 1) * share;
            let name = format!("{}::seeds_{}_to_{}", profile.name, seeds.start, seeds.end - 1);
            Trial::test(name, move || {
                for seed in seeds {
                    simulate(seed, &profile, false)?;
                }
                Ok(())
            })
        })
        .collect();
    Ok(libtest_mimic::run(&Arguments::from_args(), trials).exit_code())
}

/// Runs a seed twice: whatever went in the same must come out the same.
fn simulate(seed: u64, profile: &Profile, aloud: bool) -> Result<()> {
    let once = one(seed, profile, aloud)?;
    if once != one(seed, profile, false)? {
        bail!("seed {seed}: the same history gave other answers the second time");
    }
    Ok(())
}

fn one(seed: u64, profile: &Profile, aloud: bool) -> Result<Vec<String>> {
    let mut clock = ChaCha8Rng::seed_from_u64(seed ^ 0x0063_6c6f_636b);
    let mut workload = Workload::new(seed, Abilities { bare: true, big_key: true, upcalls: true })?;
    let world = CoreWorld::profiled(seed, "r", (START_SECOND, 1_000_000), *profile);
    let mut run = Run::begin(world, workload.flavour().start)?;
    let mut answers = Vec::new();
    for index in 0..STEPS {
        let step = workload.next_step();
        let jump = jump_s(&mut clock, &step.action);
        let second = run.world.second() + jump;
        run.world.reach(second)?;
        if aloud {
            println!("{index:5} +{jump} s  {}", script::line(&step));
        }
        let seen = run.step(&step)?;
        if aloud {
            println!("        {}", seen.text);
        }
        run.world.service().audit().map_err(|violation| {
            let (name, line) = (profile.name, script::line(&step));
            anyhow::anyhow!("{name}, seed {seed}, step {index}, {line}: {violation:?}")
        })?;
        workload.learn(&step, &seen, run.naming())?;
        answers.push(seen.text);
    }
    Ok(answers)
}

/// Seconds that pass before a step: mostly none, at times as much as a collection
/// or a persistent keyring's whole life.
fn jump_s(clock: &mut ChaCha8Rng, action: &Action) -> i64 {
    match (action, clock.random_range(0..400)) {
        (Action::Wait(_), _) => 0,
        (_, 0..20) => 1,
        (_, 20..24) => clock.random_range(2..100),
        (_, 24..26) => clock.random_range(290..310),
        (_, 26) => clock.random_range(1000..300_000),
        _ => 0,
    }
}
