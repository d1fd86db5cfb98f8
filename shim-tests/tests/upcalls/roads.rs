//! By what road the calls of helpers come.

use anyhow::{Context, Result, ensure};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Failed, Trial};

use crate::conduct::{scratch, script};

/// A test, by its name.
type Test = (&'static str, fn() -> Result<()>);

const TESTS: &[Test] = &[
    ("is_trapped_where_that_costs_it_nothing", is_trapped_where_that_costs_it_nothing),
    ("is_trapped_for_a_while", is_trapped_for_a_while),
    ("is_preloaded_without_capabilities", is_preloaded_without_capabilities),
    ("is_preloaded_under_another_listener", is_preloaded_under_another_listener),
    ("is_preloaded_behind_a_refusal", || is_preloaded_behind("enosys")),
    ("is_preloaded_behind_a_death", || is_preloaded_behind("kill")),
];

/// The tests of this file; `is_root` is needed for all.
pub(crate) fn trials(is_root: bool) -> Vec<Trial> {
    if !is_root {
        eprintln!("skipped: roads: not root: it takes away what root may");
    }
    let trial = |&(name, test): &Test| {
        let trial = Trial::test(format!("roads::{name}"), move || test().map_err(Failed::from));
        trial.with_ignored_flag(!is_root)
    };
    TESTS.iter().map(trial).collect()
}

/// Says by what road it is served; even if it has forgotten it.
const SAYS: &str = "grep -s ^Seccomp: /proc/$$/status >>\"$out\"
grep -s -c \" key:$(printf %x \"$2\") \" /proc/keys >>\"$out\"
echo ${LD_PRELOAD+preloaded} >>\"$out\"
exec env $forget $authority \"$2\" keyctl instantiate \"$2\" 'made by the helper' 0\n";

/// What a helper says of itself whose requester is preloaded in a domain that `before` leads
/// to; the key that it makes.
fn said(name: &str, before: &[&str], forget: &str) -> Result<(String, String)> {
    let out = scratch(&format!("road-{name}"))?;
    let (authority, out_name) = (compile("authority", Build::Dynamic)?, out.display());
    let text = format!(
        "#!/bin/sh\nout={out_name} forget={forget} authority={}\n{SAYS}",
        authority.display()
    );
    let helper = script(&format!("says-{name}"), &text)?;
    let keyshim = beside("keyshim")?;
    let words = before
        .iter()
        .map(|&word| if word == "keyshim" { keyshim.as_os_str() } else { word.as_ref() });
    let mut command = bare("env");
    command
        .args(words)
        .arg(&keyshim)
        .args(["run", "--mode", "preload", "--request-key"])
        .arg(&helper);
    command.args([
        "--",
        "sh",
        "-c",
        "exec keyctl session - sh -c 'keyctl print $(keyctl request2 user one two @s)' 2>/dev/null",
    ]);
    let printed = told(&run(&mut command)?);
    Ok((std::fs::read_to_string(&out).unwrap_or_default(), printed))
}

const MADE: &str = "made by the helper\n";

fn is_trapped_where_that_costs_it_nothing() -> Result<()> {
    let (says, printed) = said("trapped", &[], "-i")?;
    ensure!(printed == MADE, "{printed}");
    ensure!(says == "Seccomp:\t2\n1\n\n", "{says}");
    Ok(())
}

/// Nobody listens any more once there has been no helper for a second; the next finds a new
/// listener.
fn is_trapped_for_a_while() -> Result<()> {
    let helper = script("brief", "#!/bin/sh\nexit 0\n")?;
    let ask = "keyctl request2 user $n x @p >/dev/null 2>&1";
    // Descriptors that are closed while they are listed are none of a listener's.
    let heard = "ls -l /proc/$PPID/fd 2>/dev/null | grep -c 'seccomp notify'";
    let text = format!("n=a; {ask}; {heard}; sleep 2; {heard}; n=b; {ask}; {heard}");
    let mut command = bare(beside("keyshim")?);
    command.args(["run", "--mode", "preload", "--request-key"]).arg(&helper);
    let printed = told(&run(command.args(["--", "sh", "-c", &text]))?);
    ensure!(printed == "1\n0\n1\n", "{printed}");
    Ok(())
}

fn is_preloaded_without_capabilities() -> Result<()> {
    let without = ["setpriv", "--bounding-set", "-sys_admin"];
    let (says, printed) = said("preloaded", &without, "")?;
    ensure!(printed == MADE, "{printed}");
    ensure!(says == "Seccomp:\t0\n1\npreloaded\n", "{says}");
    Ok(())
}

/// Where the kernel lets nobody else trap calls.
fn is_preloaded_under_another_listener() -> Result<()> {
    let inside = ["keyshim", "run", "--mode", "seccomp", "--"];
    let (says, printed) = said("inside", &inside, "")?;
    ensure!(printed == MADE, "{printed}");
    ensure!(says == "Seccomp:\t2\n1\npreloaded\n", "{says}");
    Ok(())
}

/// Where somebody above answers key calls before a filter of ours would be asked.
fn is_preloaded_behind(how: &str) -> Result<()> {
    let outer = compile("outer", Build::Dynamic)?;
    let outer = outer.to_str().context("a name in UTF-8")?;
    let (says, printed) = said(how, &[outer, how], "")?;
    ensure!(printed == MADE, "{printed}");
    ensure!(says == "Seccomp:\t2\n1\npreloaded\n", "{says}");
    Ok(())
}
