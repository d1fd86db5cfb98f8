//! Whose keyrings a task begins with in trees of several kinds of program, and where the
//! kernel does not tell of tasks. `programs/lineage.c` says what is asked.

use std::process::Command;

use anyhow::Result;
use keyshim_tests::programs::{Build, bare, compile, run, told};
use libtest_mimic::{Failed, Trial};

use crate::{BOTH, Road, SECCOMP, under_keyshim};

/// Has the broker infer what the kernel would tell.
const INFER: &str = "KEYSHIM_INFER_LINEAGE";
/// Few enough for a thousand children to go round once and more.
const PID_MAX: u32 = 1400;

/// The tests of this file.
pub(crate) fn trials(is_root: bool) -> Vec<Trial> {
    let static_lacks = Build::Static.missing();
    let reuse_lacks = static_lacks.or(why_no_reuse(is_root));
    let mixed = |name: &str, build, sibling| {
        let trial = Trial::test(name, move || mixed_tree(build, sibling));
        unless(trial, static_lacks)
    };
    vec![
        mixed("lineage::a_preloaded_parent_of_a_static_child", Build::Dynamic, Build::Static),
        mixed("lineage::a_static_parent_of_a_preloaded_child", Build::Static, Build::Dynamic),
        unless(Trial::test("lineage::inferred", inferred), static_lacks),
        unless(Trial::test("lineage::few_numbers_for_processes", few_numbers), reuse_lacks),
    ]
}

fn unless(trial: Trial, why: Option<&str>) -> Trial {
    if let Some(why) = why {
        eprintln!("skipped: {}: {why}", trial.name());
    }
    trial.with_ignored_flag(why.is_some())
}

/// Before Linux 6.14 the limit would be everybody's.
fn why_no_reuse(is_root: bool) -> Option<&'static str> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match (is_root, version >= (6, 14)) {
        (false, _) => Some("not root: it makes a pid namespace"),
        (true, false) => Some("process numbers are limited by namespace since Linux 6.14 only"),
        (true, true) => None,
    }
}

/// What the program says on the kernel.
fn on_the_kernel() -> Result<String> {
    Ok(told(&run(&mut bare(compile("lineage", Build::Dynamic)?))?))
}

fn same(command: &mut Command) -> Result<(), Failed> {
    let (kernel, keyshim) = (on_the_kernel()?, told(&run(command)?));
    if kernel != keyshim {
        return Err(format!("on the kernel:\n{kernel}\nunder keyshim:\n{keyshim}").into());
    }
    Ok(())
}

fn mixed_tree(build: Build, sibling: Build) -> Result<(), Failed> {
    let sibling = compile("lineage", sibling)?;
    same(under_keyshim(BOTH)?.arg(compile("lineage", build)?).arg(sibling))
}

fn inferred() -> Result<(), Failed> {
    same(under_keyshim(SECCOMP)?.arg(compile("lineage", Build::Static)?).env(INFER, "1"))
}

/// In a pid namespace, where the kernel tells nothing and numbers are soon used again.
fn few_numbers() -> Result<(), Failed> {
    let road: Road = SECCOMP;
    let keyshim = under_keyshim(road)?.get_program().to_owned();
    let script = format!("echo {PID_MAX} >/proc/sys/kernel/pid_max && exec \"$0\" run \"$@\"");
    let mut command = bare("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
    command.arg(keyshim).args(road).arg("--").arg(compile("lineage", Build::Static)?);
    same(&mut command)
}
