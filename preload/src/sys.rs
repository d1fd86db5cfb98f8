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

/// A call with up to six arguments, the rest 0.
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {{
        let mut args = [0 as core::ffi::c_long; 6];
        let given = [$($arg as core::ffi::c_long),*];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: every wrapper of this module passes numbers, or addresses of memory that it
        // borrows for the call with a length that fits, or addresses that the kernel checks.
        outcome(unsafe { bare($number, args) })
    }};
}

mod signals;
mod sockets;

pub(crate) use signals::*;
pub(crate) use sockets::*;

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

fn segment(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
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

/// A pipe: its reading end, then its writing end, close-on-exec.
pub(crate) fn pipe() -> Result<[i32; 2], Refused> {
    let mut pair = [0; 2];
    call!(libc::SYS_pipe2, pair.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok(pair)
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

/// Faults in all pages of a range for reading, which fails where one cannot be read
/// (Linux 5.14; EINVAL before). The range begins and ends with a page.
pub(crate) fn populate(address: u64, len: u64) -> Outcome {
    const MADV_POPULATE_READ: i32 = 22;
    call!(libc::SYS_madvise, address, len, MADV_POPULATE_READ)
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
        && call!(libc::SYS_rt_sigprocmask, NO_SUCH_WAY, address, 0, 8) == Err(Refused(libc::EINVAL))
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
#[cfg(not(test))]
pub(crate) fn abort() -> ! {
    set_default_action(libc::SIGABRT as u32);
    set_signal_mask(0);
    loop {
        let _ = call!(libc::SYS_tgkill, getpid(), gettid(), libc::SIGABRT);
        let _ = call!(libc::SYS_exit_group, 134);
    }
}
