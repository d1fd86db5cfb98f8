//! The door: a datagram socket at which a client knocks, handing over one end of a
//! socket pair that it made.
//!
//! A datagram and not a listening socket, because a knock is one system call that
//! leaves nothing half open, and because the kernel then tells two things apart:
//! who knocked, and who made the pair. Both must be the same process.
//!
//! The client sets `SO_PASSCRED` on the end that it keeps before it knocks:
//! otherwise the kernel does not stamp what it sends before we have set it on
//! ours, and a message without a stamp ends the conversation.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use keyshim_abi::frame::KNOCK;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockType, getsockopt, recvmsg, setsockopt, sockopt,
};

use crate::fault::{CutOff, Fault};
use crate::identity::{self, Peer};
use crate::sys;

/// Descriptors that the kernel lets one message carry (`SCM_MAX_FD`). There is room
/// for all of them, so that it is we who decide where the unwanted are closed.
const DESCRIPTORS_MAX: usize = 253;

/// Somebody at the door.
pub(crate) enum Knock {
    /// A client, with its identity and our end of the conversation.
    Client(Peer, OwnedFd),
    /// Somebody who hands something over for us to answer for, with what goes with it,
    /// and waits at that socket for a word.
    Handover(Peer, OwnedFd, Handed),
    /// Nobody we talk to; these descriptors came with the message and are to be
    /// closed where closing may take its time.
    Unwanted(CutOff, Vec<OwnedFd>),
}

/// What was handed over; nobody has looked at it yet.
pub(crate) struct Handed {
    /// The descriptor.
    pub(crate) fd: OwnedFd,
    /// The byte that came with it.
    pub(crate) word: u8,
}

/// Makes a bound datagram socket into a door.
pub(crate) fn prepare(socket: &OwnedFd) -> Result<(), Fault> {
    setsockopt(socket, sockopt::PassCred, &true)
        .map_err(Fault::system("cannot ask for credentials", "report this with `keyshim doctor`"))
}

/// Takes the next knock; `None` when nobody is waiting.
pub(crate) fn next(door: &OwnedFd) -> Option<Knock> {
    let mut bytes = [0; KNOCK.len() + 2];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let mut control =
        nix::cmsg_space!(nix::sys::socket::UnixCredentials, [std::os::fd::RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(door.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
            Ok(message) => break message,
            Err(Errno::EINTR) => (),
            Err(_) => return None,
        }
    };
    let (mut sender, mut descriptors) = (None, Vec::new());
    for one in message.cmsgs().into_iter().flatten() {
        match one {
            ControlMessageOwned::ScmCredentials(stamp) => sender = identity::sender(&stamp),
            ControlMessageOwned::ScmRights(raw) => {
                descriptors.extend(raw.into_iter().map(sys::adopt));
            }
            _ => (),
        }
    }
    let len = message.bytes;
    let text = bytes.get(..len).unwrap_or_default();
    Some(match (text.strip_prefix(KNOCK), descriptors.len()) {
        (Some([]), 1) => judge(sender, descriptors),
        (Some(&[word]), 2) => judge_handover(sender, descriptors, word),
        _ => Knock::Unwanted(CutOff::Malformed, descriptors),
    })
}

fn judge(sender: Option<u32>, mut descriptors: Vec<OwnedFd>) -> Knock {
    let Some(socket) = descriptors.pop() else {
        return Knock::Unwanted(CutOff::Malformed, descriptors);
    };
    match welcome(&socket, sender) {
        Ok(peer) => Knock::Client(peer, socket),
        Err(reason) => Knock::Unwanted(reason, vec![socket]),
    }
}

fn judge_handover(sender: Option<u32>, mut descriptors: Vec<OwnedFd>, word: u8) -> Knock {
    let Some(fd) = descriptors.pop() else {
        return Knock::Unwanted(CutOff::Malformed, descriptors);
    };
    match judge(sender, descriptors) {
        Knock::Client(peer, socket) => Knock::Handover(peer, socket, Handed { fd, word }),
        Knock::Unwanted(reason, mut descriptors) => {
            descriptors.push(fd);
            Knock::Unwanted(reason, descriptors)
        }
        other => other,
    }
}

/// Looks at a descriptor that a stranger handed in. Only questions are asked that
/// cannot block: it may be a file on somebody's own file system.
fn welcome(socket: &OwnedFd, sender: Option<u32>) -> Result<Peer, CutOff> {
    let kind = getsockopt(socket, sockopt::SockType).map_err(|_| CutOff::Malformed)?;
    if kind != SockType::Stream {
        return Err(CutOff::Malformed);
    }
    let peer = Peer::of(socket)?;
    // Without a stamp: knocked before we were there, at a service manager's socket.
    // Every message that follows has one.
    if sender.is_some_and(|sender| sender != peer.pid) {
        return Err(CutOff::Stranger);
    }
    setsockopt(socket, sockopt::PassCred, &true).map_err(CutOff::Kernel)?;
    // Where the kernel cannot refuse them it drops them, for want of room.
    let _ = sys::refuse_descriptors(socket.as_fd());
    Ok(peer)
}
