//! A helper's process between fork and its program.
//!
//! There it makes system calls and nothing else: what it changed in memory, or left locked
//! there, would stay so.
#![allow(unsafe_code)] // what may follow a fork; each block states what makes it sound

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv};
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
    /// The filter to put it under.
    pub(super) filter: Option<Filter>,
    /// Whose namespaces to join, and which.
    pub(super) join: Option<(BorrowedFd<'a>, CloneFlags)>,
    /// They are the requester's, and not of our choosing.
    pub(super) is_of_requester: bool,
}

/// What program a helper is to become.
pub(super) struct Orders {
    program: CString,
    arguments: Pointers,
    environment: Pointers,
}

impl Orders {
    pub(super) fn new(
        program: CString,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Orders {
        let [arguments, environment] = [arguments, environment].map(Pointers::to);
        Orders { program, arguments, environment }
    }
}

/// A filter for a helper.
pub(super) struct Filter {
    pub(super) program: BpfProgram,
    pub(super) terms: Terms,
    /// Without it the helper does not begin.
    pub(super) is_needed: bool,
}

fn high(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY))?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// What the child needs, made before the fork because it shall not allocate.
pub(super) struct Child {
    /// Descriptors, by their numbers in the child's copy of our table.
    null: RawFd,
    output: RawFd,
    channel: RawFd,
    join: Option<(RawFd, CloneFlags)>,
    filter: Option<Filter>,
    ignored: Arc<[c_int]>,
    /// Before it is let go.
    orders: OnceLock<Orders>,
}

/// Strings as execve wants them: pointers with a null behind, and what they point to.
struct Pointers {
    raw: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers are to the strings beside them, which nobody changes.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn to(strings: Vec<CString>) -> Pointers {
        let all = strings.iter().map(|string| string.as_ptr());
        Pointers { raw: all.chain(std::iter::once(std::ptr::null())).collect(), _strings: strings }
    }
}

impl Child {
    /// The child, and the descriptors that are to be open when it is forked.
    pub(super) fn of(
        start: Start<'_>,
        orders: OnceLock<Orders>,
        ignored: &Arc<[c_int]>,
        [output, channel]: [BorrowedFd<'_>; 2],
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
            output: placed(output)?,
            channel: placed(channel)?,
            join: match start.join {
                Some((whose, what)) => Some((placed(whose)?, what)),
                None => None,
            },
            filter: start.filter,
            ignored: Arc::clone(ignored),
            orders,
        };
        Ok((child, open))
    }

    /// What program it is to be, if it does not know yet.
    pub(super) fn order(&self, orders: Orders) {
        let _ = self.orders.set(orders);
    }

    /// The rest of the child's life before its program.
    pub(super) fn become_helper(&self) -> ! {
        let errno = match self.prepare() {
            Ok(()) => self.execute(),
            Err(errno) => errno,
        };
        // SAFETY: the descriptor is open in this process until its end.
        let channel = unsafe { BorrowedFd::borrow_raw(CHANNEL) };
        let _ = channel::send_value(channel, -(errno as i64));
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    /// Why its program does not begin.
    fn execute(&self) -> Errno {
        let Some(Orders { program, arguments, environment }) = self.orders.get() else {
            return Errno::ENOEXEC;
        };
        let (arguments, environment) = (arguments.raw.as_ptr(), environment.raw.as_ptr());
        // SAFETY: path and both lists end with a NUL or null, and live; the kernel copies
        // them.
        unsafe { libc::execve(program.as_ptr(), arguments, environment) };
        Errno::last()
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
