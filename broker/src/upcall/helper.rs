//! The life of one helper.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use keyshim_abi::Errno;
use keyshim_abi::gate::GATES;
use nix::errno::Errno as System;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::output::Output;
use super::spawn::{Held, Start};
use super::{Helpers, Job, place};
use crate::fault::{CutOff, Fault};
use crate::run::library::PRELOAD;
use crate::run::spawn::SOCKET;
use crate::server::Server;
use crate::supervisor::notify::Terms;
use crate::supervisor::{Supervisor, channel, filter};
use crate::waits::Requester;

/// What the kernel gives its helper.
const ENVIRONMENT: [&str; 2] = ["HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Runs a helper to its end. The error is why it could not be started.
pub(super) fn live(helpers: &Helpers, server: &Arc<Server>, job: &Job) -> Result<(), Errno> {
    let program = helpers.program(job).ok_or(Errno::ENOKEY)?;
    let (output, theirs) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(cannot)?;
    let deadline = helpers.calling.time_max.map(|time| Instant::now() + time);
    let held = begin(helpers, server, job, (program, deadline), &theirs)?;
    drop(theirs);
    helpers.note_started(job.upcall.id, held.pid);
    let started = held.pidfd.try_clone().map_err(|_| CutOff::Gone);
    let started = started.and_then(|own| server.upcall_started(job.upcall.id, held.pid, own));
    if let Err(reason) = started {
        tracing::warn!(key = %job.upcall.key, "a helper vanished: {reason}");
        return Err(given_up(&held, Errno::ENOKEY));
    }
    if let Err(errno) = held.let_go(deadline) {
        tracing::warn!(program = %program.display(), %errno, "no helper");
        held.kill();
        await_end(&held, None, None);
        if errno == System::ETIMEDOUT {
            return Ok(());
        }
        return Err(Errno::new(errno as i32).unwrap_or(Errno::ENOKEY));
    }
    tracing::info!(key = %job.upcall.key, pid = held.pid, "a helper begins");
    let mut output = Output::new(File::from(output), job.upcall.key);
    await_end(&held, deadline, Some(&mut output));
    output.end();
    Ok(())
}

/// A helper that is held back before its program.
fn begin(
    helpers: &Helpers,
    server: &Arc<Server>,
    job: &Job,
    (program, deadline): (&Path, Option<Instant>),
    output: &OwnedFd,
) -> Result<Held, Errno> {
    let requester = job.requester.as_ref();
    let home = helpers.home.get();
    let there = |requester: &Requester| place::of_requester(requester, home);
    let joined = requester.map_or(CloneFlags::empty(), there);
    // Where the library may not be.
    let is_elsewhere = joined.contains(CloneFlags::CLONE_NEWNS);
    let is_trapped = requester.is_some_and(|requester| requester.is_trapped);
    let is_all = is_trapped || is_elsewhere || helpers.surroundings.library.is_none();
    // A net below the library, where programs of this domain have one.
    let has_net = server.listeners.load(Ordering::Relaxed) != 0;
    let filter = (is_all || has_net)
        .then(|| filter::program(GATES))
        .transpose()
        .map_err(|fault| told(&fault))?;
    let start = Start {
        program: c_string(program.as_os_str())?,
        arguments: arguments(program, job)?,
        environment: environment(helpers, !is_all)?,
        filter: filter.map(|program| (program, Terms::USUAL)),
        join: match requester.filter(|_| !joined.is_empty()) {
            Some(requester) => Some((requester.pidfd.as_fd(), joined)),
            None => place::at_home(home),
        },
        is_of_requester: !joined.is_empty(),
        output: output.as_fd(),
    };
    let mut held = helpers.forker.fork_held(start, deadline).map_err(cannot)?;
    match held.listener.take() {
        Some(listener) => match Supervisor::start(server, listener) {
            Ok(()) => Ok(held),
            Err(fault) => Err(given_up(&held, told(&fault))),
        },
        // Without its filter it would ask the kernel's own service.
        None if is_all => Err(given_up(&held, Errno::ENOKEY)),
        None => Ok(held),
    }
}

/// Ends a helper before its program.
fn given_up(held: &Held, errno: Errno) -> Errno {
    tracing::warn!(pid = held.pid, "no helper: its calls cannot be caught");
    held.kill();
    await_end(held, None, None);
    errno
}

fn arguments(program: &Path, job: &Job) -> Result<Vec<CString>, Errno> {
    let program = c_string(program.as_os_str());
    let rest = job.upcall.arguments().into_iter().map(|text| c_string(OsStr::new(&text)));
    let callout = job.upcall.callout_argument().map(|text| c_string(OsStr::from_bytes(text)));
    std::iter::once(program).chain(rest).chain(callout).collect()
}

fn environment(helpers: &Helpers, is_preloaded: bool) -> Result<Vec<CString>, Errno> {
    let mut all: Vec<CString> =
        ENVIRONMENT.iter().map(|text| c_string(OsStr::new(text))).collect::<Result<_, _>>()?;
    if let Some(library) = helpers.surroundings.library.as_ref().filter(|_| is_preloaded) {
        let addresses = helpers.surroundings.addresses.iter().map(ToString::to_string);
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let mut preload = std::ffi::OsString::from(format!("{PRELOAD}="));
        preload.push(library.preload(None));
        all.push(c_string(&preload)?);
        all.push(c_string(OsStr::new(&format!("{SOCKET}={addresses}")))?);
    }
    Ok(all)
}

fn c_string(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::ENOENT)
}

/// Waits until a helper has ended, and takes leave of it. One that takes longer than it
/// may is killed with all that it has started.
fn await_end(held: &Held, deadline: Option<Instant>, mut output: Option<&mut Output<File>>) {
    let mut deadline = deadline;
    loop {
        let (ready, has_ended, has_output) = {
            let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = vec![readable(held.pidfd.as_fd())];
            fds.extend(output.as_ref().map(|output| readable(output.as_fd())));
            let ready = poll(&mut fds, channel::until(deadline));
            let is_ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any() == Some(true));
            (ready, is_ready(0), is_ready(1))
        };
        if has_output && !output.as_mut().is_some_and(|output| output.take()) {
            // Closed, though the helper goes on.
            output = None;
        }
        if has_ended {
            break;
        }
        if ready == Ok(0) && deadline.take().is_some() {
            tracing::warn!(pid = held.pid, "a helper is killed: it has taken too long");
            held.kill();
        }
    }
    take_leave(held);
}

/// Whoever waits for all children of this process may have done it before us.
fn take_leave(held: &Held) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    match waitid(Id::Pid(Pid::from_raw(held.pid as i32)), flags) {
        Ok(WaitStatus::Exited(_, 0)) | Err(_) => {}
        Ok(status) => tracing::info!(?status, "a helper has failed"),
    }
}

fn cannot(errno: System) -> Errno {
    tracing::error!(%errno, "cannot start a helper");
    Errno::new(errno as i32).unwrap_or(Errno::ENOKEY)
}

fn told(fault: &Fault) -> Errno {
    tracing::error!("no helper: {fault}");
    Errno::ENOKEY
}

impl Held {
    /// Ends it with all that it has started and not put into a session of their own.
    pub(super) fn kill(&self) {
        let pid = Pid::from_raw(self.pid as i32);
        let _ = nix::sys::signal::killpg(pid, Signal::SIGKILL);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
}
