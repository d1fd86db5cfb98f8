//! The whole way once, with a program of our own: library, door, broker, answer.

use std::process::{Command, Stdio};

use super::Finding;
use crate::address::Address;
use crate::connections::Limits;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::run::library::{self, Library, PRELOAD};
use crate::run::spawn::SOCKET;
use crate::server::{Admission, Lifetime, Rules, Server};
use crate::{host, sys};

/// Makes this program, run as a child, make one call and print the answer.
pub(crate) const VARIABLE: &str = "KEYSHIM_REHEARSAL";

/// The library, and whether a program that loads it is caught.
pub(super) fn findings() -> Vec<Finding> {
    const LIBRARY: &str = "library";
    const RUN: &str = "run";
    let library = match library::find() {
        Ok(library) => library,
        Err(fault) => return vec![Finding::broken(LIBRARY, "not found", fault.to_string())],
    };
    let found = Finding::good(LIBRARY, library.0.display().to_string());
    let run = match rehearse(&library) {
        Ok(Rehearsed::Caught) => Finding::good(RUN, "a program's call was caught and answered"),
        Ok(Rehearsed::Missed(complaint)) => Finding::broken(
            RUN,
            format!("a program's call was not caught{complaint}"),
            "check that library and programs are of the same architecture and libc, and that \
             LD_PRELOAD is not forbidden",
        ),
        Err(fault) => Finding::broken(RUN, fault.to_string(), "see the other findings"),
    };
    vec![found, run]
}

enum Rehearsed {
    Caught,
    /// With what the dynamic linker had to say.
    Missed(String),
}

fn rehearse(library: &Library) -> Result<Rehearsed, Fault> {
    let address = Address::Abstract(format!("keyshim-{}", host::random_name()).into_bytes());
    let next = "run it outside the sandbox";
    let door = address.bind().map_err(Fault::system("cannot bind a socket", next))?;
    let rules = Rules {
        admission: Admission::Family,
        limits: Limits::for_descriptors(256),
        lifetime: Lifetime::UntilStopped,
        over: None,
    };
    let running = Server::start(Domain::new(host::entropy(None))?, vec![door], rules)?;
    let output = Command::new("/proc/self/exe")
        .env(VARIABLE, "1")
        .env(PRELOAD, library.preload(None))
        .env(SOCKET, address.to_string())
        .stdin(Stdio::null())
        .output();
    let was_called = running.server.has_been_called();
    running.stop();
    let output = output.map_err(|error| Fault::Told(format!("cannot start a program: {error}")))?;
    if was_called && output.status.success() {
        return Ok(Rehearsed::Caught);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().next().map(|line| format!(": {line}"));
    Ok(Rehearsed::Missed(complaint.unwrap_or_default()))
}

/// The child's part: one call through libc, as any program makes it. True when
/// this process is that child and the call was answered.
pub(crate) fn answer() -> Option<bool> {
    std::env::var_os(VARIABLE)?;
    Some(!matches!(sys::keyctl_capabilities(), Err(nix::errno::Errno::ENOSYS)))
}
