//! Those who wait for a key, and those who do not: nobody's wait is at another's cost.

use anyhow::{Result, bail, ensure};
use keyshim_tests::programs::{Build, compile, run, told};
use libtest_mimic::{Failed, Trial};

use crate::conduct::scratch;
use crate::under_keyshim;

/// A test, and its name.
type Test = (&'static str, fn() -> Result<()>);

/// The tests of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [Test; 5] = [
        ("a_crowd_costs_little", a_crowd),
        ("a_stuck_caller_holds_up_nobody", a_stuck_caller),
        ("a_dead_key_is_no_answer", a_dead_key),
        ("a_killed_broker_ends_it_preload", || a_killed_broker("preload", Build::Dynamic)),
        ("a_killed_broker_ends_it_seccomp", || a_killed_broker("seccomp", Build::Static)),
    ];
    let trial = |(name, test): Test| {
        let name = format!("waiting::{name}");
        let why = Build::Static.missing();
        if let Some(why) = why {
            eprintln!("skipped: {name}: {why}");
        }
        Trial::test(name, move || test().map_err(Failed::from)).with_ignored_flag(why.is_some())
    };
    tests.into_iter().map(trial).collect()
}

/// What a program prints in that mode, where these rules make keys.
fn with_rules(mode: &str, options: &[&str], rules: &str, program: &[&str]) -> Result<String> {
    let [name, arguments @ ..] = program else { bail!("no program") };
    let file = scratch(&format!("rules-{mode}-{name}"))?;
    std::fs::write(&file, rules)?;
    let mut command = under_keyshim(mode)?;
    command.args(options).arg("--handlers").arg(&file);
    command.arg("--").arg(compile(name, Build::Static)?).args(arguments);
    let printed = told(&run(&mut command)?);
    std::fs::remove_file(file)?;
    Ok(printed)
}

/// Trapped callers that wait, by the thousand: looking after them is next to no work, and a
/// signal for any of them is seen.
fn a_crowd() -> Result<()> {
    let rules = "[[rule]]\ndescription = 'crowd'\npayload = 'made by a rule'\ndelay_ms = 8000\n";
    let printed = with_rules("seccomp", &[], rules, &["crowd"])?;
    let expected = "they cost next to nothing\n0 answered before it was made\n\
                    40 answered early\n40 interrupted, 960 right\nfirst request: exit 0\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}

/// An answer that cannot be written, because its caller's memory is stuck, is at nobody
/// else's cost.
fn a_stuck_caller() -> Result<()> {
    let rules = "[[rule]]\npayload = 'made by a rule'\ndelay_ms = 2500\n";
    let printed = with_rules("seccomp", &["--upcalls-at-once", "1"], rules, &["stuck"])?;
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

/// Where any signal interrupts a call that we are at, the one that causes an upcall too.
fn a_dead_key() -> Result<()> {
    let rules = "[[rule]]\npayload = 'made by the helper'\ndelay_ms = 1000\n";
    let printed = with_rules("seccomp", &["--interruptible"], rules, &["anew", "causing"])?;
    let expected = "caused: ok\n\
                    handler ran 1 times, the key of the first request 0, alive 1\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}

/// A request that waits is over with its broker.
fn a_killed_broker(mode: &str, build: Build) -> Result<()> {
    let file = scratch(&format!("rules-bereft-{mode}"))?;
    std::fs::write(&file, "[[rule]]\npayload = 'made by a rule'\ndelay_ms = 20000\n")?;
    let mut command = under_keyshim(mode)?;
    command.arg("--handlers").arg(&file).arg("--").arg(compile("bereft", build)?);
    // Its status is that of a broker that was killed.
    let printed = String::from_utf8(command.output()?.stdout)?;
    std::fs::remove_file(file)?;
    let expected = "request that waits: ENOSYS\nrequest after it: ENOSYS\n\
                    requester: exit 0\nat once\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}
