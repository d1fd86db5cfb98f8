//! What changes hands: `keyshim run` in a shared domain has put a program under a filter,
//! and files of ours under its `/proc`; the broker of that domain answers for both.
//!
//! The broker believes nobody's word for who calls: it takes the calls from the kernel
//! itself, which says whose each is. What it then needs is the right to look into the
//! caller's memory. Only its own user's are taken.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyshim_abi::frame::KNOCK;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg, setsockopt, sockopt};

use super::notify::Installed;
use super::{Listener, Supervisor};
use crate::address::Address;
use crate::door::Handed;
use crate::fault::Fault;
use crate::server::Server;
use crate::{keyfs, procfiles};

/// What the broker says when it has begun to answer.
const TAKEN: &[u8] = b"y";
/// How long it may take for that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Listeners, and file systems, that are taken at a time; each costs a thread.
pub(crate) const LISTENERS_MAX: usize = 256;

/// Hands a listener to the broker behind the first of these doors that opens; returns
/// once the broker answers.
pub(crate) fn hand_over(addresses: &[Address], listener: &Listener) -> Result<(), Fault> {
    hand(addresses, &listener.fd, listener.installed.encode()).map(drop)
}

/// The same for the device of a file system.
pub(crate) fn hand_over_device(addresses: &[Address], device: &OwnedFd) -> Result<(), Fault> {
    hand(addresses, device, 0).map(drop)
}

/// The same for the device of a domain that is being mounted: a line that is cut when nobody
/// answers for it any more.
pub(crate) fn hand_over_keyfs(
    addresses: &[Address],
    device: &OwnedFd,
) -> Result<UnixStream, Fault> {
    hand(addresses, device, keyfs::WORD)
}

fn hand(addresses: &[Address], fd: &OwnedFd, word: u8) -> Result<UnixStream, Fault> {
    let next = "see why with KEYSHIM_LOG=info, or say --mode preload";
    let failed = || Fault::system("cannot hand a program's calls to the broker", next);
    let doors = || addresses.iter().map(Address::connect);
    let door = doors().find_map(Result::ok);
    let door = door.ok_or(Errno::ECONNREFUSED).map_err(failed())?;
    let mut line = knock(&door, fd, word).map_err(failed())?;
    let mut word = [0; TAKEN.len()];
    let heard = line.set_read_timeout(Some(PATIENCE)).and_then(|()| line.read_exact(&mut word));
    match heard {
        Ok(()) if word == TAKEN => Ok(line),
        _ => Err(failed()(Errno::ECONNREFUSED)),
    }
}

/// As a client does, with a second descriptor, and behind the knock what goes with it.
fn knock(door: &OwnedFd, fd: &OwnedFd, word: u8) -> Result<UnixStream, Errno> {
    let pair = UnixStream::pair();
    let (ours, theirs) =
        pair.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    setsockopt(&ours, sockopt::PassCred, &true)?;
    let word = [word];
    let bytes = [IoSlice::new(KNOCK), IoSlice::new(&word)];
    let descriptors = [theirs.as_raw_fd(), fd.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(door.as_raw_fd(), &bytes, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(ours)
}

/// Answers for what our own user has handed over, and says so. What is neither a listener
/// nor the device of a file system comes back.
pub(crate) fn take_over(server: &Arc<Server>, line: &OwnedFd, handed: Handed) -> Option<OwnedFd> {
    let Handed { fd, word } = handed;
    let taken = match kind(&fd).as_deref() {
        Some("anon_inode:seccomp notify") => {
            let has_room = server.listeners.load(Ordering::Relaxed) < LISTENERS_MAX;
            let listener = Listener { fd, installed: Installed::decode(word) };
            has_room.then(|| Supervisor::start(server, listener))
        }
        Some(procfiles::DEVICE) if word == keyfs::WORD => {
            line.try_clone().ok().and_then(|line| keyfs::answer_for(server, fd, line))
        }
        Some(procfiles::DEVICE) => procfiles::answer_for(server, fd),
        _ => return Some(fd),
    };
    match taken {
        Some(Ok(())) => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(line.as_raw_fd(), TAKEN, flags);
        }
        Some(Err(fault)) => tracing::error!("nothing is taken over: {fault}"),
        None => tracing::warn!("nothing is taken over: there are {LISTENERS_MAX} already"),
    }
    None
}

/// What the kernel calls it: whatever else somebody hands in might make those wait who
/// use it so.
fn kind(fd: &OwnedFd) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    link.into_os_string().into_string().ok()
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
