//! Which rung `--mode auto` takes, and whether a program's calls are really caught on
//! it: on a plain machine, for root and for others, under filters that were there
//! first, in namespaces, and inside another run.
//!
//! A session keyring's serial tells who made it: with one seed keyshim gives the same
//! one every time.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// An ordinary user, with nothing of its own.
const SOMEBODY: u32 = 61_234;
/// What `doctor` says of a gate that is closed by a filter above.
const ERRNO_ABOVE: &str = "above us answers";

/// A place to run keyshim in.
struct Place {
    /// What stands before `keyshim` on the command line.
    before: Vec<String>,
    uid: Option<u32>,
}

/// What is expected of it.
struct Expected {
    /// What `auto` takes.
    auto: &'static str,
    /// What is found of `seccomp`.
    found: &'static str,
    /// What a static program says in the mode that `auto` takes.
    escapee: Escapee,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapee {
    /// It is caught as well.
    Caught,
    /// It gets this error from somebody else.
    Refused(&'static str),
    /// It is killed.
    Killed,
    /// It has another universe.
    Elsewhere,
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let is_root = nix::unistd::geteuid().is_root();
    let mut trials = vec![
        trial("plain", true, || check(&Place::plain(), &CAUGHT)),
        trial("seccomp_refused", true, seccomp_where_there_is_a_listener),
        trial("explicit", true, every_mode_that_works_is_what_it_says),
        trial("shared_domain", true, a_shared_domain_has_no_filter),
        trial("nested", true, a_run_in_a_run),
    ];
    for (how, expected) in ABOVE {
        trials.push(trial(&format!("under::{how}"), true, || check(&Place::under(how)?, expected)));
        let somebody = || check(&Place { uid: Some(SOMEBODY), ..Place::under(how)? }, expected);
        trials.push(trial(&format!("under::{how}_as_somebody"), is_root, somebody));
    }
    trials.push(trial("somebody", is_root, somebody_pays_with_privileges));
    trials.push(trial("namespaces", true, in_namespaces));
    libtest_mimic::run(&arguments, trials).exit()
}

fn trial(name: &str, can_run: bool, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    if !can_run {
        eprintln!("skipped: {name}: not root: it takes another user's id");
    }
    let test = move || test().map_err(|error| format!("{error:#}").into());
    Trial::test(name, test).with_ignored_flag(!can_run)
}

const CAUGHT: Expected =
    Expected { auto: "both", found: "calls are caught in the kernel", escapee: Escapee::Caught };

const ABOVE: [(&str, &Expected); 5] = [
    (
        "eperm",
        &Expected { auto: "preload", found: ERRNO_ABOVE, escapee: Escapee::Refused("EPERM") },
    ),
    (
        "enosys",
        &Expected { auto: "preload", found: ERRNO_ABOVE, escapee: Escapee::Refused("ENOSYS") },
    ),
    ("kill", &Expected { auto: "preload", found: "kills", escapee: Escapee::Killed }),
    ("sealed", &Expected { auto: "preload", found: "may not put", escapee: Escapee::Elsewhere }),
    ("listener", &Expected { auto: "preload", found: "EBUSY", escapee: Escapee::Elsewhere }),
];

impl Place {
    fn plain() -> Place {
        Place { before: Vec::new(), uid: None }
    }

    fn under(how: &str) -> Result<Place> {
        let outer = compile("outer", Build::Dynamic)?.to_string_lossy().into_owned();
        Ok(Place { before: vec![outer, how.to_owned()], uid: None })
    }

    /// `keyshim` in this place.
    fn keyshim(&self, arguments: &[&str]) -> Result<Output> {
        beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")?;
        let keyshim = beside("keyshim").context("cargo build -p keyshim builds it")?;
        let keyshim = keyshim.to_string_lossy().into_owned();
        let mut words = self.before.iter().chain([&keyshim]);
        let mut command = bare(words.next().context("no program")?);
        command.args(words).args(arguments).env_remove("XDG_RUNTIME_DIR");
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid).current_dir("/");
        }
        run(&mut command)
    }

    fn doctor(&self) -> Result<Value> {
        let output = self.keyshim(&["doctor", "--json"])?;
        let report = serde_json::from_slice(&output.stdout);
        report.with_context(|| format!("doctor printed: {}", told(&output)))
    }

    /// What a program says that joins a session, run in that mode.
    fn session(&self, mode: &str, program: &Path) -> Result<Output> {
        let program = program.to_string_lossy();
        self.keyshim(&["run", "--seed", "7", "--mode", mode, "--", &*program])
    }
}

/// The mode's row in the doctor's report.
fn rung<'a>(report: &'a Value, mode: &str) -> Result<&'a Value> {
    let rungs = report["modes"].as_array().context("no modes")?;
    rungs.iter().find(|rung| rung["mode"] == mode).context("no such mode")
}

/// What keyshim gives the session program with that seed, as the library serves it.
fn ours() -> Result<String> {
    let session = compile("session", Build::Dynamic)?;
    let once = || Ok::<_, anyhow::Error>(told(&Place::plain().session("preload", &session)?));
    let (first, second) = (once()?, once()?);
    ensure!(first == second && first.trim().parse::<u32>().is_ok(), "{first:?} {second:?}");
    Ok(first)
}

/// The doctor says so, and a program finds it so.
fn check(place: &Place, expected: &Expected) -> Result<()> {
    let report = place.doctor()?;
    let auto = report["auto"].as_str().context("no auto")?;
    ensure!(auto == expected.auto, "auto takes {auto}: {report:#}");
    let seccomp = rung(&report, "seccomp")?;
    ensure!(seccomp["works"] == (expected.escapee == Escapee::Caught), "{seccomp:#}");
    let found = seccomp["found"].as_str().unwrap_or_default();
    ensure!(found.contains(expected.found), "{found}");
    ensure!(rung(&report, auto)?["works"] == true && report["works"] == true, "{report:#}");

    let ours = ours()?;
    for mode in ["auto", auto] {
        let dynamic = told(&place.session(mode, &compile("session", Build::Dynamic)?)?);
        ensure!(dynamic == ours, "--mode {mode}: {dynamic} instead of {ours}");
    }
    check_escapee(
        &place.session("auto", &compile("session", Build::Static)?)?,
        &ours,
        expected.escapee,
    )
}

fn check_escapee(output: &Output, ours: &str, expected: Escapee) -> Result<()> {
    let said = told(output);
    let as_expected = match expected {
        Escapee::Caught => said == *ours,
        Escapee::Refused(errno) => said.trim() == errno,
        Escapee::Killed => output.status.code() == Some(128 + libc::SIGSYS),
        Escapee::Elsewhere => said != *ours && said.trim().parse::<u32>().is_ok(),
    };
    ensure!(as_expected, "a static program: {said}, not {expected:?}");
    Ok(())
}

/// What an ordinary user pays for the filter, and how not to.
fn somebody_pays_with_privileges() -> Result<()> {
    let somebody = Place { uid: Some(SOMEBODY), ..Place::plain() };
    check(&somebody, &CAUGHT)?;
    let report = somebody.doctor()?;
    let both = rung(&report, "both")?;
    ensure!(both["advice"].as_str().is_some_and(|advice| advice.contains("sudo")), "{both:#}");
    for (place, mode, expected) in
        [(&somebody, "auto", "1"), (&somebody, "preload", "0"), (&Place::plain(), "auto", "0")]
    {
        let arguments = ["run", "--mode", mode, "--", "grep", "NoNewPrivs", "/proc/self/status"];
        let output = place.keyshim(&arguments)?;
        let said = told(&output);
        ensure!(said.trim().ends_with(expected), "--mode {mode}: {said}");
    }
    Ok(())
}

/// As in a container: other users, other processes, and root only in there.
fn in_namespaces() -> Result<()> {
    let unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"];
    let before = unshare.into_iter().chain(["--mount-proc"]).map(str::to_owned).collect();
    let place = Place { before, uid: None };
    let first = &place.before[0];
    let can = Command::new(first).args(&place.before[1..]).arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("skipped: no user namespaces to be had");
        return Ok(());
    }
    check(&place, &CAUGHT)
}

fn seccomp_where_there_is_a_listener() -> Result<()> {
    let place = Place::under("listener")?;
    for mode in ["seccomp", "both"] {
        let output = place.session(mode, &compile("session", Build::Dynamic)?)?;
        let said = told(&output);
        ensure!(output.status.code() == Some(125) && said.contains("--mode preload"), "{said}");
    }
    let report = place.doctor()?;
    let above = report["findings"].as_array().context("no findings")?;
    let above = above.iter().find(|finding| finding["what"] == "filters above");
    let found = above.and_then(|finding| finding["found"].as_str()).unwrap_or_default();
    ensure!(found.contains("(outer) on") && found.contains("held by"), "{found}");
    Ok(())
}

fn every_mode_that_works_is_what_it_says() -> Result<()> {
    let (ours, program) = (ours()?, &compile("session", Build::Static)?);
    let caught = |mode| Place::plain().session(mode, program).map(|said| told(&said) == ours);
    let (both, seccomp, preload) = (caught("both")?, caught("seccomp")?, caught("preload")?);
    ensure!((both, seccomp, preload) == (true, true, false), "{both} {seccomp} {preload}");
    Ok(())
}

fn a_shared_domain_has_no_filter() -> Result<()> {
    let run = |mode| {
        let name = format!("modes-{}", std::process::id());
        let arguments = ["run", "--mode", mode, "--domain", &name, "--", "grep", "Seccomp:"];
        Place::plain().keyshim(&[&arguments[..], &["/proc/self/status"]].concat())
    };
    let output = run("both")?;
    let said = told(&output);
    ensure!(output.status.code() == Some(125) && said.contains("--domain"), "{said}");
    let own = std::fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find(|line| line.starts_with("Seccomp:")).unwrap_or_default().to_owned();
    let said = told(&run("auto")?);
    ensure!(said.trim() == own, "{said} instead of {own}");
    Ok(())
}

/// The inner run has no filter of its own; what passes its library by is caught by
/// the outer one, and never reaches the kernel.
fn a_run_in_a_run() -> Result<()> {
    let keyshim = beside("keyshim").context("cargo build -p keyshim builds it")?;
    let keyshim = keyshim.to_string_lossy().into_owned();
    let before = [&keyshim, "run", "--mode", "both", "--seed", "11", "--"].map(str::to_owned);
    let place = Place { before: before.into(), uid: None };
    let expected = Expected { auto: "preload", found: "EBUSY", escapee: Escapee::Elsewhere };
    check(&place, &expected)?;
    let program = &compile("session", Build::Static)?;
    let [first, second] = [0; 2].map(|_| place.session("auto", program));
    let (first, second) = (told(&first?), told(&second?));
    if first != second {
        bail!("the outer run has one seed, and a static program {first} and {second}");
    }
    Ok(())
}
