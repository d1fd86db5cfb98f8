//! The long run: many histories on the kernel, in the core, and through the
//! preloaded library or the supervisor.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use keyshim_tests::campaign::{Plan, Tally, run};
use keyshim_tests::differential::{Verdict, compare_core, record, rerecord};
use keyshim_tests::script;
use keyshim_tests::world::actor::{Road, actor_program};
use keyshim_tests::world::kernel;
use keyshim_tests::world::upcall::Stage;

/// Compares keyshim with the kernel's own key service, history by history.
#[derive(Parser)]
struct Options {
    /// How many histories.
    #[arg(long, default_value_t = 100)]
    histories: u64,
    /// Steps of each history.
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// Seed of the first history; the others follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Histories at once; they spend most of their time waiting.
    #[arg(long, default_value_t = 12)]
    workers: usize,
    /// Also compare the preloaded library, which must be built.
    #[arg(long)]
    preload: bool,
    /// Also compare the supervisor, which must be built.
    #[arg(long, conflicts_with_all = ["preload", "itself"])]
    supervised: bool,
    /// Do not compare the core.
    #[arg(long)]
    no_core: bool,
    /// Compare the kernel with itself instead: shows what the tests themselves do not
    /// hold still.
    #[arg(long, conflicts_with = "preload")]
    itself: bool,
    /// Only print the first history as a script, with what the kernel gives.
    #[arg(long)]
    show: bool,
    /// Only print this script with what the kernel gives to each step, and compare the core.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How many differences to shrink to a short script.
    #[arg(long, default_value_t = 3)]
    shrink: usize,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(why) = kernel::unavailable() {
        bail!("the kernel cannot be the judge here: {why}");
    }
    let _stage = Stage::set(&actor_program()?)?;
    if let Some(path) = &options.script {
        return show_script(path);
    }
    if options.show {
        let abilities = kernel::abilities()?;
        let recorded = record(options.seed, options.steps, abilities, &actor_program()?)?;
        print!("{}", recorded.script());
        return Ok(ExitCode::SUCCESS);
    }
    let second = match (options.itself, options.preload, options.supervised) {
        (true, _, _) => Some(Road::Kernel),
        (_, true, _) => Some(Road::preload()?),
        (_, _, true) => Some(Road::supervised()?),
        _ => None,
    };
    let plan = Plan {
        seed: options.seed,
        histories: options.histories,
        steps: options.steps,
        workers: options.workers,
        abilities: kernel::abilities()?,
        core: !options.no_core && !options.itself,
        second,
        actor: actor_program()?,
        shrink_max: options.shrink,
    };
    let terminal = std::io::stderr().is_terminal();
    let tally = run(&plan, &|tally: &Tally| {
        if terminal {
            eprint!("\r{}", tally.summary());
        }
    });
    if terminal {
        eprintln!();
    }
    for text in tally.differences.iter().chain(&tally.unsteady).chain(&tally.faults) {
        println!("{text}\n");
    }
    println!("{}", tally.summary());
    let clean = tally.differences.is_empty() && tally.faults.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_script(path: &Path) -> Result<ExitCode> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let recorded = rerecord(&script::parse(&text)?, &actor_program()?)?;
    print!("{}", recorded.script());
    let (verdict, _) = compare_core(&recorded)?;
    println!("# the core: {verdict:?}");
    Ok(if verdict == Verdict::Same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
