//! The life of one helper.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use keyshim_abi::Errno;
use keyshim_abi::gate::GATES;
use nix::errno::Errno as System;
use nix::sched::CloneFlags;

use super::child::{Filter, Orders, Start};
use super::process::Process;
use super::spawn::{fork_held, fork_in_reserve};
use super::{Helpers, Job, place, trap};
use crate::fault::{CutOff, Fault};
use crate::run::library::PRELOAD;
use crate::run::spawn::SOCKET;
use crate::server::Server;
use crate::supervisor::channel::Listener;
use crate::supervisor::notify::Terms;
use crate::supervisor::{Supervisor, filter};
use crate::waits::Requester;

/// What the kernel gives its helper.
const ENVIRONMENT: [&str; 2] = ["HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Runs a helper to its end; what is left of it. The error is why it could not be started.
pub(super) fn live(
    helpers: &Helpers,
    server: &Arc<Server>,
    job: &Job,
    in_reserve: Option<Process>,
) -> Result<Process, Errno> {
    let deadline = helpers.calling.time_max.map(|time| Instant::now() + time);
    let requester = job.requester.as_ref();
    let there = |requester: &Requester| place::of_requester(requester, helpers.home.get());
    let joined = requester.map_or(CloneFlags::empty(), there);
    // Where the library may not be.
    let is_elsewhere = joined.contains(CloneFlags::CLONE_NEWNS);
    let is_trapped = requester.is_some_and(|requester| requester.is_trapped);
    let road = Road::of(helpers, server, is_trapped || is_elsewhere)?;
    let orders = orders(helpers, job, road)?;
    let usable = in_reserve.filter(|_| joined.is_empty() && !road.has_filter());
    let process = match usable.filter(Process::is_alive) {
        Some(process) => {
            process.held.order(orders);
            process
        }
        None => {
            let start =
                start(helpers, server, requester.filter(|_| !joined.is_empty()), joined, road)?;
            Process::begin(|output| fork_held(start, orders, output, &helpers.ignored))
                .map_err(cannot)?
        }
    };
    introduce(helpers, server, job, &process)?;
    if road.has_filter() {
        match process.held.await_listener(deadline) {
            Ok(None) => {}
            Ok(Some(listener)) => serve(server, listener)?,
            Err(System::ETIMEDOUT) => return Ok(process),
            Err(errno) => return Err(cannot(errno)),
        }
    }
    tracing::info!(key = %job.upcall.key, pid = process.held.pid, "a helper begins");
    process.watch(job.upcall.key, deadline);
    match process.held.failure() {
        None => Ok(process),
        Some(errno) => Err(cannot(errno)),
    }
}

/// A process that the next helper can be whose requester has nothing special about it:
/// there before it is called for.
pub(super) fn in_reserve(helpers: &Helpers, server: &Arc<Server>) -> Option<Process> {
    let road = Road::of(helpers, server, false).ok().filter(|road| !road.has_filter())?;
    let start = start(helpers, server, None, CloneFlags::empty(), road).ok()?;
    Process::begin(|output| fork_in_reserve(start, output, &helpers.ignored)).ok()
}

fn serve(server: &Arc<Server>, listener: Listener) -> Result<(), Errno> {
    Supervisor::start(server, listener).map_err(|fault| told(&fault))
}

/// Lets a helper go as soon as the domain knows it.
fn introduce(
    helpers: &Helpers,
    server: &Arc<Server>,
    job: &Job,
    process: &Process,
) -> Result<(), Errno> {
    let held = &process.held;
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
    fn of(helpers: &Helpers, server: &Arc<Server>, must_be_trapped: bool) -> Result<Road, Errno> {
        if trap::is_set(helpers, server)? {
            return Ok(Road::Inherited);
        }
        if must_be_trapped || helpers.surroundings.library.is_none() {
            return Ok(Road::Trapped);
        }
        Ok(Road::Preloaded { has_net: server.listeners.load(Ordering::Relaxed) != 0 })
    }

    /// True if the helper is to have a filter of its own.
    const fn has_filter(self) -> bool {
        matches!(self, Road::Trapped | Road::Preloaded { has_net: true })
    }

    const fn is_preloaded(self) -> bool {
        matches!(self, Road::Preloaded { .. })
    }
}

fn start<'a>(
    helpers: &'a Helpers,
    server: &Arc<Server>,
    there: Option<&'a Requester>,
    joined: CloneFlags,
    road: Road,
) -> Result<Start<'a>, Errno> {
    let filter = road.has_filter().then(|| {
        let program = filter::program(GATES).map_err(|fault| told(&fault))?;
        Ok(Filter { program, terms: Terms::USUAL, is_needed: !road.is_preloaded() })
    });
    let join = match there {
        Some(requester) => Some((requester.pidfd.as_fd(), joined)),
        None if road == Road::Inherited => place::at_home(helpers.furnished(server)),
        None => place::at_home(helpers.home.get()),
    };
    Ok(Start { filter: filter.transpose()?, join, is_of_requester: there.is_some() })
}

fn orders(helpers: &Helpers, job: &Job, road: Road) -> Result<Orders, Errno> {
    let program = helpers.program(job).ok_or(Errno::ENOKEY)?;
    let (arguments, environment) = (arguments(program, job)?, environment(helpers, road)?);
    Ok(Orders::new(c_string(program.as_os_str())?, arguments, environment))
}

fn arguments(program: &Path, job: &Job) -> Result<Vec<CString>, Errno> {
    let program = c_string(program.as_os_str());
    let rest = job.upcall.arguments().into_iter().map(|text| c_string(OsStr::new(&text)));
    let callout = job.upcall.callout_argument().map(|text| c_string(OsStr::from_bytes(text)));
    std::iter::once(program).chain(rest).chain(callout).collect()
}

fn environment(helpers: &Helpers, road: Road) -> Result<Vec<CString>, Errno> {
    let mut all: Vec<CString> =
        ENVIRONMENT.iter().map(|text| c_string(OsStr::new(text))).collect::<Result<_, _>>()?;
    if let Some(library) = helpers.surroundings.library.as_ref().filter(|_| road.is_preloaded()) {
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

fn cannot(errno: System) -> Errno {
    tracing::error!(%errno, "cannot start a helper");
    Errno::new(errno as i32).unwrap_or(Errno::ENOKEY)
}

fn told(fault: &Fault) -> Errno {
    tracing::error!("no helper: {fault}");
    Errno::ENOKEY
}
