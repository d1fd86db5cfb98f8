//! The few system calls for which nix has no safe function.
//!
//! The only file of the broker with unsafe code, but for nothing else: no
//! decision is made here.
#![allow(unsafe_code)] // Raw system calls; each block states what makes it sound.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{self, SigHandler, SigSet, Signal};

/// Not to be passed descriptors (`SO_PASSRIGHTS`, Linux 6.16).
const SO_PASSRIGHTS: libc::c_int = 83;

/// Takes ownership of a descriptor that recvmsg(2) has just installed, or that the
/// service manager opened for us.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass only numbers out of SCM_RIGHTS of a message that they
    // received a moment ago, or out of LISTEN_FDS, once: the descriptor was made for
    // us, and nothing else in this process knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A pidfd of that process or, with `PIDFD_THREAD`, of that thread.
pub(crate) fn pidfd_open(id: u32, flags: libc::c_uint) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, flags) };
    let fd = Errno::result(raw)? as RawFd;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Kills a process by its pidfd.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo the kernel reads nothing of ours.
    let raw = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, null, 0)
    };
    Errno::result(raw).map(drop)
}

/// What the kernel says of a pidfd's task (`PIDFD_GET_INFO`, Linux 6.13). ENOTTY
/// where the kernel does not know the question, ESRCH when the task has gone.
pub(crate) fn pidfd_info(pidfd: BorrowedFd<'_>) -> Result<libc::pidfd_info, Errno> {
    // SAFETY: the structure is plain integers, for which all zeroes are valid.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CREDS);
    // SAFETY: the request number encodes the structure's size, the kernel writes
    // no more than that, and `info` lives until the call returns.
    let raw = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    Errno::result(raw).map(|_| info)
}

/// The user that owns a user namespace, as our own namespace numbers users
/// (`NS_GET_OWNER_UID`).
pub(crate) fn namespace_owner(namespace: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the kernel writes one `uid_t`, and `owner` lives until the call returns.
    let raw = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut owner) };
    Errno::result(raw).map(|_| owner)
}

/// Makes the kernel refuse descriptors that a peer would pass on this socket.
/// ENOPROTOOPT before Linux 6.16.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let off: libc::c_int = 0;
    // SAFETY: pointer and length describe `off`, which lives until the call returns.
    let raw = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(raw).map(drop)
}

/// Takes leave of one child that has ended: its id and status. `None` while all
/// live, ECHILD when there are none. (nix cannot tell of a child that a real-time
/// signal ended.)
pub(crate) fn reap() -> Result<Option<(u32, i32)>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer, and `status` lives until the call returns.
    let raw = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let pid = Errno::result(raw)?;
    Ok((pid > 0).then_some((pid as u32, status)))
}

/// Gives a signal its default action again, which a parent may have changed.
pub(crate) fn default_action(signal: Signal) -> Result<(), Errno> {
    // SAFETY: no handler is installed, so that no code runs in a signal's context.
    unsafe { signal::signal(signal, SigHandler::SigDfl) }.map(drop)
}

/// Closes every descriptor but standard input, output and error.
pub(crate) fn close_inherited() -> Result<(), Errno> {
    // SAFETY: called first of all in a process of its own, before anything here has
    // opened a descriptor: what is open belongs to whoever started us.
    let raw = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    Errno::result(raw).map(drop)
}

/// A socket on the kernel's connector, over which it tells of tasks (`NETLINK_CONNECTOR`).
/// EPROTONOSUPPORT in any but the first network namespace.
pub(crate) fn connector_socket() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
    let fd = Errno::result(raw)?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// KEYCTL_CAPABILITIES without a buffer, through libc as any program would call it:
/// asks whoever answers this process's key calls, and changes nothing.
pub(crate) fn keyctl_capabilities() -> Result<u32, Errno> {
    const CAPABILITIES: libc::c_long = keyshim_abi::uapi::keyctl::CAPABILITIES as libc::c_long;
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: a buffer of no length is never written to.
    let raw = unsafe { libc::syscall(libc::SYS_keyctl, CAPABILITIES, null, 0usize) };
    Errno::result(raw).map(|len| len as u32)
}

/// Has the allocator give memory of that many bytes and more back to the system as soon
/// as it is free, and take it from there untouched. Of itself glibc raises that bound
/// with the largest block that was given back.
#[cfg(target_env = "gnu")]
pub(crate) fn return_blocks_from(len: i32) {
    // SAFETY: the call takes two integers, sets a bound of the allocator, and is allowed
    // at any time.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, len) };
}

/// There is no such bound to set.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn return_blocks_from(_len: i32) {}

/// Has a program begin with this signal mask, whatever ours is when it is started.
pub(crate) fn begin_with_mask(command: &mut Command, mask: SigSet) {
    // SAFETY: between fork and exec the closure makes one system call, which is
    // async-signal-safe, and touches nothing but its own copy of the mask.
    unsafe { command.pre_exec(move || Ok(mask.thread_set_mask()?)) };
}

/// Descriptors that the kernel lets one message carry (`SCM_MAX_FD`).
const DESCRIPTORS_MAX: usize = 253;
// SAFETY: arithmetic on a length.
const CONTROL_LEN: usize =
    unsafe { libc::CMSG_SPACE((DESCRIPTORS_MAX * size_of::<RawFd>()) as u32) } as usize;

/// Room for what comes beside a message, aligned as its headers are.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Takes what has come on a stream socket, without waiting, and every descriptor with
/// it: also those that came when there was no number left for the next. (nix tells of
/// none then, and they would stay open for ever.)
pub(crate) fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut data = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: plain integers and pointers, for which all zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_LEN as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` describes `into` and `control`, which live until the call returns.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let len = Errno::result(len)? as usize;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written whole headers into `control` and says in `message`
    // how far.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: it is null or points to a header within `control`, which is aligned for it.
    while let Some(one) = unsafe { header.as_ref() } {
        if (one.cmsg_level, one.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: arithmetic on a length.
            let head_len = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = one.cmsg_len.saturating_sub(head_len) / size_of::<RawFd>();
            // SAFETY: behind the header stand as many descriptors as its length says.
            let raw = unsafe { std::slice::from_raw_parts(libc::CMSG_DATA(header).cast(), count) };
            descriptors.extend(raw.iter().map(|&fd| adopt(fd)));
        }
        // SAFETY: `header` is the one before, in the same message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((len, descriptors))
}
