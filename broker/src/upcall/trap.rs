//! The filter of a thread that starts helpers, which they inherit: made once, it costs them
//! nothing, and catches whatever a helper does to its environment.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::bounded;
use keyshim_abi::Errno;
use keyshim_abi::gate::GATES;
use once_cell::sync::Lazy;

use super::Helpers;
use crate::fault::Fault;
use crate::server::Server;
use crate::supervisor::channel::Listener;
use crate::supervisor::notify::{self, Terms};
use crate::supervisor::{Supervisor, filter, probe};
use crate::{pool, proc};

/// What lets a process put itself under a filter and give up nothing for it.
const CAP_SYS_ADMIN: u32 = 21;

thread_local! {
    /// Of a thread that starts helpers for one domain only.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// Whether helpers may get a filter that costs them nothing. To be asked before somebody waits
/// for any child of this process, and would find that of a trial.
pub(super) fn is_possible() -> bool {
    proc::capable(CAP_SYS_ADMIN) && (!notify::is_under_filter() || *WOULD_BE_ASKED)
}

/// True if no filter above us, which only a trial can tell, answers key calls before ours would.
static WOULD_BE_ASKED: Lazy<bool> = Lazy::new(|| {
    let outcome = probe::try_native().map(|trial| trial.outcome);
    tracing::debug!(?outcome, "helpers begin under a filter of somebody else");
    matches!(outcome, Ok(probe::Outcome::Caught))
});

/// Has the kernel trap the calls of all that this thread starts from now on, if it may do so
/// without taking anything from it.
pub(super) fn is_set(helpers: &Helpers, server: &Arc<Server>) -> Result<bool, Errno> {
    if !IS_SET.get() && helpers.may_trap.load(Ordering::Relaxed) {
        let outcome = set(helpers, server).map_err(|fault| {
            tracing::error!("no helper: {fault}");
            Errno::EAGAIN
        });
        helpers.may_trap.fetch_and(outcome?, Ordering::Relaxed);
    }
    Ok(IS_SET.get())
}

fn set(helpers: &Helpers, server: &Arc<Server>) -> Result<bool, Fault> {
    // Before anything that only the preloaded library could show them.
    if helpers.surroundings.library.is_some() && helpers.furnished(server).is_none() {
        return Ok(false);
    }
    let program = filter::program(GATES)?;
    // Started before there is a filter: it must not be under the one that it listens to.
    let (hand, takes) = bounded::<Listener>(1);
    let serving = Arc::clone(server);
    pool::run("receiver", move || {
        if let Ok(listener) = takes.recv() {
            Supervisor::new(&serving, listener).attend();
        }
    })?;
    match notify::install(&program, Terms { may_renounce: false, ..Terms::USUAL }) {
        Ok((fd, installed)) => {
            IS_SET.set(hand.send(Listener { fd, installed }).is_ok());
            Ok(true)
        }
        // By a listener above us, say, beside which the kernel has no other.
        Err(errno) => {
            tracing::info!(%errno, "helpers do not inherit a filter");
            Ok(false)
        }
    }
}
