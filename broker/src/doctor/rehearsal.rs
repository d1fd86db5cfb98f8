//! The whole way once, with a program of our own: library or filter, broker, answer.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

use keyshim_abi::gate::GATES;

use crate::address::Address;
use crate::connections::Limits;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::run::library::{Library, PRELOAD};
use crate::run::spawn::SOCKET;
use crate::server::{Admission, Lifetime, Rules, Running, Server};
use crate::supervisor::channel::{self, Word};
use crate::supervisor::{Supervisor, filter, notify, trial};
use crate::{host, sys};

/// Makes this program, run as a child, make one call each way that it names and end
/// well if all were answered.
pub(crate) const VARIABLE: &str = "KEYSHIM_REHEARSAL";
/// Through libc, as most programs do.
const BY_LIBC: &str = "libc";
/// By an instruction, as static programs do.
const BY_INSTRUCTION: &str = "instruction";
/// The same program, first one way, then the other.
const BOTH_WAYS: &str = "libc instruction";

/// What became of it.
pub(super) enum Rehearsed {
    /// Every call was caught and answered.
    Caught,
    /// One was not; with what the dynamic linker had to say.
    Missed(String),
}

/// Has a program make its calls, with the library, under a filter, or both.
pub(super) fn rehearse(library: Option<&Library>, traps: bool) -> Result<Rehearsed, Fault> {
    let address = Address::Abstract(format!("keyshim-{}", host::random_name()).into_bytes());
    let next = "run it outside the sandbox";
    let door = address.bind().map_err(Fault::system("cannot bind a socket", next))?;
    let rules = Rules {
        admission: Admission::Family,
        limits: Limits::for_descriptors(256),
        lifetime: Lifetime::UntilStopped,
        over: None,
        helpers: None,
    };
    let running = Server::start(Domain::plain(None)?, vec![door], rules)?;
    let ways = match (library.is_some(), traps) {
        (true, true) => BOTH_WAYS,
        (true, false) => BY_LIBC,
        _ => BY_INSTRUCTION,
    };
    let mut command = Command::new("/proc/self/exe");
    command.env(VARIABLE, ways).env(SOCKET, address.to_string()).env_remove(PRELOAD);
    if let Some(library) = library {
        command.env(PRELOAD, library.preload(None));
    }
    let child = start(command, traps, &running);
    let output = child.and_then(|child| child.wait_with_output().map_err(not_started));
    let was_served = match library {
        Some(_) => running.server.has_been_called(),
        None => running.server.domain().tasks.has_met_anybody(),
    };
    running.stop();
    let output = output?;
    if was_served && output.status.success() {
        return Ok(Rehearsed::Caught);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().next().map(|line| format!(": {line}"));
    Ok(Rehearsed::Missed(complaint.unwrap_or_default()))
}

fn not_started(error: std::io::Error) -> Fault {
    Fault::Told(format!("cannot start a program: {error}"))
}

fn start(mut command: Command, traps: bool, running: &Running) -> Result<Child, Fault> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    if !traps {
        return command.spawn().map_err(not_started);
    }
    let (ours, theirs) = channel::pair()?;
    notify::begin_under_filter(
        &mut command,
        filter::program(GATES)?,
        theirs,
        notify::Terms::USUAL,
        false,
    );
    let child = command.spawn().map_err(not_started)?;
    if let Some(Word::Installed(listener)) = channel::next(&ours) {
        Supervisor::start(&running.server, listener)?;
    }
    Ok(child)
}

/// The child's part. `None` when this process is no such child; else whether its calls
/// were answered.
pub(crate) fn answer() -> Option<bool> {
    let ways = std::env::var_os(VARIABLE)?;
    let ways = ways.as_os_str();
    let is_asked = |way: &str| ways == OsStr::new(way) || ways == OsStr::new(BOTH_WAYS);
    let by_libc = || !matches!(sys::keyctl_capabilities(), Err(nix::errno::Errno::ENOSYS));
    let by_instruction = || {
        let mut capabilities = [0; 8];
        let len = trial::capabilities(&mut capabilities);
        len.is_some_and(|len| len > 0) && capabilities != [0; 8]
    };
    Some((!is_asked(BY_LIBC) || by_libc()) && (!is_asked(BY_INSTRUCTION) || by_instruction()))
}
