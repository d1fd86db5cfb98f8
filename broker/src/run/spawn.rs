//! Starting the program, and what became of it.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitCode};

use nix::sys::signal::SigSet;

use super::library::{Library, PRELOAD};
use crate::address::Address;
use crate::sys;

/// Names the broker's addresses to the library.
pub(crate) const SOCKET: &str = "KEYSHIM_SOCKET";

/// How a program ended, or why it could not begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended with this status.
    Exited(u8),
    /// The signal of this number ended it.
    Killed(u8),
    /// There is no such program.
    NotFound(OsString),
    /// It is there, and cannot be run.
    NotRunnable(OsString, io::Error),
}

impl Outcome {
    /// What a status of wait(2) says of a child that has ended.
    pub(crate) fn of(status: i32) -> Outcome {
        match libc::WIFSIGNALED(status) {
            true => Outcome::Killed(libc::WTERMSIG(status) as u8),
            false => Outcome::Exited(libc::WEXITSTATUS(status) as u8),
        }
    }

    /// As a shell has it: the program's own status, 128 and the signal's number, 127
    /// when not found, 126 when not runnable. Says why to standard error in the
    /// last two cases, where the program cannot.
    pub(crate) fn exit_code(self) -> ExitCode {
        let code = match self {
            Outcome::Exited(code) => code,
            Outcome::Killed(signal) => 128 + signal,
            Outcome::NotFound(program) => {
                anstream::eprintln!(
                    "keyshim: {}: no such program; check the name, or give its path",
                    program.to_string_lossy()
                );
                127
            }
            Outcome::NotRunnable(program, error) => {
                anstream::eprintln!(
                    "keyshim: {}: {error}; check that it is a program and may be executed",
                    program.to_string_lossy()
                );
                126
            }
        };
        ExitCode::from(code)
    }
}

/// Starts the program with the library preloaded and that signal mask: its id, or
/// why not.
pub(crate) fn start(
    command: &[OsString],
    library: &Library,
    addresses: &[Address],
    mask: SigSet,
) -> Result<u32, Outcome> {
    let (program, arguments) = command
        .split_first()
        .map_or((OsString::new(), &[][..]), |parts| (parts.0.clone(), parts.1));
    let preload = library.preload(std::env::var_os(PRELOAD).as_deref());
    let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
    let mut command = Command::new(&program);
    command.args(arguments).env(PRELOAD, preload).env(SOCKET, addresses.join(","));
    sys::begin_with_mask(&mut command, mask);
    match command.spawn() {
        Ok(child) => Ok(child.id()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Outcome::NotFound(program)),
        Err(error) => Err(Outcome::NotRunnable(program, error)),
    }
}
