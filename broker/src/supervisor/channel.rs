//! What a child that was to begin under a filter has to say of it, before it becomes
//! a program: over a pair of sockets, each word a message.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType};
use nix::sys::socket::{recvmsg, send, socketpair};

use super::notify::Installed;
use crate::fault::Fault;
use crate::sys;

/// A listener and how it came to be.
pub(crate) struct Listener {
    /// The descriptor.
    pub(crate) fd: OwnedFd,
    /// What its kernel can do.
    pub(crate) installed: Installed,
}

/// One word.
pub(crate) enum Word {
    /// The filter is in its place.
    Installed(Listener),
    /// It could not be had.
    Refused(Errno),
    /// The call that was tried has returned this.
    Returned(i64),
}

/// Our end and the child's; both are closed on execve.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Fault> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(Fault::system("cannot make a socket pair", "raise the limit of open files"))
}

/// The next word, if there is one.
pub(crate) fn next(channel: &OwnedFd) -> Option<Word> {
    receive(channel, MsgFlags::MSG_DONTWAIT)
}

/// The same once there is one; `None` when there comes none any more.
pub(crate) fn awaited(channel: &OwnedFd) -> Option<Word> {
    receive(channel, MsgFlags::empty())
}

fn receive(channel: &OwnedFd, flags: MsgFlags) -> Option<Word> {
    let mut bytes = [0; 8];
    let mut data = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(RawFd);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(channel.as_raw_fd(), &mut data, Some(&mut control), flags).ok()?;
    let fd = message.cmsgs().ok()?.find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match (message.bytes, fd) {
        (1, Some(fd)) => {
            let installed = Installed::decode(bytes[0]);
            Some(Word::Installed(Listener { fd: sys::adopt(fd), installed }))
        }
        (4, None) => {
            let [a, b, c, d, ..] = bytes;
            Some(Word::Refused(Errno::from_raw(i32::from_ne_bytes([a, b, c, d]))))
        }
        (8, None) => Some(Word::Returned(i64::from_ne_bytes(bytes))),
        _ => None,
    }
}

/// Says why there is no filter. Async-signal-safe.
pub(crate) fn send_refusal(channel: BorrowedFd<'_>, errno: Errno) -> Result<(), Errno> {
    say(channel, &(errno as i32).to_ne_bytes())
}

/// Says what a call has returned. Async-signal-safe.
pub(crate) fn send_value(channel: BorrowedFd<'_>, value: i64) -> Result<(), Errno> {
    say(channel, &value.to_ne_bytes())
}

fn say(channel: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    send(channel.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::supervisor::notify::{self, Terms};

    /// A filter that no kernel takes: it has no instruction.
    fn under_nothing(is_optional: bool) -> (std::io::Result<std::process::Child>, Option<Word>) {
        let (ours, theirs) = pair().unwrap();
        let mut command = Command::new("true");
        notify::begin_under_filter(&mut command, Vec::new(), theirs, Terms::USUAL, is_optional);
        let child = command.spawn();
        drop(command);
        let word = next(&ours);
        assert!(next(&ours).is_none());
        (child, word)
    }

    #[test]
    fn a_program_begins_without_a_filter_that_it_can_do_without() {
        let (child, word) = under_nothing(true);
        assert!(child.unwrap().wait().unwrap().success());
        assert!(matches!(word, Some(Word::Refused(Errno::EINVAL))));
    }

    #[test]
    fn a_program_does_not_begin_without_a_filter_that_it_must_have() {
        let (child, word) = under_nothing(false);
        assert_eq!(child.unwrap_err().raw_os_error(), Some(Errno::EINVAL as i32));
        assert!(matches!(word, Some(Word::Refused(Errno::EINVAL))));
    }
}
