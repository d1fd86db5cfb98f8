//! Forking a helper, held back until the domain knows it, and executing its program.
//!
//! Between fork and execve the child makes system calls and nothing else: what it changed in
//! memory, or left locked there, would stay so.
#![allow(unsafe_code)] // fork, and what may follow it; each block states what makes it sound

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, umask};
use seccompiler::BpfProgram;

use crate::identity;
use crate::supervisor::channel::{self, Listener};
use crate::supervisor::notify::{self, Terms};

/// Numbers of descriptors in the child: behind them is nothing.
const CHANNEL: RawFd = 3;
const REQUESTER: RawFd = 4;
const FIRST_UNUSED: RawFd = 5;
/// Ours are put beyond, so that none of them is in the way.
const OUT_OF_THE_WAY: RawFd = 16;

/// What the kernel lets a process have open that it starts itself.
const DESCRIPTORS_MAX: libc::rlim_t = 1024;

/// Bytes of the stack that a child has before its program.
const STACK_LEN: usize = 64 * 1024;
/// Bytes on either side of a thread's address within which libc keeps what it keeps of it.
const THREAD_LOCAL_REACH: usize = 16 * 1024;

/// Everything about a helper that is decided before it is forked.
pub(super) struct Start<'a> {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// The filter to put it under.
    pub(super) filter: Option<Filter>,
    /// Whose namespaces to join, and which.
    pub(super) join: Option<(BorrowedFd<'a>, CloneFlags)>,
    /// They are the requester's, and not of our choosing.
    pub(super) is_of_requester: bool,
    /// Where it prints.
    pub(super) output: BorrowedFd<'a>,
}

/// A filter for a helper.
pub(super) struct Filter {
    pub(super) program: BpfProgram,
    pub(super) terms: Terms,
    /// Without it the helper does not begin.
    pub(super) is_needed: bool,
}

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
pub(super) fn fork_held(start: Start<'_>, ignored: Arc<[c_int]>) -> Result<Held, Errno> {
    let (channel, theirs) = channel::pair().map_err(|_| Errno::EMFILE)?;
    let mut memory = Memory::new();
    let shares = !start.is_of_requester && Memory::has_room_for_errno();
    let (child, open) = Child::of(start, ignored, &theirs)?;
    let child = Box::new(child);
    let (pid, pidfd) = fork(&child, &mut memory, shares)?;
    // Else its end would not be seen.
    drop((open, theirs));
    Ok(Held { pid, pidfd, channel, used: Some((child, memory)) })
}

impl Held {
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

fn high(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY))?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// What the child needs, made before the fork because it shall not allocate.
struct Child {
    /// Descriptors, by their numbers in the child's copy of our table.
    null: RawFd,
    output: RawFd,
    channel: RawFd,
    join: Option<(RawFd, CloneFlags)>,
    filter: Option<Filter>,
    ignored: Arc<[c_int]>,
    program: CString,
    arguments: Pointers,
    environment: Pointers,
}

/// Strings as execve wants them: pointers with a null behind, and what they point to.
struct Pointers {
    raw: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers are to the strings beside them, which nobody changes.
unsafe impl Send for Pointers {}

impl Pointers {
    fn to(strings: Vec<CString>) -> Pointers {
        let all = strings.iter().map(|string| string.as_ptr());
        Pointers { raw: all.chain(std::iter::once(std::ptr::null())).collect(), _strings: strings }
    }
}

impl Child {
    /// The child, and the descriptors that are to be open when it is forked.
    fn of(
        start: Start<'_>,
        ignored: Arc<[c_int]>,
        channel: &OwnedFd,
    ) -> Result<(Child, Vec<OwnedFd>), Errno> {
        let null =
            nix::fcntl::open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut open = Vec::with_capacity(4);
        let mut placed = |fd: BorrowedFd<'_>| {
            open.push(high(fd)?);
            Ok::<_, Errno>(open.last().map_or(-1, AsRawFd::as_raw_fd))
        };
        let child = Child {
            null: placed(null.as_fd())?,
            output: placed(start.output)?,
            channel: placed(channel.as_fd())?,
            join: match start.join {
                Some((whose, what)) => Some((placed(whose)?, what)),
                None => None,
            },
            filter: start.filter,
            ignored,
            program: start.program,
            arguments: Pointers::to(start.arguments),
            environment: Pointers::to(start.environment),
        };
        Ok((child, open))
    }

    /// The rest of the child's life before its program.
    fn become_helper(&self) -> ! {
        let errno = match self.prepare() {
            Ok(()) => {
                // SAFETY: path and both lists end with a NUL or null, and live; the
                // kernel copies them.
                unsafe {
                    libc::execve(
                        self.program.as_ptr(),
                        self.arguments.raw.as_ptr(),
                        self.environment.raw.as_ptr(),
                    )
                };
                Errno::last()
            }
            Err(errno) => errno,
        };
        // SAFETY: the descriptor is open in this process until its end.
        let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
        let _ = channel::send_value(channel, -(errno as i64));
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    fn prepare(&self) -> Result<(), Errno> {
        self.arrange_descriptors()?;
        leave_behind(&self.ignored);
        if let Some((_, namespaces)) = self.join {
            // SAFETY: the descriptor is open in this process until its end.
            let requester = unsafe { BorrowedFd::borrow_raw(REQUESTER) };
            setns(requester, namespaces)?;
            if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
                become_root();
            }
        }
        nix::unistd::chdir(c"/")?;
        // SAFETY: the descriptor is open in this process until its end.
        let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
        if let Some(Filter { program, terms, is_needed }) = &self.filter {
            match notify::install(program, *terms) {
                Ok((listener, installed)) => {
                    notify::send_listener(channel, listener.as_fd(), installed)?;
                }
                Err(errno) => {
                    channel::send_refusal(channel, errno)?;
                    if *is_needed {
                        return Err(errno);
                    }
                }
            }
        }
        die_with_the_broker();
        let mut word = [0; 1];
        match recv(CHANNEL, &mut word, MsgFlags::empty())? {
            // Whoever would let it go has gone.
            0 => Err(Errno::ESRCH),
            _ => Ok(()),
        }
    }

    fn arrange_descriptors(&self) -> Result<(), Errno> {
        let placed = [(self.null, 0, 0), (self.output, 1, 0), (self.output, 2, 0)];
        let kept = [(self.channel, CHANNEL, libc::O_CLOEXEC)];
        let requester = self.join.iter().map(|&(fd, _)| (fd, REQUESTER, libc::O_CLOEXEC));
        for (fd, number, flags) in placed.into_iter().chain(kept).chain(requester) {
            // SAFETY: the call takes integers; what stood under the number belonged to the
            // parent's copy, which this process never uses.
            Errno::result(unsafe { libc::dup3(fd, number, flags) })?;
        }
        let first = if self.join.is_some() { FIRST_UNUSED } else { REQUESTER };
        // SAFETY: as above; nothing here uses any descriptor beyond.
        let raw = unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) };
        Errno::result(raw).map(drop)
    }
}

/// The signals that this process ignores, as a program would that it executes. By the bare
/// call: libc keeps two signals for itself.
pub(super) fn ignored_signals() -> Vec<c_int> {
    let is_ignored = |signal: &c_int| {
        let mut action = [0u64; 4];
        // SAFETY: the kernel writes one structure of four words, which live until the call
        // returns, and changes nothing.
        let raw =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, *signal, 0, action.as_mut_ptr(), 8) };
        raw == 0 && action[0] == libc::SIG_IGN as u64
    };
    (1..=64).filter(is_ignored).collect()
}

/// Everything that a program inherits and the kernel's helper does not have.
fn leave_behind(ignored: &[c_int]) {
    let _ = nix::unistd::setsid();
    umask(Mode::from_bits_truncate(0o022));
    // SAFETY: the calls take integers, or a structure that lives until they return; no
    // handler is installed, and the mask is this thread's own.
    unsafe {
        let default = [0u64; 4];
        for &signal in ignored {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8);
        }
        let none = [0u64; 16];
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr().cast(), std::ptr::null_mut());
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS_MAX);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// After every change of ids, by which the kernel forgets it. The forking thread waits for
/// the child's end.
fn die_with_the_broker() {
    // SAFETY: the call takes integers and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Becomes the root of the user namespace that was joined, where there is one.
fn become_root() {
    // SAFETY: the calls take integers; this process has one thread, so that the bare calls
    // are all there is to do.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
        libc::syscall(libc::SYS_setresgid, 0, 0, 0);
        libc::syscall(libc::SYS_setresuid, 0, 0, 0);
    }
}
