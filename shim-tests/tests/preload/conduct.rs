//! What the library says to its broker, and what it does about a bad one.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keyshim_tests::programs::{Build, bare, compile, run, told};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Failed, Trial};

use crate::broker::{Broker, Deed, data, sum};

/// The tests of this file.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), Failed>| Trial::test(name, test);
    vec![
        trial("conduct::origins", origins),
        trial("conduct::replies_in_pieces", replies_in_pieces),
        trial("conduct::unread_is_repeated", unread_is_repeated),
        trial("conduct::read_is_not_repeated", read_is_not_repeated),
        trial("conduct::garbage", garbage),
        trial("conduct::more_data_than_room", more_data_than_room),
        trial("conduct::silence_ends", silence_ends),
        trial("conduct::signals_in_silence", signals_in_silence),
        trial("conduct::without_a_broker", without_a_broker),
        trial("conduct::list_of_addresses", list_of_addresses),
        trial("conduct::autostart", autostart),
        trial("conduct::foreign_default_directory", foreign_default_directory),
    ]
}

fn expect(what: &str, seen: impl AsRef<str>, expected: impl AsRef<str>) -> Result<(), Failed> {
    if seen.as_ref() == expected.as_ref() {
        return Ok(());
    }
    Err(format!("{what}:\n{}\nexpected:\n{}", seen.as_ref(), expected.as_ref()).into())
}

fn library() -> Result<PathBuf> {
    beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")
}

/// A program with the library, sent to that broker.
fn preloaded(program: &str, broker: &Broker) -> Result<Command> {
    let mut command = bare(compile(program, Build::Dynamic)?);
    command.env("LD_PRELOAD", library()?).env("KEYSHIM_SOCKET", &broker.address);
    Ok(command)
}

fn whole(len: usize, room: usize) -> String {
    let mut bytes = data(len);
    bytes.resize(room, 0);
    format!("{len} bytes, sum {}\n", sum(&bytes))
}

/// Tokens are numbered as they are given out.
fn origins() -> Result<(), Failed> {
    let broker = Broker::open(&[], Deed::Answer(0))?;
    let printed = told(&run(&mut preloaded("origins", &broker)?)?);
    expect("printed", printed, "")?;
    let hellos: Vec<String> =
        broker.seen().into_iter().filter(|line| line.starts_with('#')).collect();
    let expected = [
        "#1 fresh",            // the first call of the program
        "#2 forked by nobody", // a new thread: the broker finds its process
        "#3 forked by #1",     // fork
        "#4 forked by #1",     // fork by the bare system call
        "#5 forked by #1",     // vfork
        "#6 forked by #1",     // a child with the same memory
        "#7 same as #1",       // after closefrom
        "#8 forked by #7",     // a grandchild whose parent made no call
        "#9 fresh",            // after exec
    ];
    expect("hellos", hellos.join("\n"), expected.join("\n"))
}

fn replies_in_pieces() -> Result<(), Failed> {
    let deeds = [Deed::Drip(100, 1), Deed::Drip(100_000, 4093), Deed::Answer(3_000_000)];
    let broker = Broker::open(&deeds, Deed::Answer(0))?;
    let room = 4_000_000;
    let printed = told(&run(preloaded("caller", &broker)?.args(["3", "4000000"]))?);
    let mut filled = vec![0; room];
    let mut expected = String::new();
    for len in [100, 100_000, 3_000_000] {
        filled[..len].copy_from_slice(&data(len));
        expected += &format!("{len} bytes, sum {}\n", sum(&filled));
    }
    expect("printed", printed, expected)
}

fn unread_is_repeated() -> Result<(), Failed> {
    let broker = Broker::open(&[Deed::CloseUnread], Deed::Answer(10))?;
    let printed = told(&run(preloaded("caller", &broker)?.args(["1", "10"]))?);
    expect("printed", printed, whole(10, 10))?;
    expect("seen", broker.seen().join(", "), "#1 fresh, unread, #2 same as #1, Answer(10)")
}

fn read_is_not_repeated() -> Result<(), Failed> {
    let broker = Broker::open(&[Deed::CloseRead], Deed::Answer(10))?;
    let printed = told(&run(preloaded("caller", &broker)?.args(["2", "10"]))?);
    expect("printed", printed, format!("ENOSYS\n{}", whole(10, 10)))?;
    expect("seen", broker.seen().join(", "), "#1 fresh, CloseRead, #2 same as #1, Answer(10)")
}

fn garbage() -> Result<(), Failed> {
    let deeds = [
        Deed::Garbage(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Deed::Garbage(&[255; 64]),
        Deed::Garbage(&[9, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0]),
        Deed::Garbage(&[9, 0, 0, 0, 6, 255, 255, 255, 255, 0, 0, 0, 0]),
        Deed::Garbage(&[1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]),
        Deed::Trailing,
    ];
    let broker = Broker::open(&deeds, Deed::Answer(10))?;
    let printed = told(&run(preloaded("caller", &broker)?.args(["7", "10"]))?);
    expect("printed", printed, "ENOSYS\n".repeat(6) + &whole(10, 10))
}

fn more_data_than_room() -> Result<(), Failed> {
    let broker = Broker::open(&[Deed::Answer(11), Deed::Answer(500_000)], Deed::Answer(10))?;
    let printed = told(&run(preloaded("caller", &broker)?.args(["3", "10"]))?);
    expect("printed", printed, "ENOSYS\n".repeat(2) + &whole(10, 10))
}

/// Ten seconds for the first, a quarter of one for those after it.
fn silence_ends() -> Result<(), Failed> {
    let broker = Broker::open(&[], Deed::Answer(0))?;
    // Nobody takes the knocks from this door.
    let deaf = std::os::unix::net::UnixDatagram::bind(broker.address.with_extension("deaf"))?;
    let mut command = preloaded("caller", &broker)?;
    command.env("KEYSHIM_SOCKET", broker.address.with_extension("deaf")).args(["5", "10"]);
    let began = Instant::now();
    let printed = told(&run(&mut command)?);
    let waited = began.elapsed();
    drop(deaf);
    std::fs::remove_file(broker.address.with_extension("deaf"))?;
    expect("printed", printed, "ENOSYS\n".repeat(5))?;
    match waited.as_secs() {
        10..=14 => Ok(()),
        _ => Err(format!("waited for {waited:?}").into()),
    }
}

/// A program that waits for a broker is ended by a signal as by the kernel.
fn signals_in_silence() -> Result<(), Failed> {
    let broker = Broker::open(&[], Deed::Silence)?;
    let mut command = preloaded("caller", &broker)?;
    let mut child = command.args(["1", "10"]).stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(300));
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let began = Instant::now();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let status = child.wait()?;
    if status.signal() != Some(15) || began.elapsed() > Duration::from_secs(3) {
        return Err(format!("{status} after {:?}", began.elapsed()).into());
    }
    Ok(())
}

fn without_a_broker() -> Result<(), Failed> {
    let nowhere = |program| -> Result<Command> {
        let mut command = bare(compile(program, Build::Dynamic)?);
        command.env("LD_PRELOAD", library()?).env("KEYSHIM_SOCKET", "/nowhere,@keyshim-nobody");
        Ok(command)
    };
    let printed = told(&run(nowhere("caller")?.args(["2", "10"]))?);
    expect("calls", printed, "ENOSYS\n".repeat(2))?;
    // The files are the kernel's then, if it has them.
    let mut cat = bare("cat");
    cat.arg("/proc/key-users").env("LD_PRELOAD", library()?).env("KEYSHIM_SOCKET", "/nowhere");
    let preloaded_cat = run(&mut cat)?;
    let plain_cat = run(bare("cat").arg("/proc/key-users"))?;
    expect("status", preloaded_cat.status.to_string(), plain_cat.status.to_string())
}

fn list_of_addresses() -> Result<(), Failed> {
    let broker = Broker::open(&[], Deed::Answer(10))?;
    let mut command = preloaded("caller", &broker)?;
    let list = format!("@keyshim-nobody,/nowhere,,{}", broker.address.display());
    let printed = told(&run(command.args(["1", "10"]).env("KEYSHIM_SOCKET", list))?);
    expect("printed", printed, whole(10, 10))
}

/// A directory for the user's default address.
fn runtime_directory(name: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("keyshim-{name}-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("keyshim"))?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory.join("keyshim"), private)?;
    Ok(directory)
}

/// The program that is started tells what it was given, and opens no door.
fn autostart() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt;
    let directory = runtime_directory("autostart")?;
    let (program, told_file) = (directory.join("broker"), directory.join("told"));
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; echo \"${{LD_PRELOAD-none}} $XDG_RUNTIME_DIR\"; pwd; \
         ls /proc/self/fd | tr '\\n' ' '; }} > {0}.new 2>&1; mv {0}.new {0}\n",
        told_file.display()
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mut command = bare(compile("caller", Build::Dynamic)?);
    command.args(["3", "10"]).env("LD_PRELOAD", library()?);
    command.env("KEYSHIM_BROKER", &program).env("XDG_RUNTIME_DIR", &directory);
    let began = Instant::now();
    let printed = told(&run(&mut command)?);
    let waited = began.elapsed();
    expect("printed", printed, "ENOSYS\n".repeat(3))?;
    let given = std::fs::read_to_string(&told_file).context("nothing was started")?;
    let expected = format!("broker --autostart\nnone {}\n/\n0 1 2 3 ", directory.display());
    std::fs::remove_dir_all(&directory)?;
    expect("given", given, expected)?;
    match waited.as_secs() {
        2..=5 => Ok(()),
        _ => Err(format!("waited for {waited:?}, not once for two seconds").into()),
    }
}

/// A directory that others may write to is not trusted, whoever listens in it.
fn foreign_default_directory() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt;
    let directory = runtime_directory("foreign")?;
    let broker = Broker::open(&[], Deed::Answer(10))?;
    std::os::unix::fs::symlink(&broker.address, directory.join("keyshim/default"))?;
    let call = || -> Result<String> {
        let mut command = bare(compile("caller", Build::Dynamic)?);
        command.args(["1", "10"]).env("LD_PRELOAD", library()?);
        command.env("KEYSHIM_BROKER", "/nowhere").env("XDG_RUNTIME_DIR", &directory);
        Ok(told(&run(&mut command)?))
    };
    expect("in one's own", call()?, whole(10, 10))?;
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.join("keyshim"), open)?;
    let printed = call()?;
    std::fs::remove_dir_all(&directory)?;
    expect("where others may write", printed, "ENOSYS\n")
}
