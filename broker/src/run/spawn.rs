//! Starting the program, and what became of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::library::{Library, PRELOAD};
use super::mode::Filter;
use crate::address::Address;
use crate::fault::Fault;
use crate::supervisor::channel::{self, Word};
use crate::supervisor::{Listener, notify, probe};
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

/// Why there is no program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is the program's fault.
    Program(Outcome),
    /// It is ours.
    Fault(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
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

/// How a program is caught: by which roads, and how it finds its domain.
pub(crate) struct Surroundings<'a> {
    /// The library to preload, if it is.
    pub(crate) library: Option<&'a Library>,
    /// The filter to put it under, if it is.
    pub(crate) filter: Option<Filter>,
    /// The addresses of the broker.
    pub(crate) addresses: &'a [Address],
    /// The signal mask that it begins with.
    pub(crate) mask: SigSet,
}

/// Starts the program: its id, and the listener of its filter; or why not.
pub(crate) fn start(
    command: &[OsString],
    surroundings: Surroundings<'_>,
) -> Result<(u32, Option<Listener>), Failure> {
    let (program, arguments) = command
        .split_first()
        .map_or((OsString::new(), &[][..]), |parts| (parts.0.clone(), parts.1));
    let addresses: Vec<String> = surroundings.addresses.iter().map(Address::to_string).collect();
    let mut command = Command::new(&program);
    command.args(arguments).env(SOCKET, addresses.join(","));
    if let Some(library) = surroundings.library {
        command.env(PRELOAD, library.preload(std::env::var_os(PRELOAD).as_deref()));
    }
    sys::begin_with_mask(&mut command, surroundings.mask);
    let is_optional = surroundings.filter.as_ref().is_some_and(|filter| filter.is_optional);
    let filter = surroundings.filter.map(|filter| put_under(&mut command, filter)).transpose()?;
    let spawned = command.spawn();
    // Our copy of the end that the program had.
    drop(command);
    let word = filter.as_ref().map(channel::next);
    match (spawned, word) {
        (Ok(child), Some(Some(Word::Installed(listener)))) => Ok((child.id(), Some(listener))),
        (Ok(child), Some(Some(Word::Refused(errno)))) => {
            tracing::info!("no filter: {}", probe::Outcome::Refused(errno));
            Ok((child.id(), None))
        }
        (Ok(child), None) => Ok((child.id(), None)),
        (Ok(child), Some(_)) => {
            end(child.id());
            Err(Failure::Fault(Fault::Told(
                "cannot take the program's listener; raise the limit of open files".to_owned(),
            )))
        }
        (Err(error), Some(None | Some(Word::Refused(_)))) if !is_optional => {
            Err(Failure::Fault(Fault::Told(format!(
                "cannot put the program under a filter: {error}; say --mode preload, or ask \
                 `keyshim doctor`"
            ))))
        }
        (Err(error), _) => Err(Failure::Program(not_started(program, error))),
    }
}

/// Ends a program that we cannot serve: without us it would go on with the keys of
/// nobody.
pub(crate) fn end(program: u32) {
    let pid = Pid::from_raw(program as i32);
    if kill(pid, Signal::SIGKILL).is_ok() {
        let _ = waitpid(pid, None);
    }
}

/// Has the program begin under a filter: where its listener will arrive.
fn put_under(command: &mut Command, filter: Filter) -> Result<OwnedFd, Fault> {
    let (ours, theirs) = channel::pair()?;
    let Filter { program, is_optional, terms } = filter;
    notify::begin_under_filter(command, program, theirs, terms, is_optional);
    Ok(ours)
}

fn not_started(program: OsString, error: io::Error) -> Outcome {
    if error.kind() == io::ErrorKind::NotFound || !is_anywhere(&program) {
        return Outcome::NotFound(program);
    }
    Outcome::NotRunnable(program, error)
}

/// False for a name that is in no directory of `PATH`: the error is then that of
/// a directory which we may not search.
fn is_anywhere(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}
