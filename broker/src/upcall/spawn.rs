//! Forking a helper, held back until the domain knows it, and executing its program.
//!
//! Between fork and execve the child makes system calls and nothing else: this process
//! has other threads, and what they held at the fork nobody lets go of in the child.
#![allow(unsafe_code)] // fork, and what may follow it; each block states what makes it sound

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, umask};
use seccompiler::BpfProgram;

use crate::supervisor::channel;
use crate::supervisor::notify::{self, Terms};

/// Numbers of descriptors in the child: behind them is nothing.
const CHANNEL: RawFd = 3;
const REQUESTER: RawFd = 4;
const FIRST_UNUSED: RawFd = 5;
/// Ours are put beyond, so that none of them is in the way.
const OUT_OF_THE_WAY: RawFd = 16;

/// What the kernel lets a process have open that it starts itself.
const DESCRIPTORS_MAX: libc::rlim_t = 1024;

/// Everything about a helper that is decided before it is forked.
pub(super) struct Start<'a> {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// The filter to put it under.
    pub(super) filter: Option<(BpfProgram, Terms)>,
    /// Whose namespaces to join, and which.
    pub(super) join: Option<(BorrowedFd<'a>, CloneFlags)>,
    /// Where it prints.
    pub(super) output: BorrowedFd<'a>,
}

/// A child before its program.
pub(super) struct Held {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// Over which it says what went wrong; closed by its execve.
    pub(super) channel: OwnedFd,
}

/// Forks. The child is ready but for its filter's listener, which it sends first.
pub(super) fn fork_held(start: &Start<'_>) -> Result<Held, Errno> {
    let null = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDONLY, Mode::empty())?;
    let (ours, theirs) = channel::pair().map_err(|_| Errno::EMFILE)?;
    let requester = start.join.map(|(pidfd, _)| high(pidfd)).transpose()?;
    let child = Child {
        null: high(null.as_fd())?,
        output: high(start.output)?,
        channel: high(theirs.as_fd())?,
        requester,
        arguments: pointers(&start.arguments),
        environment: pointers(&start.environment),
    };
    drop(theirs);
    let mut pidfd: RawFd = -1;
    let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_long;
    // SAFETY: without CLONE_VM this is fork: the child has memory of its own, and goes
    // on here with the same stack. The kernel writes one number to `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    match Errno::result(pid)? {
        0 => child.become_helper(start),
        pid => {
            // SAFETY: the call succeeded, so the number is a new descriptor that only we
            // know.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Held { pid: pid as u32, pidfd, channel: ours })
        }
    }
}

impl Held {
    /// Lets it execute its program: why that failed.
    pub(super) fn let_go(&self) -> Result<(), Errno> {
        send(self.channel.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL)?;
        match channel::awaited(&self.channel) {
            Some(channel::Word::Returned(errno)) => Err(Errno::from_raw(errno as i32)),
            // Its end was closed by execve, or by its own end.
            _ => Ok(()),
        }
    }
}

fn high(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY))?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// As execve wants them: they live as long as what they point to.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let all = strings.iter().map(|string| string.as_ptr());
    all.chain(std::iter::once(std::ptr::null())).collect()
}

/// What the child needs, made before the fork because it cannot allocate.
struct Child {
    null: OwnedFd,
    output: OwnedFd,
    channel: OwnedFd,
    requester: Option<OwnedFd>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
}

impl Child {
    /// The rest of the child's life before its program.
    fn become_helper(&self, start: &Start<'_>) -> ! {
        let errno = match self.prepare(start) {
            Ok(()) => {
                // SAFETY: path and both lists end with a NUL or null, and live; the
                // kernel copies them.
                unsafe {
                    libc::execve(
                        start.program.as_ptr(),
                        self.arguments.as_ptr(),
                        self.environment.as_ptr(),
                    )
                };
                Errno::last()
            }
            Err(errno) => errno,
        };
        // SAFETY: the descriptor is open in this process until its end.
        let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
        let _ = channel::send_value(channel, errno as i64);
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    fn prepare(&self, start: &Start<'_>) -> Result<(), Errno> {
        self.arrange_descriptors()?;
        leave_behind();
        if let Some((_, namespaces)) = start.join {
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
        if let Some((program, terms)) = &start.filter {
            match notify::install(program, *terms) {
                Ok((listener, installed)) => {
                    notify::send_listener(channel, listener.as_fd(), installed)?;
                }
                Err(errno) => channel::send_refusal(channel, errno)?,
            }
        }
        let mut word = [0; 1];
        match recv(CHANNEL, &mut word, MsgFlags::empty())? {
            // Whoever would let it go has gone.
            0 => Err(Errno::ESRCH),
            _ => Ok(()),
        }
    }

    fn arrange_descriptors(&self) -> Result<(), Errno> {
        let placed = [(&self.null, 0, 0), (&self.output, 1, 0), (&self.output, 2, 0)];
        let kept = [(&self.channel, CHANNEL, libc::O_CLOEXEC)];
        let requester = self.requester.iter().map(|fd| (fd, REQUESTER, libc::O_CLOEXEC));
        for (fd, number, flags) in placed.into_iter().chain(kept).chain(requester) {
            // SAFETY: the call takes integers; what stood under the number belonged to the
            // parent's copy, which this process never uses.
            Errno::result(unsafe { libc::dup3(fd.as_raw_fd(), number, flags) })?;
        }
        let first = if self.requester.is_some() { FIRST_UNUSED } else { REQUESTER };
        // SAFETY: as above; nothing here uses any descriptor beyond.
        let raw = unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) };
        Errno::result(raw).map(drop)
    }
}

/// Everything that a program inherits and the kernel's helper does not have.
fn leave_behind() {
    let _ = nix::unistd::setsid();
    umask(Mode::from_bits_truncate(0o022));
    // SAFETY: the calls take integers, or a structure that lives until they return; no
    // handler is installed, and the mask is this thread's own.
    unsafe {
        // By the bare call: libc keeps two signals for itself, which may be ignored too.
        let default = [0u64; 4];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0, 8);
        }
        let none = [0u64; 16];
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr().cast(), std::ptr::null_mut());
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS_MAX);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        // It ends with the broker, whose keys it was to make.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
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
