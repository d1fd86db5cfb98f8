//! The filter of a thread that starts helpers, which they inherit: made once, it costs them
//! nothing, and catches whatever a helper does to its environment.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyshim_abi::Errno;
use keyshim_abi::gate::GATES;
use nix::errno::Errno as System;

use super::Helpers;
use crate::fault::Fault;
use crate::server::Server;
use crate::supervisor::channel::Listener;
use crate::supervisor::notify::{self, Terms};
use crate::supervisor::{Supervisor, filter};

#[derive(Clone, Copy)]
enum State {
    Free,
    Trapped,
    /// It has a filter that nobody listens to: what it starts would find no key service.
    Deaf,
}

thread_local! {
    /// Of a thread that starts helpers for one domain only.
    static STATE: Cell<State> = const { Cell::new(State::Free) };
}

/// Has the kernel trap the calls of all that this thread starts from now on, if it may do so
/// without taking anything from it. EAGAIN when nothing may be started here any more.
pub(super) fn is_set(helpers: &Helpers, server: &Arc<Server>) -> Result<bool, Errno> {
    match STATE.get() {
        State::Trapped => Ok(true),
        State::Deaf => Err(Errno::EAGAIN),
        State::Free if !helpers.may_trap.load(Ordering::Relaxed) => Ok(false),
        State::Free => set(helpers, server).map_err(|fault| {
            tracing::error!("no helper: {fault}");
            Errno::EAGAIN
        }),
    }
}

fn set(helpers: &Helpers, server: &Arc<Server>) -> Result<bool, Fault> {
    let program = filter::program(GATES)?;
    let listener = match notify::install(&program, Terms { may_renounce: false, ..Terms::USUAL }) {
        Ok((fd, installed)) => Listener { fd, installed },
        Err(errno) => {
            refused(helpers, errno);
            return Ok(false);
        }
    };
    STATE.set(State::Deaf);
    Supervisor::start(server, listener)?;
    STATE.set(State::Trapped);
    Ok(true)
}

/// By a listener above us, say, beside which the kernel has no other.
fn refused(helpers: &Helpers, errno: System) {
    tracing::info!(%errno, "helpers do not inherit a filter");
    helpers.may_trap.store(false, Ordering::Relaxed);
}
