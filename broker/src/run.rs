//! `keyshim run`: a program, its keys, and nothing left of either.
//!
//! The domain lives in this process. The program runs as an ordinary child, with
//! the library preloaded; whatever it starts and leaves behind becomes our child
//! too, so that we know when the last has gone.

pub(crate) mod library;
pub(crate) mod shelter;
pub(crate) mod signals;
pub(crate) mod spawn;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::address::Address;
use crate::connections::Limits;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::paths::DomainName;
use crate::server::{Admission, Lifetime, Rules, Server};
use crate::{autostart, hardening, host};

use library::Library;
use shelter::Shelter;
use signals::Signals;
pub(crate) use spawn::Outcome;

/// What to run, and with which keys.
pub(crate) struct Plan {
    /// The program and its arguments; at least the program.
    pub(crate) command: Vec<OsString>,
    /// The shared domain to run it in; none for a domain of its own.
    pub(crate) domain: Option<DomainName>,
    /// Seed for serials, or the kernel's randomness.
    pub(crate) seed: Option<u64>,
}

/// Runs a program until the last of its processes has gone.
pub(crate) fn run(plan: &Plan) -> Result<ExitCode, Fault> {
    let library = library::find()?;
    let outcome = match &plan.domain {
        Some(domain) => run_in_shared_domain(plan, domain, &library),
        None => run_in_own_domain(plan, &library),
    };
    outcome.map(Outcome::exit_code)
}

fn run_in_own_domain(plan: &Plan, library: &Library) -> Result<Outcome, Fault> {
    // Threads inherit the mask, and none but the main one may take a signal.
    let signals = Signals::take()?;
    let shelter = Shelter::open();
    let rules = Rules {
        admission: Admission::Family,
        limits: Limits::for_descriptors(hardening::descriptor_limit()),
        lifetime: Lifetime::UntilStopped,
        over: None,
    };
    let domain = Domain::new(host::entropy(plan.seed))?;
    let running = Server::start(domain, shelter.bind()?, rules)?;
    let outcome = run_program(plan, library, &shelter.addresses(), &signals, |pid| {
        running.server.domain().orphans.adopt_for(pid);
        hardening::conceal();
        hardening::raise_descriptors();
        hardening::lock_memory();
    });
    running.stop();
    shelter.remove();
    outcome
}

fn run_in_shared_domain(
    plan: &Plan,
    domain: &DomainName,
    library: &Library,
) -> Result<Outcome, Fault> {
    // Held until the end: the broker lives for as long as somebody is connected.
    let (_lease, addresses) = autostart::lease(domain, plan.seed)?;
    let signals = Signals::take()?;
    run_program(plan, library, &addresses, &signals, |_| ())
}

/// Starts the program, calls `started` with its id, and waits until all is over.
fn run_program(
    plan: &Plan,
    library: &Library,
    addresses: &[Address],
    signals: &Signals,
    started: impl FnOnce(u32),
) -> Result<Outcome, Fault> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(Fault::system("cannot adopt orphans", "this needs Linux 3.4 or later"))?;
    match spawn::start(&plan.command, library, addresses, signals.before) {
        Ok(pid) => {
            started(pid);
            signals.attend(pid)
        }
        Err(refused) => Ok(refused),
    }
}
