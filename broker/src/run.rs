//! `keyshim run`: a program, its keys, and nothing left of either.
//!
//! The domain lives in this process. The program runs as an ordinary child, with
//! the library preloaded, under a filter, or both; whatever it starts and leaves
//! behind becomes our child too, so that we know when the last has gone.

pub(crate) mod library;
pub(crate) mod mode;
pub(crate) mod shelter;
pub(crate) mod signals;
pub(crate) mod spawn;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::address::Address;
use crate::connections::Limits;
use crate::domain::{Beginning, Domain};
use crate::fault::Fault;
use crate::paths::DomainName;
use crate::procfiles::{self, Answerer, Proc, Stage};
use crate::server::{Admission, Lifetime, Rules, Server};
use crate::supervisor::{Listener, Supervisor, handover};
use crate::upcall::Home;
use crate::{autostart, hardening, upcall};

use mode::{Mode, Roads};
use shelter::Shelter;
use signals::Signals;
pub(crate) use spawn::Outcome;
use spawn::{Failure, Surroundings};

/// What to run, and with which keys.
pub(crate) struct Plan {
    /// The program and its arguments; at least the program.
    pub(crate) command: Vec<OsString>,
    /// The shared domain to run it in; none for a domain of its own.
    pub(crate) domain: Option<DomainName>,
    /// How its calls are to be caught.
    pub(crate) mode: Mode,
    /// False for a filter as kernels before 5.19 have it: for tests.
    pub(crate) killable_only: bool,
    /// How its domain begins, if it is a new one.
    pub(crate) beginning: Beginning,
    /// Whether it finds its keys under `/proc` without the library.
    pub(crate) proc: Proc,
}

/// Runs a program until the last of its processes has gone.
pub(crate) fn run(plan: &Plan) -> Result<ExitCode, Fault> {
    if plan.proc == Proc::Userns {
        if plan.domain.is_some() {
            let told = "--proc userns needs a domain of its own, and --domain shares one; leave \
                        out one of the two";
            return Err(Fault::Told(told.into()));
        }
        // While there is one thread.
        procfiles::userns::enter()?;
    }
    let roads = Roads::choose(plan.mode, plan.domain.is_some(), plan.killable_only)?;
    let outcome = match &plan.domain {
        Some(domain) => run_in_shared_domain(plan, domain, roads),
        None => run_in_own_domain(plan, roads),
    };
    outcome.map(Outcome::exit_code)
}

fn run_in_own_domain(plan: &Plan, roads: Roads) -> Result<Outcome, Fault> {
    // Threads inherit the mask, and none but the main one may take a signal.
    let signals = Signals::take()?;
    let shelter = Shelter::open();
    let rules = Rules {
        admission: Admission::Family,
        limits: Limits::for_descriptors(hardening::descriptor_limit()),
        lifetime: Lifetime::UntilStopped,
        over: None,
        helpers: plan
            .beginning
            .calling
            .clone()
            .map(|calling| (calling, upcall::Surroundings::of(shelter.addresses()))),
    };
    let domain = Domain::new(&plan.beginning)?;
    let running = Server::start(domain, shelter.bind()?, rules)?;
    let answerer = Answerer::Here(&running.server);
    let stage = Stage::for_program(answerer, plan.proc, roads.filter.is_some());
    let started = |pid, home: Option<Home>, listener: Option<Listener>| {
        running.server.domain().orphans.adopt_for(pid);
        if let (Some(helpers), Some(home)) = (running.server.helpers.get(), home) {
            let _ = helpers.home.set(home);
        }
        listener.map(|listener| Supervisor::start(&running.server, listener)).transpose()?;
        hardening::conceal();
        hardening::raise_descriptors();
        hardening::lock_memory();
        Ok(())
    };
    let outcome = run_program(plan, roads, &shelter.addresses(), &signals, stage, started);
    running.stop();
    shelter.remove();
    outcome
}

fn run_in_shared_domain(plan: &Plan, domain: &DomainName, roads: Roads) -> Result<Outcome, Fault> {
    // Held until the end: the broker lives for as long as somebody is connected.
    let (_lease, addresses) = autostart::lease(domain, &plan.beginning)?;
    let signals = Signals::take()?;
    let answerer = Answerer::There(&addresses);
    let stage = Stage::for_program(answerer, plan.proc, roads.filter.is_some());
    run_program(plan, roads, &addresses, &signals, stage, |_, _, listener| {
        listener.map_or(Ok(()), |listener| handover::hand_over(&addresses, &listener))
    })
}

/// Starts the program, calls `started` with its id, where it begins and its listener, and
/// waits until all is over.
fn run_program(
    plan: &Plan,
    roads: Roads,
    addresses: &[Address],
    signals: &Signals,
    stage: Option<Stage<'_>>,
    started: impl FnOnce(u32, Option<Home>, Option<Listener>) -> Result<(), Fault>,
) -> Result<Outcome, Fault> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(Fault::system("cannot adopt orphans", "this needs Linux 3.4 or later"))?;
    let surroundings = Surroundings {
        library: roads.library.as_ref(),
        filter: roads.filter,
        addresses,
        mask: signals.before,
    };
    // Before the program can go anywhere else.
    let mut home = None;
    let start = || {
        home = Home::here().ok();
        spawn::start(&plan.command, surroundings)
    };
    let outcome = match stage {
        Some(stage) => stage.start(start)?,
        None => start(),
    };
    match outcome {
        Ok((pid, listener)) => {
            started(pid, home, listener).inspect_err(|_| spawn::end(pid))?;
            signals.attend(pid)
        }
        Err(Failure::Program(refused)) => Ok(refused),
        Err(Failure::Fault(fault)) => Err(fault),
    }
}
