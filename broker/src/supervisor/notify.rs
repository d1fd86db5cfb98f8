//! The kernel's side of user notification: installing a filter, taking and answering
//! notifications (`seccomp_unotify(2)`). No decision is made here.
#![allow(unsafe_code)] // Raw system calls; each block states what makes it sound.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use seccompiler::sock_filter;

use super::channel;

/// One trapped call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Its number, by which it is answered.
    pub(crate) id: u64,
    /// The calling thread as our pid namespace numbers it; 0 if it is not in there.
    pub(crate) tid: u32,
    /// `AUDIT_ARCH_*` of the gate.
    pub(crate) arch: u32,
    /// The number of the system call there.
    pub(crate) number: i32,
    /// Where it was made: the address behind the instruction.
    pub(crate) instruction: u64,
    /// Its first five registers.
    pub(crate) args: [u64; 5],
}

/// Waits for the next trapped call. EINTR and ENOENT mean that there was one no
/// longer, or that no program is left under the filter.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: plain integers, for which all zeroes are valid; the kernel wants zeroes.
    let mut raw: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the request number encodes the structure's size, the kernel writes no
    // more than that, and `raw` lives until the call returns.
    let done =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
    Errno::result(done)?;
    let [a, b, c, d, e, _] = raw.data.args;
    Ok(Notification {
        id: raw.id,
        tid: raw.pid,
        arch: raw.data.arch,
        number: raw.data.nr,
        instruction: raw.data.instruction_pointer,
        args: [a, b, c, d, e],
    })
}

/// Answers a call with what it is to return, negative for an error. ENOENT when its
/// thread does not wait for an answer any more.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, value: i64) -> Result<(), Errno> {
    let error = i32::try_from(value).ok().filter(|error| (-4095..0).contains(error)).unwrap_or(0);
    let val = if error == 0 { value } else { 0 };
    let mut response = libc::seccomp_notif_resp { id, val, error, flags: 0 };
    // SAFETY: the kernel reads one structure of the size that the request number
    // encodes, and `response` lives until the call returns.
    let done = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response)
    };
    Errno::result(done).map(drop)
}

/// True while the thread of that call still waits for its answer: then what was read
/// by its number before was read of that very thread.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one number, which lives until the call returns.
    let done = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
    };
    done == 0
}

/// Has the kernel wake us, and the caller again, on one CPU (Linux 6.6); EINVAL or
/// ENOTTY before.
pub(crate) fn wake_in_turn(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the argument is the flags themselves, no pointer.
    let done = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
    };
    Errno::result(done).map(drop)
}

/// How a filter came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installed {
    /// A call that was received is not interrupted but by a fatal signal
    /// (`WAIT_KILLABLE_RECV`, Linux 5.19).
    pub(crate) is_killable_only: bool,
    /// The thread had to give up for it what execve could gain.
    pub(crate) has_renounced: bool,
}

impl Installed {
    /// As one byte of a message.
    pub(crate) const fn encode(self) -> u8 {
        self.is_killable_only as u8 | (self.has_renounced as u8) << 1
    }

    /// What [`send_listener`] has sent.
    pub(crate) const fn decode(byte: u8) -> Installed {
        Installed { is_killable_only: byte & 1 != 0, has_renounced: byte & 2 != 0 }
    }
}

/// True when there is a filter over this thread already, or nobody says.
pub(crate) fn is_under_filter() -> bool {
    // SAFETY: the call takes integers and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) != 0 }
}

/// How a filter is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whoever lacks `CAP_SYS_ADMIN` may give up for good what execve could gain
    /// (`PR_SET_NO_NEW_PRIVS`).
    pub(crate) may_renounce: bool,
    /// Ask for `WAIT_KILLABLE_RECV`. Only tests do without, to be as on a kernel
    /// that has not got it.
    pub(crate) killable_only: bool,
}

impl Terms {
    /// Whatever it takes, and with all that the kernel has.
    pub(crate) const USUAL: Terms = Terms { may_renounce: true, killable_only: true };
}

/// Puts this thread under a filter: its listener. EBUSY when a listener is there
/// already, EACCES without a right to do so. Async-signal-safe.
pub(crate) fn install(
    program: &[sock_filter],
    terms: Terms,
) -> Result<(OwnedFd, Installed), Errno> {
    let mut is_killable_only = terms.killable_only;
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut outcome = install_with(program, if is_killable_only { killable } else { 0 });
    if outcome == Err(Errno::EINVAL) && is_killable_only {
        is_killable_only = false;
        outcome = install_with(program, 0);
    }
    if outcome == Err(Errno::EACCES) && terms.may_renounce {
        // SAFETY: the call takes integers and touches no memory of ours.
        let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        Errno::result(done)?;
        let (listener, installed) = install(program, Terms { may_renounce: false, ..terms })?;
        return Ok((listener, Installed { has_renounced: true, ..installed }));
    }
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    let listener = outcome.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })?;
    Ok((listener, Installed { is_killable_only, has_renounced: false }))
}

fn install_with(program: &[sock_filter], flags: libc::c_ulong) -> Result<RawFd, Errno> {
    let flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let program = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` names that many instructions, laid out as the kernel has
    // them (seccompiler's type is a copy of its); it copies them and writes nothing.
    let fd = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    Errno::result(fd).map(|fd| fd as RawFd)
}

/// Has a program begin under this filter, and its listener sent over `channel`,
/// which must be a socket that is closed on execve; or why there is none, with which
/// a program begins only where the filter `is_optional`.
pub(crate) fn begin_under_filter(
    command: &mut Command,
    program: Vec<sock_filter>,
    channel: OwnedFd,
    terms: Terms,
    is_optional: bool,
) {
    let enter = move || -> io::Result<()> {
        match install(&program, terms) {
            Ok((listener, installed)) => {
                send_listener(channel.as_fd(), listener.as_fd(), installed)?;
            }
            Err(errno) => {
                channel::send_refusal(channel.as_fd(), errno)?;
                if !is_optional {
                    return Err(errno.into());
                }
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls, which are
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

/// A message of one descriptor, with room for its header and no more.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

// SAFETY: arithmetic on a length.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;

/// Sends a listener and how it came to be. Async-signal-safe, as nix's is not.
pub(crate) fn send_listener(
    channel: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    installed: Installed,
) -> Result<(), Errno> {
    let mut word = [installed.encode()];
    let mut data = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: word.len() };
    let mut control = Control([0; CONTROL_LEN]);
    // SAFETY: plain integers and pointers, for which all zeroes are valid.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_LEN as _;
    // SAFETY: `control` is aligned and has room for one header and one descriptor;
    // everything that `message` points to lives until sendmsg returns.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(listener.as_raw_fd());
        libc::sendmsg(channel.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    Errno::result(sent).map(drop)
}
