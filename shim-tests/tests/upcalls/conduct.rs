//! How a domain's helpers are started, bounded, seen and ended.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use libtest_mimic::{Failed, Trial};

use crate::under_keyshim;

const MODES: [&str; 2] = ["preload", "seccomp"];

/// A test, in one mode.
type Test = fn(&str) -> Result<()>;

/// The tests of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 12] = [
        ("begins_as_the_kernels", begins_as_the_kernels),
        ("one_helper_for_many", one_helper_for_many),
        ("so_many_at_once", so_many_at_once),
        ("helpers_of_helpers_wait_for_nobody", helpers_of_helpers_wait_for_nobody),
        ("is_killed_in_time", is_killed_in_time),
        ("prints_to_the_log", prints_to_the_log),
        ("nobody_is_called", nobody_is_called),
        ("cannot_be_started", cannot_be_started),
        ("leaves_nothing", leaves_nothing),
        ("is_where_its_requester_is", is_where_its_requester_is),
        ("rules_come_before_helpers", rules_come_before_helpers),
        ("wrong_rules_are_told", wrong_rules_are_told),
    ];
    let both = tests.into_iter().flat_map(|test| MODES.map(|mode| (test, mode)));
    both.map(|((name, test), mode)| {
        Trial::test(format!("conduct::{name}_{mode}"), move || test(mode).map_err(Failed::from))
    })
    .collect()
}

/// A helper of that text, by a name of this process's own.
pub(crate) fn script(name: &str, text: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = scratch(name)?;
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("this test is not below target/")?;
    let folder = target.join("tmp/upcalls");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    Ok(path)
}

/// What makes the key, once `authority` is at hand.
const MAKES: &str = "authority \"$2\" keyctl instantiate \"$2\" 'made by the helper' 0\n";

/// Runs a shell script whose helper has that text, with options; what it prints.
fn shell(mode: &str, options: &[&str], helper: &str, text: &str) -> Result<String> {
    // Of this test alone.
    let name = format!("helper-{mode}-{:x}", fingerprint(helper));
    let helper = script(&name, &format!("{}{helper}", head()?))?;
    let mut command = under_keyshim(mode)?;
    command.args(options).arg("--request-key").arg(helper);
    Ok(told(&run(command.args(["--", "sh", "-c", text]))?))
}

/// How every helper begins.
fn head() -> Result<String> {
    let authority = compile("authority", Build::Dynamic)?;
    Ok(format!("#!/bin/sh\nauthority() {{ {} \"$@\"; }}\n", authority.display()))
}

fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn begins_as_the_kernels(mode: &str) -> Result<()> {
    let file = scratch(&format!("facts-{mode}"))?;
    let facts = format!(
        "exec >{}; echo \"$0\" \"$@\" | sed 's,[0-9][0-9]*,N,g;s,/.*/,,'; pwd; umask
         cat /proc/self/environ | tr '\\0' '\\n' | grep -v -e ^LD_PRELOAD= -e ^KEYSHIM_SOCKET= | sort
         ls -l /proc/$$/fd | grep -c /dev/tty; grep -e SigBlk -e SigIgn /proc/self/status
         ps -o tty= -p $$; keyctl id @s >/dev/null && echo has a session; {MAKES}",
        file.display()
    );
    let printed =
        shell(mode, &[], &facts, "keyctl request2 user one two @s >/dev/null; echo done")?;
    ensure!(printed == "done\n", "{printed}");
    let told = std::fs::read_to_string(&file)?;
    std::fs::remove_file(&file)?;
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    let first = lines.first().context("nothing")?;
    ensure!(first.ends_with("create N N N N N N"), "{told}");
    let rest = [
        "/",
        "0022",
        "HOME=/",
        "PATH=/sbin:/bin:/usr/sbin:/usr/bin",
        // The shell's own.
        "PWD=/",
        "0",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "?",
        "has a session",
    ];
    ensure!(lines[1..] == rest, "{told}");
    Ok(())
}

fn many(mode: &str, options: &[&str], helper: &str, arguments: [&str; 2]) -> Result<String> {
    let program = compile("requesters", Build::Dynamic)?;
    let [count, which] = arguments;
    shell(mode, options, helper, &format!("{} {count} {which}", program.display()))
}

fn one_helper_for_many(mode: &str) -> Result<()> {
    let log = scratch(&format!("one-{mode}"))?;
    let helper = format!("echo + >>{}; sleep 0.5; {MAKES}", log.display());
    let printed = many(mode, &[], &helper, ["1000", "one"])?;
    ensure!(printed == "1000 answers, 1 keys\n", "{printed}");
    ensure!(std::fs::read_to_string(&log)? == "+\n", "more than one helper");
    Ok(std::fs::remove_file(log)?)
}

fn so_many_at_once(mode: &str) -> Result<()> {
    // As root: others may not have so many keys.
    let count = if nix::unistd::geteuid().is_root() { 1000 } else { 150 };
    let log = scratch(&format!("each-{mode}"))?;
    let helper = format!("echo + >>{0}; {MAKES} echo - >>{0}", log.display());
    let text = count.to_string();
    let printed = many(mode, &["--upcalls-at-once", "7"], &helper, [&text, "each"])?;
    ensure!(printed == format!("{count} answers, {count} keys\n"), "{printed}");
    let (mut running, mut most) = (0, 0);
    for line in std::fs::read_to_string(&log)?.lines() {
        running += if line == "+" { 1 } else { -1 };
        most = most.max(running);
    }
    ensure!((2..=7).contains(&most), "{most} helpers at once");
    Ok(std::fs::remove_file(log)?)
}

fn helpers_of_helpers_wait_for_nobody(mode: &str) -> Result<()> {
    let helper = format!(
        "n=$(keyctl rdescribe \"$2\" | sed 's/.*://'); \
         test \"$n\" -ge 3 || authority \"$2\" keyctl request2 user chain:$((n + 1)) x @s; {MAKES}"
    );
    let text = "keyctl request2 user chain:0 x @s >/dev/null; keyctl print %user:chain:0";
    let text = format!("keyctl session - sh -c '{text}' 2>/dev/null");
    let printed = shell(mode, &["--upcalls-at-once", "1"], &helper, &text)?;
    ensure!(printed == "made by the helper\n", "{printed}");
    Ok(())
}

fn is_killed_in_time(mode: &str) -> Result<()> {
    let begun = Instant::now();
    let mark = format!(
        "{}{}",
        7 + MODES.iter().position(|one| *one == mode).unwrap_or(0),
        std::process::id()
    );
    let text = "keyctl request2 user one two @u 2>&1; grep -c ' one$' /proc/keys";
    let printed =
        shell(mode, &["--upcall-timeout", "1"], &format!("sleep {mark} & sleep {mark}"), text)?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    ensure!(printed.starts_with("request_key: Required key not available\n"), "{printed}");
    let left = Command::new("pgrep").args(["-f", &format!("sleep {mark}")]).output()?;
    ensure!(left.stdout.is_empty(), "something of the helper's goes on");
    Ok(())
}

fn prints_to_the_log(mode: &str) -> Result<()> {
    let helper = format!("echo something to see; echo and more >&2; {MAKES}");
    let text = "keyctl request2 user one two @u >/dev/null && echo done";
    let printed = shell(mode, &[], &helper, text)?;
    ensure!(printed == "done\n", "{printed}");
    let helper = script(&format!("printing-{mode}"), &format!("{}{helper}", head()?))?;
    let mut command = under_keyshim(mode)?;
    command.env("KEYSHIM_LOG", "info").arg("--request-key").arg(helper);
    let printed = told(&run(command.args(["--", "sh", "-c", text]))?);
    ensure!(printed.contains("helper: something to see"), "{printed}");
    ensure!(printed.contains("helper: and more"), "{printed}");
    Ok(())
}

fn nobody_is_called(mode: &str) -> Result<()> {
    let text = "keyctl request2 user one two @u 2>&1; grep -c ' one$' /proc/keys; \
                keyctl request2 dns_resolver x y @u 2>&1 | head -1";
    let mut command = under_keyshim(mode)?;
    let printed = told(&run(command.args(["--no-upcall", "--", "sh", "-c", text]))?);
    ensure!(printed.starts_with("request_key: Required key not available\n"), "{printed}");
    Ok(())
}

/// The requester is told why, and what it wanted is negative for a minute.
fn cannot_be_started(mode: &str) -> Result<()> {
    let mut command = under_keyshim(mode)?;
    command.args(["--request-key", "/nonexistent", "--", "sh", "-c"]);
    let text = "keyctl request2 user one two @u 2>&1; keyctl request2 user one two @u 2>&1; true";
    let printed = told(&run(command.arg(text))?);
    let expected = "request_key: No such file or directory\n\
                    request_key: Required key not available\n";
    ensure!(printed == expected, "{printed}");
    Ok(())
}

fn leaves_nothing(mode: &str) -> Result<()> {
    let text = "look() { p=$(ps -o ppid= -p $$ | tr -d ' '); \
                echo $(ls /proc/$p/fd | wc -l) $(ls /proc/$p/task | wc -l); }
                call() { keyctl request2 user $1 x @s >/dev/null || echo none; }
                i=0; while test $i -lt 5; do call warm$i; i=$((i + 1)); done; sleep 0.3; look
                i=0; while test $i -lt 60; do call k$i; i=$((i + 1)); done
                sleep 0.5; look; ps --ppid $(ps -o ppid= -p $$) -o stat= | grep -c Z";
    let text = format!("keyctl session - sh -c '{}' 2>/dev/null", text.replace('\'', "'\\''"));
    let printed = shell(mode, &[], MAKES, &text)?;
    let lines: Vec<&str> = printed.lines().collect();
    ensure!(lines.len() >= 3 && lines[0] == lines[1] && lines[2] == "0", "{printed}");
    Ok(())
}

const RULES: &str = "
[[rule]]
type = 'user'
description = 'ticket:*'
payload = '%d for %u: %c'
delay_ms = 300
[[rule]]
description = 'refused:*'
error = 'EKEYREJECTED'
timeout_s = 1
[[rule]]
description = 'empty'
payload = ''
[[rule]]
description = 'gone'
negative = true
";

fn rules_come_before_helpers(mode: &str) -> Result<()> {
    let file = scratch(&format!("rules-{mode}"))?;
    std::fs::write(&file, RULES)?;
    let options = ["--handlers", file.to_str().context("a path")?];
    let text = "exec 2>&1; want() { keyctl request2 user \"$@\" @s >/dev/null; }
        want ticket:a/b host; keyctl print %user:ticket:a/b
        want refused:x y; want refused:x y; want empty y; want gone y; want other y
        sleep 2; want refused:x y; keyctl print %user:other";
    let text = format!("keyctl session - sh -c '{text}' 2>/dev/null");
    let begun = Instant::now();
    let printed = shell(mode, &options, MAKES, &text)?;
    ensure!(begun.elapsed() > Duration::from_millis(2300), "nothing was put off");
    let uid = nix::unistd::getuid();
    let refused = "request_key: Key was rejected by service\n";
    let expected = format!(
        "ticket:a/b for {uid}: host\n{refused}{refused}request_key: Invalid argument\n\
         request_key: Required key not available\n{refused}made by the helper\n"
    );
    ensure!(printed == expected, "{printed}");
    Ok(std::fs::remove_file(file)?)
}

fn wrong_rules_are_told(mode: &str) -> Result<()> {
    let file = scratch(&format!("wrong-{mode}"))?;
    std::fs::write(&file, "[[rule]]\npaylod = 'x'\n")?;
    let mut command = under_keyshim(mode)?;
    let output = run(command.arg("--handlers").arg(&file).args(["--", "echo", "begun"]))?;
    let printed = told(&output);
    ensure!(output.status.code() == Some(125) && !printed.contains("begun"), "{printed}");
    ensure!(printed.contains("line 2") && printed.contains("payload_file"), "{printed}");
    Ok(std::fs::remove_file(file)?)
}

/// In a user namespace of the requester's own, with the root of that one.
fn is_where_its_requester_is(mode: &str) -> Result<()> {
    let can = bare("unshare").args(["-Urm", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: is_where_its_requester_is: no user namespaces here");
        return Ok(());
    }
    let file = scratch(&format!("place-{mode}"))?;
    let look = "readlink /proc/self/ns/user /proc/self/ns/mnt; id -u";
    let helper = format!("({look}) >{}; {MAKES}", file.display());
    let text = format!("{look}; keyctl request2 user one two @s >/dev/null && echo made");
    let text = format!("unshare -Urm keyctl session - sh -c '{text}' 2>/dev/null");
    let printed = shell(mode, &[], &helper, &text)?;
    let told = std::fs::read_to_string(&file)?;
    ensure!(printed == format!("{told}made\n"), "here:\n{printed}there:\n{told}");
    Ok(std::fs::remove_file(file)?)
}
