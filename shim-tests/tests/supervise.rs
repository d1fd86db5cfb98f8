//! Programs under the supervisor: static ones, 32-bit ones, Go, bare instructions.
//! Each runs on the kernel and under `keyshim run --mode seccomp` and must say the
//! same; then what becomes of them when the supervisor dies, what an ordinary user
//! gets, and that nothing of theirs ever reaches the kernel's own keys.

#[path = "supervise/conduct.rs"]
mod conduct;
#[path = "supervise/lineage.rs"]
mod lineage;

use std::process::Command;

use anyhow::{Context, Result};
use keyshim_tests::programs::{Build, bare, compile, run, told, why_root};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Arguments, Failed, Trial};

/// How a program is run under keyshim.
type Road = &'static [&'static str];

const SECCOMP: Road = &["--mode", "seccomp"];
const BOTH: Road = &["--mode", "both"];
/// As on a kernel before 5.19, where any signal interrupts a call that we are at.
const INTERRUPTIBLE: Road = &["--mode", "seccomp", "--interruptible"];

/// Programs that say the same on the kernel and under keyshim, with their argument.
const SAME_AS_KERNEL: &[(Road, Build, &str, &str)] = &[
    (SECCOMP, Build::Static, "cancel", ""),
    (SECCOMP, Build::Static, "descriptors", ""),
    (SECCOMP, Build::Static, "dumpable", ""),
    (SECCOMP, Build::Static, "elsewhere", ""),
    (SECCOMP, Build::Static, "errno", ""),
    (SECCOMP, Build::Static, "forks", ""),
    (SECCOMP, Build::Static, "inline", ""),
    (SECCOMP, Build::Static, "junk", ""),
    (SECCOMP, Build::Static, "lastchance", ""),
    (SECCOMP, Build::Static, "lineage", ""),
    (SECCOMP, Build::Static, "lineage", "outlive"),
    (SECCOMP, Build::Static, "memory", ""),
    (SECCOMP, Build::Static, "pointers", ""),
    (SECCOMP, Build::Static, "pointers", "sandboxed"),
    (SECCOMP, Build::Static, "refused", ""),
    (SECCOMP, Build::Static, "signals", "again"),
    (SECCOMP, Build::Static, "stacks", ""),
    (SECCOMP, Build::Static, "threads", ""),
    (SECCOMP, Build::Static, "urgent", ""),
    (SECCOMP, Build::Static, "vfork", ""),
    (SECCOMP, Build::Dynamic, "dlopened", ""),
    (SECCOMP, Build::Dynamic, "dlopened", "deepbind"),
    (SECCOMP, Build::Narrow, "errno", ""),
    (SECCOMP, Build::Narrow, "forks", ""),
    (SECCOMP, Build::Narrow, "lineage", ""),
    (SECCOMP, Build::Narrow, "memory", ""),
    (SECCOMP, Build::Narrow, "signals", "again"),
    (SECCOMP, Build::Narrow, "stacks", ""),
    (SECCOMP, Build::Narrow, "threads", ""),
    (SECCOMP, Build::Narrow, "urgent", ""),
    (SECCOMP, Build::Narrow, "vfork", ""),
    (INTERRUPTIBLE, Build::Static, "signals", "again"),
    (INTERRUPTIBLE, Build::Static, "urgent", "rare"),
    (INTERRUPTIBLE, Build::Narrow, "urgent", "rare"),
    (BOTH, Build::Dynamic, "dumpable", ""),
    (BOTH, Build::Static, "forks", ""),
    (BOTH, Build::Static, "threads", ""),
    (BOTH, Build::Dynamic, "dlopened", "deepbind"),
    (BOTH, Build::Dynamic, "forks", ""),
    (BOTH, Build::Dynamic, "inline", ""),
    (BOTH, Build::Dynamic, "lineage", ""),
    (BOTH, Build::Dynamic, "lineage", "outlive"),
    (BOTH, Build::Dynamic, "pointers", ""),
    (BOTH, Build::Dynamic, "signals", ""),
    (BOTH, Build::Dynamic, "threads", ""),
    (BOTH, Build::Dynamic, "vfork", ""),
];

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    conduct::adopt_orphans()?;
    for &(road, build, program, argument) in SAME_AS_KERNEL {
        let name = name_of(road, build, program, argument);
        let why_root = why_root(program).or(why_supervisor_is_root(road, program));
        let why_root = why_root.filter(|_| !is_root).map(|why| format!("not root: {why}"));
        let why = build.missing().map(str::to_owned).or(why_root);
        if let Some(why) = &why {
            eprintln!("skipped: {name}: {why}");
        }
        let trial = Trial::test(name, move || same_as_kernel(road, build, program, argument));
        trials.push(trial.with_ignored_flag(why.is_some()));
    }
    trials.extend(conduct::trials(is_root));
    trials.extend(lineage::trials(is_root));
    let conclusion = libtest_mimic::run(&arguments, trials);
    conduct::clean_up();
    conclusion.exit()
}

/// Why the supervisor of that program must be root.
fn why_supervisor_is_root(road: Road, program: &str) -> Option<&'static str> {
    let is_beyond_reach = road != BOTH && program == "dumpable";
    is_beyond_reach.then_some("its memory is nobody else's to read")
}

fn name_of(road: Road, build: Build, program: &str, argument: &str) -> String {
    let road = road.iter().map(|word| word.trim_start_matches("--")).skip(1);
    let words = road.map(str::to_owned).chain([format!("{build:?}").to_lowercase()]);
    let words: Vec<String> = words.chain([program.to_owned()]).collect();
    let argument = if argument.is_empty() { String::new() } else { format!("_{argument}") };
    format!("same::{}{argument}", words.join("_"))
}

fn same_as_kernel(road: Road, build: Build, program: &str, argument: &str) -> Result<(), Failed> {
    let path = compile(program, build)?;
    let arguments: Vec<&str> = Some(argument).into_iter().filter(|text| !text.is_empty()).collect();
    let kernel = told(&run(bare(&path).args(&arguments))?);
    let keyshim = told(&run(under_keyshim(road)?.arg(&path).args(&arguments))?);
    if kernel != keyshim {
        return Err(format!("on the kernel:\n{kernel}\nunder keyshim:\n{keyshim}").into());
    }
    Ok(())
}

/// `keyshim run` by that road; what follows is the program.
pub(crate) fn under_keyshim(road: Road) -> Result<Command> {
    let mut command = bare(beside("keyshim").context("cargo build -p keyshim builds it")?);
    if road == BOTH {
        beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")?;
    }
    command.arg("run").args(road).arg("--");
    Ok(command)
}
