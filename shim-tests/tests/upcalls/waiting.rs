//! Those who wait for a key, and those who do not: nobody's wait is at another's cost.

use std::path::Path;

use anyhow::{Result, ensure};
use keyshim_tests::programs::{Build, compile, run, told};
use libtest_mimic::{Failed, Trial};

use crate::conduct::scratch;
use crate::under_keyshim;

/// A test, and what its programs are made into.
type Test = (&'static str, fn() -> Result<()>, Build);

/// The tests of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [Test; 2] = [
        ("a_crowd_costs_little", a_crowd, Build::Static),
        ("a_stuck_caller_holds_up_nobody", a_stuck_caller, Build::Static),
    ];
    let trial = |(name, test, build): Test| {
        let name = format!("waiting::{name}");
        let why = build.missing();
        if let Some(why) = why {
            eprintln!("skipped: {name}: {why}");
        }
        Trial::test(name, move || test().map_err(Failed::from)).with_ignored_flag(why.is_some())
    };
    tests.into_iter().map(trial).collect()
}

/// What a program prints in that mode, where these rules make keys.
fn with_rules(mode: &str, options: &[&str], rules: &str, program: &Path) -> Result<String> {
    let name = program.file_name().unwrap_or_default();
    let file = scratch(&format!("rules-{mode}-{}", name.to_string_lossy()))?;
    std::fs::write(&file, rules)?;
    let mut command = under_keyshim(mode)?;
    command.args(options).arg("--handlers").arg(&file).arg("--").arg(program);
    let printed = told(&run(&mut command)?);
    std::fs::remove_file(file)?;
    Ok(printed)
}

/// Trapped callers that wait, by the thousand: looking after them is next to no work, and a
/// signal for any of them is seen.
fn a_crowd() -> Result<()> {
    let rules = "[[rule]]\ndescription = 'crowd'\npayload = 'made by a rule'\ndelay_ms = 8000\n";
    let printed = with_rules("seccomp", &[], rules, &compile("crowd", Build::Static)?)?;
    let expected = "they cost next to nothing\n0 answered before it was made\n\
                    40 answered early\n40 interrupted, 960 right\nfirst request: exit 0\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}

/// An answer that cannot be written, because its caller's memory is stuck, is at nobody
/// else's cost.
fn a_stuck_caller() -> Result<()> {
    let rules = "[[rule]]\npayload = 'made by a rule'\ndelay_ms = 2500\n";
    let program = compile("stuck", Build::Static)?;
    let printed = with_rules("seccomp", &["--upcalls-at-once", "1"], rules, &program)?;
    if printed.starts_with("skipped: ") {
        eprint!("{printed}");
        return Ok(());
    }
    let expected = "first request: status 0\nanother reader: status 0\n\
                    one with a signal: status 0\nanother request: status 0\n\
                    the first reader waits: 1\nthe first reader: signal 9\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}
