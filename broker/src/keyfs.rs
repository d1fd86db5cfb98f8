//! `keyshim mount`: a domain as directories and files (docs/KEYFS.md). Each file operation is
//! a call in the name of the thread that the kernel holds in it.
//!
//! The command opens the device and makes the mount; the process that has the domain answers
//! ([`answer_for`]); a keeper, which is left behind, unmounts when it does not any more.

mod act;
mod attributes;
mod filesystem;
mod handles;
pub(crate) mod keeper;
mod links;
mod mode;
mod mount;
mod name;
mod nodes;
mod payload;
mod tree;
mod xattrs;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fuser::{Config, Errno, INodeNo, Request, Session, SessionACL};
use keyshim_abi::Serial;

use crate::fault::Fault;
use crate::identity::Peer;
use crate::server::{self, Server};
use crate::show::Where;
use crate::supervisor::handover;
use act::Act;
use handles::Handles;
use nodes::{Node, Nodes};

/// What goes with the device when it is handed over.
pub(crate) const WORD: u8 = 1;

/// A mounted domain.
struct Keyfs {
    server: Arc<Server>,
    /// When it was mounted: the time of what has none.
    since: SystemTime,
    state: Mutex<State>,
}

/// What is kept of it between two operations.
#[derive(Default)]
struct State {
    nodes: Nodes,
    handles: Handles,
}

impl State {
    /// What a number stands for. ENOENT when it was forgotten.
    fn node(&self, number: INodeNo) -> Result<Node, Errno> {
        self.nodes.get(number).ok_or(Errno::ENOENT)
    }

    /// The keyring that links are made in. EPERM for a directory that is none.
    fn ring(&self, number: INodeNo) -> Result<Serial, Errno> {
        match self.node(number)? {
            Node::Ring(serial) => Ok(serial),
            _ => Err(Errno::EPERM),
        }
    }
}

impl Keyfs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, who: &Request) -> Result<Act<'_>, Errno> {
        Act::begin(&self.server, who)
    }
}

/// Mounts a domain and leaves a keeper behind.
pub(crate) fn mount(directory: &Path, place: &Where) -> Result<(), Fault> {
    mount::clear_dead(directory)?;
    let next = "name a directory";
    let directory =
        directory.canonicalize().map_err(Fault::file("cannot mount on", directory, next))?;
    let made = mount::Made::new(&directory)?;
    let line = handover::hand_over_keyfs(&place.addresses(), made.device())?;
    let id = made.put(&directory)?;
    keeper::leave(&directory, id, line)
}

/// File systems that are answered for.
static MOUNTED: AtomicUsize = AtomicUsize::new(0);

/// Answers for a mounted domain, and holds on to the line to its keeper meanwhile. `None` when
/// there are too many, or the device is of another pid namespace.
pub(crate) fn answer_for(
    server: &Arc<Server>,
    device: OwnedFd,
    line: OwnedFd,
) -> Option<Result<(), Fault>> {
    if !is_of_our_pid_namespace(&line) {
        tracing::warn!("a mount from another pid namespace, whose callers have other numbers");
        return None;
    }
    if MOUNTED.fetch_add(1, Ordering::Relaxed) >= handover::LISTENERS_MAX {
        MOUNTED.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let server = Arc::clone(server);
    let attendant = server::spawn("keyfs".into(), move || {
        if let Err(error) = attend(server, device) {
            tracing::warn!(%error, "a mounted domain is not answered for any more");
        }
        drop(line);
        MOUNTED.fetch_sub(1, Ordering::Relaxed);
    });
    if attendant.is_err() {
        MOUNTED.fetch_sub(1, Ordering::Relaxed);
    }
    Some(attendant.map(drop))
}

/// Returns when it was unmounted.
fn attend(server: Arc<Server>, device: OwnedFd) -> io::Result<()> {
    let keyfs = Keyfs { server, since: attributes::present(), state: Mutex::default() };
    Session::from_fd(keyfs, device, SessionACL::All, Config::default())?.run()
}

fn is_of_our_pid_namespace(line: &OwnedFd) -> bool {
    let namespace = |task: &str| std::fs::read_link(format!("/proc/{task}/ns/pid")).ok();
    let theirs = Peer::of(line).ok().and_then(|peer| namespace(&peer.pid.to_string()));
    theirs.is_some() && theirs == namespace("self")
}
