//! The core, the preloaded library and the supervisor against the kernel: the same
//! seeded histories, the same answers. What is excused stands at the head of
//! `keyshim_tests::differential`.
//!
//! `KEYSHIM_HISTORIES`, `KEYSHIM_STEPS`, `KEYSHIM_SEED` and `KEYSHIM_WORKERS` choose
//! how much; the seed is otherwise of the hour, so that a day sees many. The long run
//! is `cargo run --release -p keyshim-tests --bin differential -- --help`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use keyshim_tests::campaign::{Plan, run};
use keyshim_tests::workload::Abilities;
use keyshim_tests::world::actor::Road;
use keyshim_tests::world::kernel;
use keyshim_tests::world::upcall::Stage;
use libtest_mimic::{Arguments, Failed, Trial};

/// Comparisons that an excuse may cut short, of a hundred.
const CUT_PERCENT_MAX: u64 = 40;
/// Histories of which the kernel may give another account the second time, of a hundred.
const UNSTEADY_PERCENT_MAX: u64 = 5;

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let kernel_off = kernel::unavailable();
    let (preload, supervised) = (Road::preload(), Road::supervised());
    if let Some(why) = &kernel_off {
        eprintln!("skipped: {why}");
    }
    for (name, road) in [("preload", &preload), ("supervised", &supervised)] {
        if let Err(why) = road {
            eprintln!("skipped: {name}: {why:#}");
        }
    }
    let judged = kernel_off.is_none();
    let abilities = match judged {
        true => kernel::abilities()?,
        false => Abilities { bare: false, big_key: false, upcalls: false },
    };
    let actor = Path::new(env!("CARGO_BIN_EXE_keyshim-actor"));
    let stage = Stage::set_or_skip(judged && !arguments.list, actor);
    let core = plan(Abilities { upcalls: stage.is_some(), ..abilities })?;
    let itself = Plan {
        core: false,
        second: Some(Road::Kernel),
        histories: core.histories.div_ceil(8),
        ..core.clone()
    };
    let through = |road: Result<Road>, abilities| Plan {
        core: false,
        second: road.ok(),
        abilities,
        ..core.clone()
    };
    let preload = through(preload, core.abilities);
    // That a trapped call waits, and is not on its way to a helper, only time tells: histories
    // with helpers take too long for the seconds that they count. Scripts have them.
    let supervised = through(supervised, Abilities { upcalls: false, ..core.abilities });
    let off = |plan: &Plan| !judged || plan.second.is_none();
    let (preload_off, supervised_off) = (off(&preload), off(&supervised));
    let trials = vec![
        Trial::test("the_kernel_agrees_with_itself", move || judge(&itself))
            .with_ignored_flag(!judged),
        Trial::test("the_core_agrees_with_the_kernel", move || judge(&core))
            .with_ignored_flag(!judged),
        Trial::test("the_preloaded_library_agrees_with_the_kernel", move || judge(&preload))
            .with_ignored_flag(preload_off),
        Trial::test("the_supervisor_agrees_with_the_kernel", move || judge(&supervised))
            .with_ignored_flag(supervised_off),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(stage);
    conclusion.exit()
}

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is no number")),
        Err(_) => Ok(default),
    }
}

fn plan(abilities: Abilities) -> Result<Plan> {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 3600;
    Ok(Plan {
        seed: setting("KEYSHIM_SEED", hour * 1_000_000)?,
        histories: setting("KEYSHIM_HISTORIES", 24)?,
        steps: setting("KEYSHIM_STEPS", 200)? as usize,
        workers: setting("KEYSHIM_WORKERS", 12)? as usize,
        abilities,
        core: true,
        second: None,
        actor: env!("CARGO_BIN_EXE_keyshim-actor").into(),
        shrink_max: 1,
    })
}

fn judge(plan: &Plan) -> Result<(), Failed> {
    let tally = run(plan, &|_| {});
    eprintln!("seeds from {}: {}", plan.seed, tally.summary());
    if let Some(fault) = tally.faults.first() {
        return Err(Failed::from(fault.clone()));
    }
    if !tally.differences.is_empty() {
        return Err(Failed::from(tally.differences.join("\n\n")));
    }
    for text in &tally.unsteady {
        eprintln!("the kernel says otherwise the second time: {text}");
    }
    let unsteady = tally.unsteady.len() as u64;
    let compared = tally.same + tally.cut + unsteady;
    if unsteady * 100 > compared * UNSTEADY_PERCENT_MAX {
        return Err(Failed::from("the kernel says otherwise the second time too often"));
    }
    if compared == 0 {
        return Err(Failed::from("nothing was compared"));
    }
    if compared >= 10 && tally.cut * 100 > compared * CUT_PERCENT_MAX {
        return Err(Failed::from("too many histories were cut short by an excuse"));
    }
    Ok(())
}
