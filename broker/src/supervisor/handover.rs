//! A listener changes hands: `keyshim run` in a shared domain has put a program under a
//! filter, and the broker of that domain answers its calls.
//!
//! The broker believes nobody's word for who calls: it takes the calls from the kernel
//! itself, which says whose each is. What it then needs is the right to look into the
//! caller's memory. Only its own user's listeners are taken.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyshim_abi::frame::KNOCK;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg, setsockopt, sockopt};

use super::{Listener, Supervisor};
use crate::address::Address;
use crate::fault::Fault;
use crate::server::Server;

/// What the broker says when it has begun to answer.
const TAKEN: &[u8] = b"y";
/// How long it may take for that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Listeners that one domain has at a time; each costs threads.
const LISTENERS_MAX: usize = 256;

/// Hands a listener to the broker behind the first of these doors that opens; returns
/// once the broker answers.
pub(crate) fn hand_over(addresses: &[Address], listener: &Listener) -> Result<(), Fault> {
    let next = "see why with KEYSHIM_LOG=info, or say --mode preload";
    let failed = || Fault::system("cannot hand the program's listener to the broker", next);
    let doors = || addresses.iter().map(Address::connect);
    let door = doors().find_map(Result::ok);
    let door = door.ok_or(Errno::ECONNREFUSED).map_err(failed())?;
    let mut line = knock(&door, listener).map_err(failed())?;
    let mut word = [0; TAKEN.len()];
    let heard = line.set_read_timeout(Some(PATIENCE)).and_then(|()| line.read_exact(&mut word));
    match heard {
        Ok(()) if word == TAKEN => Ok(()),
        _ => Err(failed()(Errno::ECONNREFUSED)),
    }
}

/// As a client does, with a second descriptor, and behind the knock what goes with it.
fn knock(door: &OwnedFd, listener: &Listener) -> Result<UnixStream, Errno> {
    let pair = UnixStream::pair();
    let (ours, theirs) =
        pair.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    setsockopt(&ours, sockopt::PassCred, &true)?;
    let installed = [listener.installed.encode()];
    let bytes = [IoSlice::new(KNOCK), IoSlice::new(&installed)];
    let descriptors = [theirs.as_raw_fd(), listener.fd.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(door.as_raw_fd(), &bytes, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(ours)
}

/// Answers the calls of a listener that was handed over, and says so.
pub(crate) fn take_over(server: &Arc<Server>, line: &OwnedFd, listener: Listener) {
    if server.listeners.load(Ordering::Relaxed) >= LISTENERS_MAX {
        tracing::warn!("a listener is not taken over: there are {LISTENERS_MAX}");
        return;
    }
    match Supervisor::start(server, listener) {
        Ok(()) => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(line.as_raw_fd(), TAKEN, flags);
        }
        Err(fault) => tracing::error!("a listener is not taken over: {fault}"),
    }
}

/// True for what the kernel calls a listener. Whatever else a stranger hands in might
/// make those wait who use it so.
pub(crate) fn is_listener(fd: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str() == "anon_inode:seccomp notify")
}

/// True if the kernel lets the broker of a shared domain look into our programs, none of
/// which it has started: the Yama security module may forbid it.
pub(crate) fn broker_may_look() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    match scope.as_deref().map(str::trim) {
        Err(_) | Ok("0") => true,
        Ok("3") => false,
        Ok(_) => nix::unistd::geteuid().is_root(),
    }
}
