//! What the supervisor does when things go wrong, and for whom.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{BOTH, INTERRUPTIBLE, Road, SECCOMP, under_keyshim};

/// First of the users that nobody is and nothing else makes keys as.
const USER_BASE: u32 = 700_000;
/// How long the last of a tree may take to go.
const END_PATIENCE: Duration = Duration::from_secs(20);

type Test = fn() -> Result<(), Failed>;

/// The tests of this file.
pub(crate) fn trials(is_root: bool) -> Vec<Trial> {
    let anyones: [(&str, Test); 6] = [
        ("conduct::shared_domain", shared_domain),
        ("conduct::supervisor_killed", || killed(SECCOMP)),
        ("conduct::supervisor_killed_interruptible", || killed(INTERRUPTIBLE)),
        ("conduct::x32_is_answered", x32_is_answered),
        ("conduct::status_and_environment", status_and_environment),
        ("conduct::a_second_listener", a_second_listener),
    ];
    let roots: [(&str, Test); 6] = [
        ("conduct::goroutines", || goroutines(SECCOMP)),
        ("conduct::goroutines_interruptible", || goroutines(INTERRUPTIBLE)),
        ("conduct::kernel_untouched_seccomp", || kernel_untouched(SECCOMP)),
        ("conduct::kernel_untouched_both", || kernel_untouched(BOTH)),
        ("conduct::ordinary_user", ordinary_user),
        ("conduct::set_uid_programs", set_uid_programs),
    ];
    if !is_root {
        for (name, _) in &roots {
            eprintln!("skipped: {name}: not root: it becomes another user");
        }
    }
    let anyones = anyones.into_iter().map(|(name, test)| Trial::test(name, test));
    let roots =
        roots.into_iter().map(|(name, test)| Trial::test(name, test).with_ignored_flag(!is_root));
    anyones.chain(roots).collect()
}

/// Orphans of the programs become our children, so that none goes unseen.
pub(crate) fn adopt_orphans() -> Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

fn expect(what: &str, seen: impl AsRef<str>, expected: impl AsRef<str>) -> Result<(), Failed> {
    if seen.as_ref() == expected.as_ref() {
        return Ok(());
    }
    Err(format!("{what}:\n{}\nexpected:\n{}", seen.as_ref(), expected.as_ref()).into())
}

/// A shell under keyshim.
fn shell(road: Road, script: &str) -> Result<Command> {
    let mut command = under_keyshim(road)?;
    command.args(["sh", "-c", script]);
    Ok(command)
}

/// Not compared with the kernel, which now and then does not find a key in one of many
/// keyrings while others of them are being changed (EACCES, seen on Linux 6.18).
fn goroutines(road: Road) -> Result<(), Failed> {
    let path = compile("goroutines", Build::Go)?;
    let printed = told(&run(under_keyshim(road)?.arg(path))?);
    expect("printed", printed, "64 goroutines, 60 keys each, all there\n")
}

/// In the middle of traffic the supervisor dies: everybody gets ENOSYS, new tasks too,
/// nobody hangs, and nobody is left.
fn killed(road: Road) -> Result<(), Failed> {
    let path = compile("traffic", Build::Static)?;
    let mut supervisor =
        under_keyshim(road)?.arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut printed = BufReader::new(supervisor.stdout.take().context("its output")?);
    let mut program = String::new();
    printed.read_line(&mut program)?;
    std::thread::sleep(Duration::from_millis(300));
    supervisor.kill()?;
    supervisor.wait()?;
    let rest = read_in_time(printed)?;
    expect("printed", rest, "32 ended, 0 processes bad, ENOSYS\n")?;
    // Its parent was the supervisor; then we are.
    let status = waitpid(Pid::from_raw(program.trim().parse()?), None)?;
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("the program ended so: {other:?}").into()),
    }
}

fn read_in_time(mut from: impl Read + Send + 'static) -> Result<String> {
    let (say, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = from.read_to_string(&mut text).map(|_| text);
        let _ = say.send(read);
    });
    Ok(heard.recv_timeout(END_PATIENCE).context("it hangs")??)
}

/// Whether or not the kernel has x32, its numbers are key calls to the filter, which
/// comes first.
fn x32_is_answered() -> Result<(), Failed> {
    let path = compile("inline", Build::Static)?;
    let wide = told(&run(under_keyshim(SECCOMP)?.arg(&path))?);
    let wide: String =
        wide.lines().take_while(|&line| line != "32").map(|l| l.to_owned() + "\n").collect();
    let x32 = told(&run(under_keyshim(SECCOMP)?.arg(&path).arg("x32"))?);
    expect("x32", x32, wide.replacen("64", "x32", 1))
}

/// What `env -i` takes away is not needed, and the status is the program's.
fn status_and_environment() -> Result<(), Failed> {
    let script = "key=$(env -i PATH=$PATH keyctl add user a b @u) && \
                  env -i PATH=$PATH keyctl print $key && exit 7";
    let output = run(&mut shell(SECCOMP, script)?)?;
    expect("printed", String::from_utf8_lossy(&output.stdout), "b\n")?;
    expect("status", output.status.to_string(), "exit status: 7")?;
    let output = run(&mut shell(SECCOMP, "kill -9 $$")?)?;
    expect("status", output.status.to_string(), "exit status: 137")
}

/// One listener is all that a kernel allows: the second run says so and runs nothing.
fn a_second_listener() -> Result<(), Failed> {
    let keyshim = beside("keyshim")?;
    let mut command = under_keyshim(SECCOMP)?;
    command.arg(keyshim).args(["run", "--mode", "seccomp", "--", "echo", "unheard"]);
    let output = run(&mut command)?;
    let heard = String::from_utf8_lossy(&output.stderr);
    expect("printed", String::from_utf8_lossy(&output.stdout), "")?;
    expect("status", output.status.to_string(), "exit status: 125")?;
    match heard.contains("filter") && heard.contains("--mode preload") {
        true => Ok(()),
        false => Err(heard.into_owned().into()),
    }
}

/// A user whom no other test of this run is.
fn unused_user(number: u32) -> u32 {
    USER_BASE + number * 50_000 + std::process::id() % 50_000
}

/// What the kernel's own listings say of a user.
fn kernel_knows(user: u32) -> Result<Vec<String>> {
    let owner = user.to_string();
    let users = std::fs::read_to_string("/proc/key-users")?;
    let keys = std::fs::read_to_string("/proc/keys")?;
    let is_users = |line: &&str| line.trim_start().split(':').next() == Some(owner.as_str());
    let is_keys = |line: &&str| {
        line.split_whitespace().nth(5) == Some(owner.as_str()) || line.contains(&owner)
    };
    let found = users.lines().filter(is_users).chain(keys.lines().filter(is_keys));
    Ok(found.map(str::to_owned).collect())
}

/// A whole tree works as a user whom the kernel has never heard of: it has not
/// afterwards either, and not in the midst. One key call that slipped through would make
/// that user's keyrings.
fn kernel_untouched(road: Road) -> Result<(), Failed> {
    let user = unused_user(if road == SECCOMP { 0 } else { 1 });
    expect("before", kernel_knows(user)?.join("\n"), "")?;
    let path = |name, build| {
        Ok::<_, anyhow::Error>(readable(compile(name, build)?)?.display().to_string())
    };
    let mut programs = vec![path("forks", Build::Dynamic)?, "keyctl show @us".to_owned()];
    for build in
        [Build::Static, Build::Narrow].into_iter().filter(|build| build.missing().is_none())
    {
        for name in ["forks", "errno", "vfork"] {
            programs.push(path(name, build)?);
        }
    }
    programs.push(path("inline", Build::Dynamic)?);
    programs.push(format!("env -i {}", path("vfork", Build::Dynamic)?));
    programs.push("env -i PATH=$PATH keyctl add user a b @u".to_owned());
    let script = format!(
        "({}) >/dev/null 2>&1 && echo worked || echo failed; read end",
        programs.join(" && ")
    );
    let mut tree = as_user(user, shell(road, &script)?)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let mut output = BufReader::new(tree.stdout.take().context("its output")?);
    output.read_line(&mut said)?;
    let midst = kernel_knows(user)?;
    drop(tree.stdin.take());
    tree.wait()?;
    expect("the tree", said, "worked\n")?;
    expect("the kernel, in the midst", midst.join("\n"), "")?;
    expect("the kernel, afterwards", kernel_knows(user)?.join("\n"), "")
}

/// A folder that every user can reach, for the time of this run.
fn public_folder() -> PathBuf {
    std::env::temp_dir().join(format!("keyshim-supervise-{}", std::process::id()))
}

/// Leaves nothing behind.
pub(crate) fn clean_up() {
    let _ = std::fs::remove_dir_all(public_folder());
}

/// A program of ours where every user can run it.
fn readable(path: PathBuf) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    std::fs::create_dir_all(public_folder())?;
    let copy = public_folder().join(path.file_name().context("a name")?);
    if !copy.exists() {
        std::fs::copy(&path, &copy)?;
    }
    Ok(copy)
}

/// The command as a user without any right, from a copy of keyshim that it can run.
fn as_user(user: u32, command: Command) -> Result<Command> {
    let keyshim = readable(PathBuf::from(command.get_program()))?;
    if let Ok(library) = beside("libkeyshim.so") {
        readable(library)?;
    }
    let own = public_folder().join(user.to_string());
    std::fs::create_dir_all(&own)?;
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::chown(&own, Some(user), Some(user))?;
    let mut other = bare(keyshim);
    other.args(command.get_args()).uid(user).gid(user).current_dir("/");
    other.env("XDG_RUNTIME_DIR", own);
    Ok(other)
}

/// Without rights of its own, `keyshim run` gives up what set-uid programs could gain,
/// and cannot look into a program that forbids it: such a program gets ENOSYS for what
/// has to be read of it, unless the library is in it.
fn ordinary_user() -> Result<(), Failed> {
    let user = unused_user(2);
    let run_as = |road, program: &str, build| -> Result<String> {
        let program = readable(compile(program, build)?)?;
        let mut command = under_keyshim(road)?;
        command.arg(program);
        Ok(told(&run(&mut as_user(user, command)?)?))
    };
    let kernel = told(&run(&mut bare(compile("forks", Build::Static)?))?);
    expect("forks", run_as(SECCOMP, "forks", Build::Static)?, kernel)?;
    let kernel = told(&run(&mut bare(compile("dumpable", Build::Dynamic)?))?);
    expect("not dumpable, both", run_as(BOTH, "dumpable", Build::Dynamic)?, kernel)?;
    let expected = "join: ok\nsession: ok\nadd: ENOSYS\nread: ENOKEY\nit says \"\"\nclear: 0\n";
    expect("not dumpable", run_as(SECCOMP, "dumpable", Build::Static)?, expected)?;
    let status = shell(SECCOMP, "grep NoNewPrivs /proc/self/status")?;
    expect("its rights", told(&run(&mut as_user(user, status)?)?), "NoNewPrivs:\t1\n")
}

/// Under a supervisor with rights, a set-uid program is what it says, and is caught.
fn set_uid_programs() -> Result<(), Failed> {
    let user = unused_user(3);
    let program = |name: &str| -> Result<String> {
        let copy = readable(std::fs::canonicalize(format!("/usr/bin/{name}"))?)?;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755))?;
        Ok(copy.display().to_string())
    };
    let (id, keyctl) = (program("id")?, program("keyctl")?);
    let script = format!("{id} -u; key=$({keyctl} add user a b @u) && {keyctl} print $key");
    let other = format!("setpriv --reuid {user} --clear-groups sh -c '{script}'");
    expect("with rights", told(&run(&mut shell(SECCOMP, &other)?)?), "0\nb\n")?;
    let without = as_user(user, shell(SECCOMP, &script)?)?;
    expect("without", told(&run(&mut { without })?), format!("{user}\nb\n"))
}

/// The broker of a shared domain answers for the filter of each run in it, whichever way
/// other runs in it go, and when it dies there are no keys any more.
fn shared_domain() -> Result<(), Failed> {
    let name = format!("supervise-{}", std::process::id());
    let keyshim = beside("keyshim")?.display().to_string();
    let of_domain = |mode: &str| format!("{keyshim} run --domain {name} --mode {mode}");
    let traffic = compile("traffic", Build::Static)?.display().to_string();
    let inner = of_domain("preload");
    let script = format!(
        "env -i PATH=$PATH keyctl add user a b @u >/dev/null && {inner} -- keyctl print %user:a"
    );
    let mut outer = bare(&keyshim);
    outer.args(["run", "--domain", &name, "--mode", "seccomp", "--", "sh", "-c", &script]);
    expect("printed", told(&run(&mut outer)?), "b\n")?;
    let mut outer = bare(&keyshim);
    outer.args(["run", "--domain", &name, "--mode", "seccomp", "--", &traffic]);
    let mut outer = outer.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut printed = BufReader::new(outer.stdout.take().context("its output")?);
    printed.read_line(&mut String::new())?;
    let broker = format!("keyshim broker --serve-domain {name}");
    let found = run(bare("pgrep").args(["-xf", &broker]))?;
    let found = String::from_utf8_lossy(&found.stdout).trim().parse().context("no broker")?;
    kill(Pid::from_raw(found), Signal::SIGKILL)?;
    expect("printed", read_in_time(printed)?, "32 ended, 0 processes bad, ENOSYS\n")?;
    expect("status", outer.wait()?.to_string(), "exit status: 0")
}
