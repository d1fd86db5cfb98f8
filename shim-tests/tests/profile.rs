//! Unmodified programs in a domain that behaves like Linux 2.6.10: every subcommand of
//! keyctl, helpers as they were called then, and the commands that look at it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use keyshim_tests::world::actor::Road;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;

const SUBCOMMANDS: &str = include_str!("../suites/keyctl.linux-2.6.10");
/// What a row finds.
const PREAMBLE: &str = "exec 2>&1\n\
    k=$(keyctl add user colour green @s); r=$(keyctl newring ring @s)\n";
const ERRNO_MAX: i32 = 133;

/// One row of the table: what comes of a command, and what it prints.
#[derive(Clone, Copy)]
struct Row {
    outcome: &'static str,
    command: &'static str,
    printed: Option<&'static str>,
}

impl Row {
    fn subcommand(&self) -> &'static str {
        let words = self.command.rsplit_once("keyctl ").map_or("", |(_, rest)| rest);
        words.split(' ').next().unwrap_or_default()
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let why_not = unavailable();
    if let Some(why) = &why_not {
        eprintln!("skipped: programs under linux-2.6.10: {why}");
    }
    let mut trials = vec![
        Trial::test("keyctl::every_subcommand_has_a_row", every_subcommand_has_a_row),
        Trial::test("s204_a_helper_is_told_what_the_requester_says", helper_is_told),
        Trial::test("s211_a_helper_that_says_nothing", silent_helper),
        Trial::test("a_domain_keeps_its_profile", shared_domain),
        Trial::test("s127_quirks_are_chosen", quirks),
    ];
    for (number, row) in (1..).zip(rows()) {
        let name = format!("keyctl::{number:02}_{}", row.subcommand().trim_start_matches('-'));
        trials.push(Trial::test(name, move || Ok(as_expected(row)?)));
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(why_not.is_some()));
    libtest_mimic::run(&arguments, trials.collect()).exit()
}

fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root: the table is root's".to_owned());
    }
    if Command::new("keyctl").arg("--version").output().is_err() {
        return Some("no keyctl: install keyutils".to_owned());
    }
    Road::preload().err().map(|why| format!("{why:#}"))
}

fn rows() -> Vec<Row> {
    let lines = SUBCOMMANDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (outcome, command) = line.split_once(' ')?;
            let (command, printed) = match command.split_once(" =>") {
                Some((command, printed)) => (command, Some(printed.trim())),
                None => (command, None),
            };
            Some(Row { outcome, command: command.trim(), printed })
        })
        .collect()
}

/// `keyshim run` of the profile with these options, in a session of its own.
fn run(options: &[&str], script: &str) -> Result<(Option<i32>, String)> {
    let Road::Preload(keyshim) = Road::preload()? else { anyhow::bail!("another road") };
    let mut program = Command::new(keyshim);
    program.args(["run", "--mode", "preload", "--profile", "linux-2.6.10"]).args(options);
    program.args(["--", "keyctl", "session", "-", "sh", "-c", script]);
    let output = program.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// As the C library says it.
fn told(errno: &str) -> Result<String> {
    let named = |&raw: &i32| format!("{:?}", Errno::from_raw(raw)) == errno;
    let raw = (1..=ERRNO_MAX).find(named).with_context(|| format!("{errno} is no error"))?;
    let text = std::io::Error::from_raw_os_error(raw).to_string();
    Ok(text.split(" (os error").next().unwrap_or_default().to_owned())
}

fn as_expected(row: Row) -> Result<()> {
    let script = format!("{PREAMBLE}{}", row.command);
    let (status, printed) = run(&["--no-upcall"], &script)?;
    match row.outcome {
        "works" => ensure!(status == Some(0), "{}: {status:?}, {printed}", row.command),
        errno => {
            let expected = told(errno)?;
            ensure!(status == Some(1), "{}: {status:?}, {printed}", row.command);
            ensure!(printed.ends_with(&format!(": {expected}")), "{}: {printed}", row.command);
        }
    }
    if let Some(expected) = row.printed {
        ensure!(printed == expected, "{}: {printed:?}", row.command);
    }
    Ok(())
}

/// What `keyctl` lists when it is called without any.
fn every_subcommand_has_a_row() -> Result<(), Failed> {
    let listed = Command::new("keyctl").output()?;
    let listed = String::from_utf8_lossy(&listed.stderr).into_owned();
    let words = listed.lines().filter_map(|line| line.strip_prefix("  keyctl "));
    let words = words.filter_map(|line| line.split(' ').next());
    // That is a test of its own.
    let listed: BTreeSet<&str> = words.filter(|word| *word != "--test").collect();
    let known: BTreeSet<&str> = rows().iter().map(Row::subcommand).collect();
    if listed.len() < 40 || !listed.is_subset(&known) {
        return Err(Failed::from(format!("{:?}", listed.difference(&known).collect::<Vec<_>>())));
    }
    Ok(())
}

/// A helper in a directory of its own.
fn with_helper(body: &str, script: &str) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let helper = folder.path().join("helper");
    std::fs::write(&helper, format!("#!/bin/sh\n{body}\n"))?;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
    let helper: &Path = &helper;
    run(&["--request-key", &helper.to_string_lossy()], script)
}

fn helper_is_told() -> Result<(), Failed> {
    let body = "keyctl instantiate $2 \"$# $1 $3 $4 $5 $8\" $7";
    let script = "k=$(keyctl request2 user wanted 'some info' @s); keyctl print $k; \
                  keyctl print $(keyctl request2 user more '' @s); keyctl rlist @s | wc -w";
    let seen = with_helper(body, script)?;
    // Linked by the helper and once more for the requester.
    let expected = "8 create 0 0 0 some info\n8 create 0 0 0 -\n4";
    assert_eq!(seen, (Some(0), expected.to_owned()));
    Ok(())
}

fn silent_helper() -> Result<(), Failed> {
    let script = "exec 2>&1; keyctl request2 user wanted info @u; keyctl rlist @u | wc -w; \
                  keyctl rlist @s | wc -w; grep -c ' I--Q-N .* wanted: 0' /proc/keys";
    let expected = format!("request_key: {}\n0\n1\n1", told("ENOKEY")?);
    assert_eq!(with_helper("exit 0", script)?, (Some(0), expected));
    Ok(())
}

fn shared_domain() -> Result<(), Failed> {
    let name = format!("profile-{}", std::process::id());
    let script = "keyctl rdescribe @u; keyctl rdescribe @us";
    let seen = run(&["--domain", &name], script)?;
    assert_eq!(
        seen,
        (Some(0), "keyring;0;0;1f0000;_uid.0\nkeyring;0;0;1f0000;_uid_ses.0".to_owned())
    );
    Ok(())
}

fn quirks() -> Result<(), Failed> {
    let script = "keyctl revoke 1000000";
    assert_eq!(run(&[], script)?.0, Some(1));
    assert_eq!(run(&["--quirks", "on"], script)?.0, Some(0));
    Ok(())
}
