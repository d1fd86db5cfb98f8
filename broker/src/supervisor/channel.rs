//! What a child that was to begin under a filter has to say of it, before it becomes
//! a program: over a pair of sockets, each word a message.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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
    match received(channel) {
        // A child that has ended without reading all of ours: its last words are behind this.
        Err(Errno::ECONNRESET) => received(channel).ok()?,
        word => word.ok()?,
    }
}

fn received(channel: &OwnedFd) -> Result<Option<Word>, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut bytes = [0; 8];
    let mut data = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(channel.as_raw_fd(), &mut data, Some(&mut control), flags)?;
    let fd = message.cmsgs()?.find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    Ok(match (message.bytes, fd) {
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
    })
}

/// The same once there is one; `None` when there comes none any more. ETIMEDOUT when there
/// is none by then.
pub(crate) fn awaited(channel: &OwnedFd, by: Option<Instant>) -> Result<Option<Word>, Errno> {
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, until(by)) {
            Ok(0) if by.is_some_and(|by| by <= Instant::now()) => return Err(Errno::ETIMEDOUT),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(next(channel)),
            Err(errno) => return Err(errno),
        }
    }
}

/// As poll(2) has it, rounded up, lest it be asked again and again in the last millisecond.
pub(crate) fn until(by: Option<Instant>) -> PollTimeout {
    let Some(by) = by else { return PollTimeout::NONE };
    let rest = by.saturating_duration_since(Instant::now());
    PollTimeout::try_from(rest.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
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
    fn the_last_words_are_heard_of_who_did_not_listen() {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL).unwrap();
        send_refusal(theirs.as_fd(), Errno::EBUSY).unwrap();
        send_value(theirs.as_fd(), -1).unwrap();
        drop(theirs);
        assert!(matches!(awaited(&ours, None), Ok(Some(Word::Refused(Errno::EBUSY)))));
        assert!(matches!(awaited(&ours, None), Ok(Some(Word::Returned(-1)))));
        assert!(matches!(awaited(&ours, None), Ok(None)));
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
