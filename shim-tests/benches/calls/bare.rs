//! The least that any supervisor of trapped calls costs: it takes the call, touches
//! the caller's memory as the call asks, and answers. It knows no keys.
#![allow(unsafe_code)] // seccomp's interface and a caller's memory, as raw system calls

use std::io::{Error, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::thread::JoinHandle;

use keyshim_abi::uapi::{NATIVE, keyctl as op};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use crate::fixture::PAYLOAD;

/// Wakes the other side on the CPU that this one leaves.
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// Puts this thread, and what it starts, under a filter that traps the key calls: its
/// listener, which only another process can use.
pub(crate) fn trap_key_calls() -> Result<RawFd> {
    let numbers = [NATIVE.add_key, NATIVE.request_key, NATIVE.keyctl];
    let mut program = vec![load_number()];
    for number in numbers {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 0, 1));
        program.push(give(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    install(&program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
}

/// Puts this thread, and what it starts, under a filter that allows everything.
pub(crate) fn allow_everything() -> Result<()> {
    install(&[give(libc::SECCOMP_RET_ALLOW)], 0).map(drop)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load_number() -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)
}

fn give(verdict: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

fn install(program: &[libc::sock_filter], flags: libc::c_ulong) -> Result<RawFd> {
    let program = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: integers, and a program with its own length, which the kernel copies.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program)
    };
    if done < 0 { Err(Error::last_os_error()) } else { Ok(done as RawFd) }
}

/// `getppid(2)`, which no C library remembers.
pub(crate) fn getppid() -> i64 {
    // SAFETY: the call takes nothing and touches no memory.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// Answers for the listener of another process, in a thread that ends with the last
/// of those under the filter.
pub(crate) fn supervise(pid: u32, listener: RawFd) -> Result<JoinHandle<()>> {
    // SAFETY: the calls take integers; the numbers that they return are descriptors
    // that only we know.
    let listener = unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if pidfd < 0 {
            return Err(Error::last_os_error());
        }
        let pidfd = OwnedFd::from_raw_fd(pidfd as RawFd);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), listener, 0);
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    // SAFETY: the argument is the flags themselves. Kernels before 6.6 know none.
    unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
    }
    Ok(std::thread::spawn(move || while attend(&listener) {}))
}

/// One call; false when nobody is left to make any.
fn attend(listener: &OwnedFd) -> bool {
    let fd = listener.as_raw_fd();
    // SAFETY: plain integers, for which all zeroes are valid, and which the kernel wants.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure of the size that the number encodes.
    if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } != 0 {
        return Error::last_os_error().raw_os_error() == Some(libc::EINTR);
    }
    let mut answer =
        libc::seccomp_notif_resp { id: call.id, val: touch(&call), error: 0, flags: 0 };
    // SAFETY: the kernel reads one number, then one structure; both live long enough.
    unsafe {
        libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const call.id);
        libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer);
    }
    true
}

/// Touches the caller's memory as its call asks for: what the call is to return.
fn touch(call: &libc::seccomp_notif) -> i64 {
    let caller = Pid::from_raw(call.pid as i32);
    let [operation, _, address, ..] = call.data.args;
    let theirs = [RemoteIoVec { base: address as usize, len: PAYLOAD.len() }];
    let is_keyctl = i64::from(call.data.nr) == NATIVE.keyctl;
    match u32::try_from(operation) {
        Ok(op::READ) if is_keyctl => {
            process_vm_writev(caller, &[IoSlice::new(PAYLOAD)], &theirs).map_or(0, |len| len as i64)
        }
        Ok(op::UPDATE) if is_keyctl => {
            let mut payload = [0; PAYLOAD.len()];
            let read = process_vm_readv(caller, &mut [IoSliceMut::new(&mut payload)], &theirs);
            if read == Ok(PAYLOAD.len()) && payload == *PAYLOAD { 0 } else { -1 }
        }
        _ => 1,
    }
}
