//! Keys that are requested and not found, made by programs: by Debian's own
//! `/sbin/request-key`, on the kernel and on both roads; and how helpers of a domain are
//! started, bounded, seen and ended.

#[path = "upcalls/conduct.rs"]
mod conduct;
#[path = "upcalls/roads.rs"]
mod roads;
#[path = "upcalls/waiting.rs"]
mod waiting;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Arguments, Failed, Trial};

/// What the real `request-key` reads.
const RULES: &str = "/etc/request-key.d/keyshim-tests.conf";
const REQUEST_KEY: &str = "/sbin/request-key";

/// Programs that say the same on the kernel and by a road: options, and what they are made
/// into to take it.
const SAME_AS_KERNEL: &[(&str, &[&str], Build)] = &[
    ("waits", &["preload"], Build::Dynamic),
    ("waits", &["seccomp"], Build::Static),
    ("waits", &["both"], Build::Dynamic),
    ("becomes", &["preload"], Build::Dynamic),
    ("becomes", &["seccomp"], Build::Static),
    ("anew", &["seccomp", "--interruptible"], Build::Static),
];

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let mut trials = conduct::trials();
    trials.extend(waiting::trials());
    let is_root = nix::unistd::geteuid().is_root();
    trials.extend(roads::trials(is_root));
    let unfit = if !is_root {
        Some("not root: it writes a rule for the kernel's helper")
    } else if !Path::new(REQUEST_KEY).exists() {
        Some("there is no /sbin/request-key (package keyutils)")
    } else {
        None
    };
    for &(program, road, build) in SAME_AS_KERNEL {
        let name = format!("same::{program}_{}", road.join("_").replace('-', ""));
        let why = unfit.or_else(|| build.missing());
        if let Some(why) = why {
            eprintln!("skipped: {name}: {why}");
        }
        let trial = Trial::test(name, move || same_as_kernel(program, road, build));
        trials.push(trial.with_ignored_flag(why.is_some()));
    }
    let rule = Rule::put(unfit.is_none() && !arguments.list)?;
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(rule);
    conclusion.exit()
}

/// A rule for keys of ours, taken away when it is dropped. One that was forgotten by a
/// test that was killed makes such keys as well.
struct Rule(Option<PathBuf>);

impl Rule {
    fn put(wanted: bool) -> Result<Rule> {
        if !wanted {
            return Ok(Rule(None));
        }
        let helper = conduct::script("slow", SLOW)?;
        std::fs::create_dir_all("/etc/request-key.d").context("/etc/request-key.d")?;
        let rule = format!("create user keyshim-tests:* * {} %k %c %S\n", helper.display());
        std::fs::write(RULES, rule).context(RULES)?;
        Ok(Rule(Some(PathBuf::from(RULES))))
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Takes as long as the callout says.
const SLOW: &str =
    "#!/bin/sh\nsleep \"$2\"\nexec keyctl instantiate \"$1\" 'made by the helper' \"$3\"\n";

/// `keyshim run` in that mode; what follows are further options.
fn under_keyshim(mode: &str) -> Result<Command> {
    beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")?;
    let mut command = bare(beside("keyshim").context("cargo build -p keyshim builds it")?);
    command.args(["run", "--mode", mode]);
    Ok(command)
}

fn same_as_kernel(program: &str, road: &[&str], build: Build) -> Result<(), Failed> {
    let path = compile(program, build)?;
    let kernel = told(&run(&mut bare(&path))?);
    let (mode, options) = road.split_first().context("a mode")?;
    let mut command = under_keyshim(mode)?;
    let keyshim = told(&run(command.args(options).arg("--").arg(&path))?);
    if kernel != keyshim {
        return Err(format!("on the kernel:\n{kernel}\nunder keyshim:\n{keyshim}").into());
    }
    if !kernel.contains("payload right") && !kernel.contains("alive 1") {
        return Err(format!("no helper came:\n{kernel}").into());
    }
    Ok(())
}
