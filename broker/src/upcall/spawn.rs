//! Forking a helper, held back until the domain knows it, and executing its program.
//!
//! Between fork and execve the child makes system calls and nothing else: what it changed in
//! memory, or left locked there, would stay so.
#![allow(unsafe_code)] // fork, and what may follow it; each block states what makes it sound

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use seccompiler::BpfProgram;

use crate::fault::Fault;
use crate::supervisor::channel::{self, Listener};
use crate::supervisor::notify::{self, Terms};
use crate::{server, sys};

/// Numbers of descriptors in the child: behind them is nothing.
const CHANNEL: RawFd = 3;
const REQUESTER: RawFd = 4;
const FIRST_UNUSED: RawFd = 5;
/// Ours are put beyond, so that none of them is in the way.
const OUT_OF_THE_WAY: RawFd = 16;

/// What the kernel lets a process have open that it starts itself.
const DESCRIPTORS_MAX: libc::rlim_t = 1024;

/// Bytes of the stack that a child has before its program.
const STACK_LEN: usize = 128 * 1024;

/// Everything about a helper that is decided before it is forked.
pub(super) struct Start<'a> {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// The filter to put it under.
    pub(super) filter: Option<(BpfProgram, Terms)>,
    /// Whose namespaces to join, and which.
    pub(super) join: Option<(BorrowedFd<'a>, CloneFlags)>,
    /// They are the requester's, and not of our choosing.
    pub(super) is_of_requester: bool,
    /// Where it prints.
    pub(super) output: BorrowedFd<'a>,
}

/// A child before its program.
pub(super) struct Held {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// The listener of its filter, if it has one.
    pub(super) listener: Option<Listener>,
    channel: OwnedFd,
}

/// The thread that forks. Children have its memory until they execute their program
/// (as of vfork(2)), which spares them a copy; so it stands still meanwhile, and others
/// talk to the child.
pub(super) struct Forker {
    orders: Sender<Order>,
    /// Signals that are ignored here and shall not be in a helper.
    ignored: Arc<[c_int]>,
}

struct Order {
    child: Child,
    answer: Arc<ForkAnswer>,
}

/// What the kernel says of a child, written before the child runs.
#[derive(Default)]
struct ForkAnswer {
    pidfd: AtomicI32,
    errno: AtomicI32,
}

impl Forker {
    /// Starts the thread. It ends with its owner.
    pub(super) fn start() -> Result<Forker, Fault> {
        let (orders, taken) = bounded::<Order>(1);
        server::spawn("forks".into(), move || {
            let mut stack = new_stack();
            let of_vfork = libc::CLONE_VM | libc::CLONE_VFORK;
            taken.into_iter().for_each(|order| fork(&order, &mut stack, of_vfork));
        })?;
        Ok(Forker { orders, ignored: ignored_signals().into() })
    }

    /// Forks a helper, which then is ready but for a word from us; ETIMEDOUT if it is not by
    /// then. One that joins its requester's namespaces is forked by the calling thread, with a
    /// copy of our memory: what program it becomes, and how soon, is the requester's to say.
    pub(super) fn fork_held(&self, start: Start<'_>, by: Option<Instant>) -> Result<Held, Errno> {
        let is_apart = start.is_of_requester;
        let (channel, theirs) = channel::pair().map_err(|_| Errno::EMFILE)?;
        let child = Child::of(start, Arc::clone(&self.ignored), &theirs)?;
        drop(theirs);
        let answer = Arc::new(ForkAnswer { pidfd: AtomicI32::new(-1), ..ForkAnswer::default() });
        let order = Order { child, answer: Arc::clone(&answer) };
        if is_apart {
            fork(&order, &mut new_stack(), 0);
            drop(order);
        } else {
            let taken = match by {
                Some(by) => self.orders.send_deadline(order, by).map_err(|_| Errno::ETIMEDOUT),
                None => self.orders.send(order).map_err(|_| Errno::ESRCH),
            };
            taken?;
        }
        let mut listener = None;
        let said = loop {
            match channel::awaited(&channel, by) {
                Ok(Some(channel::Word::Installed(its))) => listener = Some(its),
                Ok(Some(channel::Word::Refused(errno))) => {
                    tracing::info!(%errno, "a helper has no filter");
                }
                Ok(Some(channel::Word::Returned(value))) => break value,
                Ok(None) => break -i64::from(answer.errno.load(Ordering::Acquire)),
                Err(errno) => break -(errno as i64),
            }
        };
        let raw = answer.pidfd.load(Ordering::Acquire);
        if raw < 0 {
            return Err(Errno::from_raw(-said as i32));
        }
        // SAFETY: the kernel has made it for us before the child ran, which has spoken
        // or ended since, and nobody else knows of it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(raw) };
        match u32::try_from(said) {
            Ok(pid) if pid != 0 => Ok(Held { pid, pidfd, listener, channel }),
            _ => {
                let _ = sys::pidfd_kill(pidfd.as_fd());
                let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
                Err(Errno::from_raw(-said as i32))
            }
        }
    }
}

impl Held {
    /// Lets it execute its program: why that failed; ETIMEDOUT if it has not done so by then.
    pub(super) fn let_go(&self, by: Option<Instant>) -> Result<(), Errno> {
        send(self.channel.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL)?;
        match channel::awaited(&self.channel, by)? {
            Some(channel::Word::Returned(value)) => Err(Errno::from_raw(-value as i32)),
            // Its end was closed by execve, or by its own end.
            _ => Ok(()),
        }
    }
}

fn new_stack() -> Vec<u128> {
    vec![0; STACK_LEN / size_of::<u128>()]
}

/// Forks one child. With the flags of vfork(2) it returns when that has executed its program
/// or ended; without them the child has a copy of everything.
fn fork(order: &Order, stack: &mut [u128], of_vfork: c_int) {
    extern "C" fn become_helper(child: *mut c_void) -> c_int {
        // SAFETY: it is the child of the order, which lives as long as the forking thread
        // stands still.
        let child = unsafe { &*child.cast::<Child>() };
        child.become_helper()
    }
    let flags = of_vfork | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack is the child's alone, and it grows down from there. If memory is
    // shared, the calling thread stands still until the child has executed a program or ended,
    // so that the child may use all memory that it uses, thread-local memory too. The kernel
    // writes one number to `pidfd`, which is as large.
    let pid = unsafe {
        libc::clone(
            become_helper,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw const order.child).cast_mut().cast(),
            order.answer.pidfd.as_ptr(),
        )
    };
    if pid < 0 {
        order.answer.errno.store(Errno::last_raw(), Ordering::Release);
    }
}

fn high(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY))?;
    // SAFETY: the call succeeded, so the number is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// What the child needs, made before the fork because it shall not allocate.
struct Child {
    null: OwnedFd,
    output: OwnedFd,
    channel: OwnedFd,
    join: Option<(OwnedFd, CloneFlags)>,
    filter: Option<(BpfProgram, Terms)>,
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
    fn of(start: Start<'_>, ignored: Arc<[c_int]>, channel: &OwnedFd) -> Result<Child, Errno> {
        let null =
            nix::fcntl::open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let join = start.join.map(|(whose, what)| high(whose).map(|whose| (whose, what)));
        Ok(Child {
            null: high(null.as_fd())?,
            output: high(start.output)?,
            channel: high(channel.as_fd())?,
            join: join.transpose()?,
            filter: start.filter,
            ignored,
            program: start.program,
            arguments: Pointers::to(start.arguments),
            environment: Pointers::to(start.environment),
        })
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
        if let Some((program, terms)) = &self.filter {
            match notify::install(program, *terms) {
                Ok((listener, installed)) => {
                    notify::send_listener(channel, listener.as_fd(), installed)?;
                }
                Err(errno) => channel::send_refusal(channel, errno)?,
            }
        }
        die_with_the_broker();
        channel::send_value(channel, i64::from(nix::unistd::getpid().as_raw()))?;
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
        let requester = self.join.iter().map(|(fd, _)| (fd, REQUESTER, libc::O_CLOEXEC));
        for (fd, number, flags) in placed.into_iter().chain(kept).chain(requester) {
            // SAFETY: the call takes integers; what stood under the number belonged to the
            // parent's copy, which this process never uses.
            Errno::result(unsafe { libc::dup3(fd.as_raw_fd(), number, flags) })?;
        }
        let first = if self.join.is_some() { FIRST_UNUSED } else { REQUESTER };
        // SAFETY: as above; nothing here uses any descriptor beyond.
        let raw = unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) };
        Errno::result(raw).map(drop)
    }
}

/// The signals that this process ignores, as a program would that it executes. By the bare
/// call: libc keeps two signals for itself.
fn ignored_signals() -> Vec<c_int> {
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

/// After every change of ids, by which the kernel forgets it. The forking thread lives as
/// long as the broker.
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
