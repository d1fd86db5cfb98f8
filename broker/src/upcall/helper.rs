//! The life of one helper.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
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
use super::spawn::{Filter, Held, Start, fork_held};
use super::{Helpers, Job, place, trap};
use crate::fault::{CutOff, Fault};
use crate::identity;
use crate::run::library::PRELOAD;
use crate::run::spawn::SOCKET;
use crate::server::Server;
use crate::supervisor::channel::{self, Listener};
use crate::supervisor::notify::Terms;
use crate::supervisor::{Supervisor, filter};
use crate::sys;
use crate::waits::Requester;

/// What the kernel gives its helper.
const ENVIRONMENT: [&str; 2] = ["HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Runs a helper to its end. The error is why it could not be started.
pub(super) fn live(helpers: &Helpers, server: &Arc<Server>, job: &Job) -> Result<(), Errno> {
    let deadline = helpers.calling.time_max.map(|time| Instant::now() + time);
    let requester = job.requester.as_ref();
    let there = |requester: &Requester| place::of_requester(requester, helpers.home.get());
    let joined = requester.map_or(CloneFlags::empty(), there);
    let road = Road::of(helpers, server, job, joined)?;
    let (output, theirs) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(cannot)?;
    let start = start(helpers, job, road, joined, theirs.as_fd())?;
    let awaits_listener = start.filter.is_some();
    let held = fork_held(start, Arc::clone(&helpers.ignored)).map_err(cannot)?;
    introduce(helpers, server, job, &held).inspect_err(|_| end(&held))?;
    if awaits_listener {
        let listener = match held.await_listener(deadline) {
            Err(System::ETIMEDOUT) => {
                end(&held);
                return Ok(());
            }
            listener => listener.map_err(cannot),
        };
        let served =
            listener.and_then(|listener| listener.map_or(Ok(()), |its| serve(server, its)));
        served.inspect_err(|_| end(&held))?;
    }
    tracing::info!(key = %job.upcall.key, pid = held.pid, "a helper begins");
    // Our end for writing stays open: else the pipe's end, and then the helper's, would each
    // wake us.
    let mut output = Output::new(File::from(output), job.upcall.key);
    await_end(&held, deadline, Some(&mut output));
    output.end();
    match held.failure() {
        None => Ok(()),
        Some(errno) => Err(cannot(errno)),
    }
}

fn serve(server: &Arc<Server>, listener: Listener) -> Result<(), Errno> {
    Supervisor::start(server, listener).map_err(|fault| told(&fault))
}

/// Lets a helper go as soon as the domain knows it.
fn introduce(helpers: &Helpers, server: &Arc<Server>, job: &Job, held: &Held) -> Result<(), Errno> {
    helpers.note_started(job.upcall.id, held.pid);
    let pidfd = held.pidfd.try_clone().map_err(|_| CutOff::Gone);
    let started = pidfd.and_then(|own| server.upcall_started(job.upcall.id, held.pid, own));
    started.map_err(|reason| {
        tracing::warn!(key = %job.upcall.key, "a helper vanished: {reason}");
        Errno::ENOKEY
    })?;
    // One that has ended has said why.
    let _ = held.let_go();
    Ok(())
}

/// Ends a helper that has not begun.
fn end(held: &Held) {
    held.kill();
    await_end(held, None, None);
}

/// By what road the calls of a helper come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    /// The kernel traps them by the filter of the thread that starts the helper: whatever
    /// program it is and whatever it makes of its environment.
    Inherited,
    /// The kernel traps them by a filter of the helper's own: no other road will do.
    Trapped,
    /// By the library, with a net below it where programs of this domain have one.
    Preloaded { has_net: bool },
}

impl Road {
    fn of(
        helpers: &Helpers,
        server: &Arc<Server>,
        job: &Job,
        joined: CloneFlags,
    ) -> Result<Road, Errno> {
        if trap::is_set(helpers, server)? {
            return Ok(Road::Inherited);
        }
        // Where the library may not be.
        let is_elsewhere = joined.contains(CloneFlags::CLONE_NEWNS);
        let is_trapped = job.requester.as_ref().is_some_and(|requester| requester.is_trapped);
        if is_trapped || is_elsewhere || helpers.surroundings.library.is_none() {
            return Ok(Road::Trapped);
        }
        Ok(Road::Preloaded { has_net: server.listeners.load(Ordering::Relaxed) != 0 })
    }

    fn has_filter(self) -> bool {
        matches!(self, Road::Trapped | Road::Preloaded { has_net: true })
    }
}

fn start<'a>(
    helpers: &'a Helpers,
    job: &'a Job,
    road: Road,
    joined: CloneFlags,
    output: BorrowedFd<'a>,
) -> Result<Start<'a>, Errno> {
    let program = helpers.program(job).ok_or(Errno::ENOKEY)?;
    let is_preloaded = matches!(road, Road::Preloaded { .. });
    let filter = road.has_filter().then(|| {
        let program = filter::program(GATES).map_err(|fault| told(&fault))?;
        Ok(Filter { program, terms: Terms::USUAL, is_needed: !is_preloaded })
    });
    let requester = job.requester.as_ref().filter(|_| !joined.is_empty());
    Ok(Start {
        program: c_string(program.as_os_str())?,
        arguments: arguments(program, job)?,
        environment: environment(helpers, is_preloaded)?,
        filter: filter.transpose()?,
        join: match requester {
            Some(requester) => Some((requester.pidfd.as_fd(), joined)),
            None => place::at_home(helpers.home.get()),
        },
        is_of_requester: !joined.is_empty(),
        output,
    })
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
            // It cannot be read.
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
        if identity::is_alive(self.pidfd.as_fd()) {
            // Its number is its own until somebody has taken leave of it.
            let group = Pid::from_raw(self.pid as i32);
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        }
        let _ = sys::pidfd_kill(self.pidfd.as_fd());
    }
}
