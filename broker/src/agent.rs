//! `keyshim agent`: a domain for each container whose runtime hands over the listener
//! of its seccomp filter (`linux.seccomp.listenerPath` of the runtime specification).
//!
//! [`reception`] takes what runtimes say, [`protocol`] reads it, [`containers`] puts
//! it into a domain and gives it a thread, which is all that a container's calls need; [`session`] is what its
//! first program begins with.
//! [`crew`] serves who looks into a domain by its door in [`doors`].
//!
//! When the agent ends, listeners close: programs see a kernel without keys (ENOSYS)
//! for as long as they live, and no later agent can take them up.

mod containers;
mod crew;
mod doors;
mod name;
mod protocol;
mod reception;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::bounded;
use nix::sys::socket::SockType;
use sd_notify::NotifyState;

use crate::address::Address;
use crate::domain::Beginning;
use crate::fault::Fault;
use crate::run::signals::Signals;
use crate::server::{TO_CLOSE_MAX, spawn};
use crate::service::{Post, beside};
use crate::{hardening, sys};
use containers::Containers;
use doors::Doors;
use reception::{News, Reception};

/// Extension of the directory of doors beside a socket.
const DOMAINS: &str = ".d";
/// Bytes of a block that goes back to the system as soon as a container has gone: each
/// has one of 16 MiB for requests to its files, of which it uses the beginning.
const LARGE_BLOCK_LEN: i32 = 4 << 20;

/// What an agent does.
pub(crate) struct Plan {
    /// Where runtimes call.
    pub(crate) address: Address,
    /// Who may use the socket's file, as in chmod(2).
    pub(crate) mode: u32,
    /// Where the domains' doors are; beside the socket's path if nobody says.
    pub(crate) domains: Option<PathBuf>,
    /// How the containers' domains begin.
    pub(crate) beginning: Beginning,
}

/// Serves until it is told to stop.
pub(crate) fn serve(plan: &Plan) -> Result<(), Fault> {
    let signals = Signals::take()?;
    let post = Post::open(&plan.address, plan.mode, SockType::Stream);
    let mut post = post.map_err(|refusal| refusal.told(&plan.address))?;
    let sockets = std::mem::take(&mut post.doors);
    let directory = plan.domains.clone();
    let directory = directory.or_else(|| post.path().map(|path| beside(path, DOMAINS)));
    let doors = directory.map(|path| Doors::open(&path)).transpose()?;
    hardening::conceal();
    hardening::raise_descriptors();
    hardening::lock_memory();
    sys::return_blocks_from(LARGE_BLOCK_LEN);
    let (bell, hears) = bounded(1);
    let (to_close, closing) = bounded(TO_CLOSE_MAX);
    let containers = Arc::new(Containers::new(doors, bell, to_close, plan.beginning.clone())?);
    // Never waited for: closing a stranger's descriptor may take for ever.
    spawn("closing".into(), move || closing.into_iter().for_each(drop))?;
    let keeper = Arc::clone(&containers);
    spawn("housekeeping".into(), move || crew::keep(&keeper, &hears))?;
    let mut workers = Vec::new();
    for number in 0..crew::WORKERS {
        let containers = Arc::clone(&containers);
        workers.push(spawn(format!("worker {number}"), move || crew::work(&containers))?);
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let attended = Reception::new(sockets).attend(&signals, |news| match news {
        News::Unwanted(descriptors) => containers.close(descriptors),
        News::Arrival(arrival) => {
            let container = arrival.introduction.container.clone();
            if let Err(fault) = containers.admit(arrival) {
                tracing::error!(container, "a container has no keys: {fault}");
            }
        }
    });
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    drop(post);
    containers.stop();
    for worker in workers {
        let _ = worker.join();
    }
    attended
}
