//! Forking a helper, held back until the domain knows it.
#![allow(unsafe_code)] // fork, in memory that is shared; each block states what makes it sound

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::child::{Child, Orders, Start};
use crate::identity;
use crate::supervisor::channel::{self, Listener};

/// Bytes of the stack that a child has before its program.
const STACK_LEN: usize = 64 * 1024;
/// Bytes on either side of a thread's address within which libc keeps what it keeps of it.
const THREAD_LOCAL_REACH: usize = 16 * 1024;

/// A child, before its program and after.
pub(super) struct Held {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    channel: OwnedFd,
    /// What it uses of ours before its program.
    used: Option<(Box<Child>, Memory)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if identity::is_alive(self.pidfd.as_fd()) {
            // Nobody knows whether it has begun its program.
            std::mem::forget(self.used.take());
        }
    }
}

/// Forks a helper, which is not to execute its program before [`Held::let_go`].
///
/// It has our memory until then, which spares it a copy. One that joins its requester's
/// namespaces has a copy: nobody there is to come near ours.
pub(super) fn fork_held(
    start: Start<'_>,
    orders: Orders,
    output: BorrowedFd<'_>,
    ignored: &Arc<[c_int]>,
) -> Result<Held, Errno> {
    let shares = !start.is_of_requester && Memory::has_room_for_errno();
    fork_with(start, OnceLock::from(orders), shares, output, ignored)
}

/// Forks a helper of which nobody knows yet what program it will be: [`Held::order`].
pub(super) fn fork_in_reserve(
    start: Start<'_>,
    output: BorrowedFd<'_>,
    ignored: &Arc<[c_int]>,
) -> Result<Held, Errno> {
    if start.is_of_requester || !Memory::has_room_for_errno() {
        // Orders would not reach it.
        return Err(Errno::ENOTSUP);
    }
    fork_with(start, OnceLock::new(), true, output, ignored)
}

fn fork_with(
    start: Start<'_>,
    orders: OnceLock<Orders>,
    shares: bool,
    output: BorrowedFd<'_>,
    ignored: &Arc<[c_int]>,
) -> Result<Held, Errno> {
    let (channel, theirs) = channel::pair().map_err(|_| Errno::EMFILE)?;
    let mut memory = Memory::new();
    let (child, open) = Child::of(start, orders, ignored, [output, theirs.as_fd()])?;
    let child = Box::new(child);
    let (pid, pidfd) = fork(&child, &mut memory, shares)?;
    // Else its end would not be seen.
    drop((open, theirs));
    Ok(Held { pid, pidfd, channel, used: Some((child, memory)) })
}

impl Held {
    /// What program it is to be, which a helper in reserve does not know.
    pub(super) fn order(&self, orders: Orders) {
        if let Some((child, _)) = &self.used {
            child.order(orders);
        }
    }

    /// Lets it execute its program.
    pub(super) fn let_go(&self) -> Result<(), Errno> {
        send(self.channel.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL).map(drop)
    }

    /// Waits for the listener of its filter, if it can have one; ENOKEY if it cannot and
    /// needs it, else why it has not begun; ETIMEDOUT if that is not known by then.
    pub(super) fn await_listener(&self, by: Option<Instant>) -> Result<Option<Listener>, Errno> {
        let mut refused = false;
        loop {
            match channel::awaited(&self.channel, by)? {
                Some(channel::Word::Installed(listener)) => return Ok(Some(listener)),
                Some(channel::Word::Refused(errno)) => {
                    tracing::info!(%errno, "a helper has no filter");
                    refused = true;
                }
                Some(channel::Word::Returned(_)) if refused => return Err(Errno::ENOKEY),
                Some(channel::Word::Returned(value)) => {
                    return Err(Errno::from_raw(-value as i32));
                }
                // Its end was closed by execve, or by its own end.
                None => return Ok(None),
            }
        }
    }

    /// Why a child that has ended had not begun its program.
    pub(super) fn failure(&self) -> Option<Errno> {
        match channel::next(&self.channel)? {
            channel::Word::Returned(value) => Some(Errno::from_raw(-value as i32)),
            _ => None,
        }
    }
}

/// What a child runs on: its stack and its thread-local memory, in which libc has `errno`.
struct Memory {
    stack: Vec<u128>,
    thread_local: Vec<u128>,
}

impl Memory {
    fn new() -> Memory {
        let words = |len: usize| vec![0; len / size_of::<u128>()];
        let mut thread_local: Vec<u128> = words(2 * THREAD_LOCAL_REACH);
        let at = thread_local.len() / 2;
        let itself = thread_local[at..].as_ptr() as u128;
        // The thread's own address is in the first and in the third word (x86-64 System V
        // ABI, and glibc's `tcbhead_t`); other machines read zeroes there.
        thread_local[at] = itself;
        thread_local[at + 1] = itself;
        Memory { stack: words(STACK_LEN), thread_local }
    }

    /// True if libc's `errno` is so near to where the thread's memory begins that a child's
    /// own would be within ours.
    fn has_room_for_errno() -> bool {
        // SAFETY: both calls only return a number.
        let (errno, this) = unsafe { (libc::__errno_location() as usize, libc::pthread_self()) };
        errno.abs_diff(this as usize) < THREAD_LOCAL_REACH / 2
    }
}

/// Forks a child that becomes a helper, with our memory or with a copy.
fn fork(child: &Child, memory: &mut Memory, shares: bool) -> Result<(u32, OwnedFd), Errno> {
    extern "C" fn become_helper(child: *mut c_void) -> c_int {
        // SAFETY: it is the child of the `Held`, or a copy of it, which lives until this
        // process has executed a program or ended.
        let child = unsafe { &*child.cast::<Child>() };
        child.become_helper()
    }
    let shared = if shares { libc::CLONE_VM | libc::CLONE_SETTLS } else { 0 };
    let mut pidfd: RawFd = -1;
    let at = memory.thread_local.len() / 2;
    // SAFETY: the stack is the child's alone, and it grows down from its end. If memory is
    // shared, so is the thread-local memory that the child is given, as far as libc reaches
    // (see `has_room_for_errno`); and the child makes system calls and nothing else, none of
    // whose wrappers uses more of it than `errno`. Both outlive its sharing, for `Held`
    // frees them only after the child has ended. The kernel
    // writes one number to `pidfd`.
    let pid = unsafe {
        libc::clone(
            become_helper,
            memory.stack.as_mut_ptr_range().end.cast(),
            shared | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw const *child).cast_mut().cast(),
            &raw mut pidfd,
            memory.thread_local[at..].as_mut_ptr(),
        )
    };
    let pid = Errno::result(pid)?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}
