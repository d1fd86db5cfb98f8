//! System calls by the bare instruction.
//!
//! Never through libc: its wrappers are cancellation points, touch errno, and its
//! `syscall` is the very function that we replace. Each wrapper is one call, safe
//! for every argument that its signature admits.
#![allow(unsafe_code)] // the instruction itself, and structures that the kernel fills

use core::ffi::{CStr, c_int, c_long};
use core::mem::MaybeUninit;

/// The kernel said no, with that errno. A fact about our own plumbing, never the
/// answer to a key call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) i32);

/// What a bare call yields.
pub(crate) type Outcome = Result<usize, Refused>;

/// Carries out any system call; the result is the kernel's, negative for an error.
///
/// # Safety
/// The call must be sound with these arguments, as if it were made from C.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) unsafe fn bare(number: c_long, args: [c_long; 6]) -> c_long {
    let [a, b, c, d, e, f] = args;
    let result;
    // SAFETY: the registers are those of the kernel's convention, which destroys rcx
    // and r11; memory is not promised to stay, so the compiler assumes nothing of it.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Carries out any system call; the result is the kernel's, negative for an error.
///
/// # Safety
/// The call must be sound with these arguments, as if it were made from C.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) unsafe fn bare(number: c_long, args: [c_long; 6]) -> c_long {
    let [a, b, c, d, e, f] = args;
    let result;
    // SAFETY: the registers are those of the kernel's convention, which keeps all others.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// Numbers -4095 to -1 are errors.
fn outcome(result: c_long) -> Outcome {
    match result {
        -4095..=-1 => Err(Refused(-result as i32)),
        value => Ok(value as usize),
    }
}

/// A call with up to six arguments, the rest 0.
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {{
        let mut args = [0 as c_long; 6];
        let given = [$($arg as c_long),*];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: every wrapper of this file passes numbers, or addresses of memory that it
        // borrows for the call with a length that fits, or addresses that the kernel checks.
        outcome(unsafe { bare($number, args) })
    }};
}

/// This process, or rather this thread group.
pub(crate) fn getpid() -> u32 {
    call!(libc::SYS_getpid, 0).unwrap_or_default() as u32
}

/// This thread.
pub(crate) fn gettid() -> u32 {
    call!(libc::SYS_gettid, 0).unwrap_or_default() as u32
}

/// The real user.
pub(crate) fn getuid() -> u32 {
    call!(libc::SYS_getuid, 0).unwrap_or_default() as u32
}

/// The effective user.
pub(crate) fn geteuid() -> u32 {
    call!(libc::SYS_geteuid, 0).unwrap_or_default() as u32
}

/// True when no thread of that number is left in that process.
pub(crate) fn is_gone(pid: u32, tid: u32) -> bool {
    call!(libc::SYS_tgkill, pid, tid, 0) == Err(Refused(libc::ESRCH))
}

/// True when there is no process of that number.
pub(crate) fn is_process_gone(pid: u32) -> bool {
    call!(libc::SYS_kill, pid, 0) == Err(Refused(libc::ESRCH))
}

/// Closes a descriptor.
pub(crate) fn close(fd: i32) {
    let _ = call!(libc::SYS_close, fd);
}

/// What a descriptor or a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
}

fn facts(stat: &libc::stat) -> FileFacts {
    FileFacts { device: stat.st_dev, inode: stat.st_ino, mode: stat.st_mode, owner: stat.st_uid }
}

/// What stands behind a descriptor.
pub(crate) fn fstat(fd: i32) -> Result<FileFacts, Refused> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    call!(libc::SYS_fstat, fd, stat.as_mut_ptr())?;
    // SAFETY: zeroed is a value of this plain structure, and the kernel filled it.
    Ok(facts(unsafe { stat.assume_init_ref() }))
}

/// What stands under a path, links not followed.
pub(crate) fn lstat(path: &CStr) -> Result<FileFacts, Refused> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    call!(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), stat.as_mut_ptr(), flags)?;
    // SAFETY: as above.
    Ok(facts(unsafe { stat.assume_init_ref() }))
}

/// True when the caller may execute that file.
pub(crate) fn is_executable(path: &CStr) -> bool {
    call!(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK).is_ok()
}

/// Opens a file for reading.
pub(crate) fn open(path: &CStr, flags: c_int) -> Result<i32, Refused> {
    call!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0).map(|fd| fd as i32)
}

/// A copy of a descriptor, close-on-exec, numbered `min` or higher.
pub(crate) fn duplicate(fd: i32, min: i32) -> Result<i32, Refused> {
    call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, min).map(|fd| fd as i32)
}

/// Makes one descriptor stand for the same file as another.
pub(crate) fn replace(fd: i32, by: i32, flags: c_int) {
    let _ = call!(libc::SYS_dup3, by, fd, flags);
}

/// Makes a descriptor survive exec.
pub(crate) fn keep_over_exec(fd: i32) {
    let _ = call!(libc::SYS_fcntl, fd, libc::F_SETFD, 0);
}

/// A unix socket of that kind, close-on-exec.
pub(crate) fn socket(kind: c_int) -> Result<i32, Refused> {
    call!(libc::SYS_socket, libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0).map(|fd| fd as i32)
}

/// Two stream sockets, connected to each other, close-on-exec.
pub(crate) fn stream_pair() -> Result<[i32; 2], Refused> {
    let mut pair = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    call!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr())?;
    Ok(pair)
}

/// A pipe: its reading end, then its writing end, close-on-exec.
pub(crate) fn pipe() -> Result<[i32; 2], Refused> {
    let mut pair = [0; 2];
    call!(libc::SYS_pipe2, pair.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok(pair)
}

/// Connects to the address that the first `len` bytes hold.
pub(crate) fn connect(fd: i32, address: &libc::sockaddr_un, len: usize) -> Outcome {
    let len = len.min(size_of::<libc::sockaddr_un>());
    call!(libc::SYS_connect, fd, core::ptr::from_ref(address), len)
}

/// Bounds each wait of a socket, in both directions.
pub(crate) fn set_patience(fd: i32, wait_ms: u32) {
    let wait = libc::timeval {
        tv_sec: i64::from(wait_ms / 1000),
        tv_usec: i64::from(wait_ms % 1000) * 1000,
    };
    set_option(fd, libc::SO_RCVTIMEO, &wait);
    set_option(fd, libc::SO_SNDTIMEO, &wait);
}

/// Has the kernel stamp what is sent over a socket with the sender's credentials.
pub(crate) fn stamp_messages(fd: i32) {
    set_option(fd, libc::SO_PASSCRED, &1);
}

fn set_option<T>(fd: i32, option: c_int, value: &T) {
    let address = core::ptr::from_ref(value);
    let _ = call!(libc::SYS_setsockopt, fd, libc::SOL_SOCKET, option, address, size_of::<T>());
}

/// Ends one direction of a socket.
pub(crate) fn shutdown(fd: i32, direction: c_int) {
    let _ = call!(libc::SYS_shutdown, fd, direction);
}

/// Room for a control message with one descriptor.
#[repr(C, align(8))]
struct OneDescriptor {
    header: libc::cmsghdr,
    fd: i32,
    rest: i32,
}

/// Length of that message without its padding.
const ONE_DESCRIPTOR_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<i32>();

impl OneDescriptor {
    fn holding(fd: i32) -> OneDescriptor {
        // SAFETY: all zeroes is a value of this plain structure.
        let mut header: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.cmsg_len = ONE_DESCRIPTOR_LEN as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        OneDescriptor { header, fd, rest: 0 }
    }
}

fn message(segments: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeroes is a value of this plain structure: no address, no control.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = segments.as_mut_ptr();
    message.msg_iovlen = segments.len() as _;
    message
}

fn segment(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// Sends two pieces, or as much of them as there is room for. No SIGPIPE.
pub(crate) fn send_pieces(fd: i32, pieces: [&[u8]; 2]) -> Outcome {
    let mut segments = pieces.map(segment);
    let message = message(&mut segments);
    call!(libc::SYS_sendmsg, fd, core::ptr::from_ref(&message), libc::MSG_NOSIGNAL)
}

/// Sends a datagram with a descriptor, without waiting for room.
pub(crate) fn send_descriptor(fd: i32, bytes: &[u8], sent_fd: i32) -> Outcome {
    let mut segments = [segment(bytes)];
    let mut control = OneDescriptor::holding(sent_fd);
    let mut message = message(&mut segments);
    message.msg_control = core::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<OneDescriptor>() as _;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    call!(libc::SYS_sendmsg, fd, core::ptr::from_ref(&message), flags)
}

/// Receives what there is, at most `into`; descriptors that come along are dropped.
pub(crate) fn receive(fd: i32, into: &mut [u8]) -> Outcome {
    call!(libc::SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), 0, 0, 0)
}

/// Room for the credentials that come with every message, and one descriptor.
#[repr(C, align(8))]
struct Received([u8; 64]);

impl Received {
    /// The descriptor, when there is one.
    fn descriptor(&self, len: usize) -> Option<i32> {
        let mut rest = self.0.get(..len)?;
        loop {
            let header = rest.first_chunk::<{ size_of::<libc::cmsghdr>() }>()?;
            // SAFETY: any bytes are a value of this plain structure.
            let header: libc::cmsghdr = unsafe { core::mem::transmute(*header) };
            let message_len = header.cmsg_len as usize;
            if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
                let data = rest.get(size_of::<libc::cmsghdr>()..message_len)?;
                return data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
            }
            rest = rest.get(message_len.next_multiple_of(8).max(8)..)?;
        }
    }
}

/// Receives what there is, and a descriptor where one came along. Of several only
/// as many are received as there is room for, and a broker sends only one.
pub(crate) fn receive_descriptor(
    fd: i32,
    into: &mut [u8],
) -> Result<(usize, Option<i32>), Refused> {
    let mut segments = [segment(into)];
    let mut control = Received([0; 64]);
    let mut message = message(&mut segments);
    message.msg_control = core::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<Received>() as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    let len = call!(libc::SYS_recvmsg, fd, core::ptr::from_mut(&mut message), flags)?;
    Ok((len, control.descriptor(message.msg_controllen as usize)))
}

/// Writes to a descriptor from an address that the kernel checks.
pub(crate) fn write_from(fd: i32, address: u64, len: usize) -> Outcome {
    call!(libc::SYS_write, fd, address, len)
}

/// Reads from a descriptor to an address that the kernel checks. The memory is the
/// program's own and was offered for writing by the call that we answer.
pub(crate) fn read_into(fd: i32, address: u64, len: usize) -> Outcome {
    call!(libc::SYS_read, fd, address, len)
}

/// Writes bytes.
pub(crate) fn write(fd: i32, bytes: &[u8]) -> Outcome {
    call!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len())
}

/// Reads bytes.
pub(crate) fn read(fd: i32, into: &mut [u8]) -> Outcome {
    call!(libc::SYS_read, fd, into.as_mut_ptr(), into.len())
}

/// Sets the position in a file to its beginning.
pub(crate) fn rewind(fd: i32) {
    let _ = call!(libc::SYS_lseek, fd, 0, libc::SEEK_SET);
}

/// A file in memory.
pub(crate) fn memory_file(name: &CStr, flags: u32) -> Result<i32, Refused> {
    call!(libc::SYS_memfd_create, name.as_ptr(), flags).map(|fd| fd as i32)
}

/// Copies from an address of this process, as far as it can be read.
pub(crate) fn copy_in(address: u64, into: &mut [u8]) -> Outcome {
    let local = segment(into);
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: into.len() };
    call!(
        libc::SYS_process_vm_readv,
        getpid(),
        core::ptr::from_ref(&local),
        1,
        core::ptr::from_ref(&remote),
        1,
        0
    )
}

/// Copies to an address of this process, as far as it may be written. The memory is
/// the program's own and was offered for writing by the call that we answer.
pub(crate) fn copy_out(address: u64, from: &[u8]) -> Outcome {
    let local = segment(from);
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: from.len() };
    call!(
        libc::SYS_process_vm_writev,
        getpid(),
        core::ptr::from_ref(&local),
        1,
        core::ptr::from_ref(&remote),
        1,
        0
    )
}

/// True when eight bytes at this address can be read. The kernel copies a signal
/// set before it refuses an impossible way to use it, and changes nothing.
pub(crate) fn can_read_eight(address: u64) -> bool {
    const NO_SUCH_WAY: c_int = !0;
    address != 0
        && call!(libc::SYS_rt_sigprocmask, NO_SUCH_WAY, address, 0, 8)
            == Err(Refused(libc::EINVAL))
}

/// Fresh zeroed memory, private to this process. Its address.
pub(crate) fn map(len: usize) -> Outcome {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call!(libc::SYS_mmap, 0, len, protection, flags, -1, 0)
}

/// Gives memory back.
///
/// # Safety
/// The memory came from [`map`] with this length, and nothing refers to it any more.
pub(crate) unsafe fn unmap(address: usize, len: usize) {
    let _ = call!(libc::SYS_munmap, address, len);
}

/// Memory that a forked child finds zeroed. Refused by kernels before 4.14.
pub(crate) fn wipe_on_fork(address: usize, len: usize) -> Outcome {
    const MADV_WIPEONFORK: c_int = 18;
    call!(libc::SYS_madvise, address, len, MADV_WIPEONFORK)
}

/// Blocks every signal that can be blocked. The mask that was in force.
pub(crate) fn block_signals() -> u64 {
    let all = !0u64;
    let mut previous = 0u64;
    let how = libc::SIG_BLOCK;
    let set = core::ptr::from_ref(&all);
    let _ = call!(libc::SYS_rt_sigprocmask, how, set, core::ptr::from_mut(&mut previous), 8);
    previous
}

/// Puts a signal mask in force.
pub(crate) fn set_signal_mask(mask: u64) {
    let _ = call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, core::ptr::from_ref(&mask), 0, 8);
}

/// The signals that wait because they are blocked.
pub(crate) fn pending_signals() -> u64 {
    let mut set = 0u64;
    let _ = call!(libc::SYS_rt_sigpending, core::ptr::from_mut(&mut set), 8);
    set
}

/// True when the program left that signal to the kernel's own ways.
pub(crate) fn is_default_action(signal: u32) -> bool {
    let mut action = [0u64; 4];
    let asked = call!(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8);
    asked.is_ok() && action[0] == libc::SIG_DFL as u64
}

/// Leaves that signal to the kernel's own ways.
pub(crate) fn set_default_action(signal: u32) {
    let action = [0u64; 4];
    let _ = call!(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8);
}

/// Sleeps for that long, less when a signal comes.
pub(crate) fn sleep(wait_ms: u32) {
    let wait = libc::timespec {
        tv_sec: i64::from(wait_ms / 1000),
        tv_nsec: i64::from(wait_ms % 1000) * 1_000_000,
    };
    let _ = call!(libc::SYS_nanosleep, core::ptr::from_ref(&wait), 0);
}

/// Milliseconds of a clock that only goes forward.
pub(crate) fn clock_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = libc::CLOCK_MONOTONIC;
    let _ = call!(libc::SYS_clock_gettime, clock, core::ptr::from_mut(&mut now));
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The soft limit of descriptor numbers.
pub(crate) fn descriptors_max() -> u64 {
    let mut limit = [0u64; 2];
    let what = libc::RLIMIT_NOFILE;
    let _ = call!(libc::SYS_prlimit64, 0, what, 0, limit.as_mut_ptr());
    limit[0]
}

/// The working directory with its NUL. Its length.
pub(crate) fn working_directory(into: &mut [u8]) -> Outcome {
    call!(libc::SYS_getcwd, into.as_mut_ptr(), into.len())
}

/// Ends the process by SIGABRT.
pub(crate) fn abort() -> ! {
    set_default_action(libc::SIGABRT as u32);
    set_signal_mask(0);
    loop {
        let _ = call!(libc::SYS_tgkill, getpid(), gettid(), libc::SIGABRT);
        let _ = call!(libc::SYS_exit_group, 134);
    }
}
