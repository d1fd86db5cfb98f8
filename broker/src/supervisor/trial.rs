//! Key calls by each gate of this machine, past any library: for a child that only
//! wants to know who answers. No decision is made here.
#![allow(unsafe_code)] // System calls by instruction; each block states what makes it sound.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use keyshim_abi::gate::{GATES, Gate};
use keyshim_abi::marshal::Width;
use keyshim_abi::uapi::keyctl;
use nix::errno::Errno;
use seccompiler::sock_filter;

use super::{channel, notify};

/// No operation of `keyctl(2)`: a kernel says EOPNOTSUPP and changes nothing.
const NO_OPERATION: u64 = u32::MAX as u64;

/// Has a child put itself under a filter, make one call by a gate, and say over
/// `channel` what became of either. It never executes the command: starting it fails
/// with ECANCELED, unless the call was the child's death.
pub(crate) fn begin(
    command: &mut Command,
    program: Vec<sock_filter>,
    channel: OwnedFd,
    gate: &'static Gate,
) {
    let go_through = move || -> io::Result<()> {
        match notify::install(&program, notify::Terms::USUAL) {
            Ok((listener, installed)) => {
                notify::send_listener(channel.as_fd(), listener.as_fd(), installed)?;
                // SAFETY: numbers that name no memory.
                let value = unsafe { keyctl(gate, [NO_OPERATION, 0, 0]) };
                if let Some(value) = value {
                    channel::send_value(channel.as_fd(), value)?;
                }
            }
            Err(errno) => channel::send_refusal(channel.as_fd(), errno)?,
        }
        Err(Errno::ECANCELED.into())
    };
    // SAFETY: between fork and exec the closure makes system calls, which are
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(go_through) };
}

/// KEYCTL_CAPABILITIES by the machine's own gate: the length of the answer, or an
/// error number negated; `None` where none is known.
pub(crate) fn capabilities(into: &mut [u8; 8]) -> Option<i64> {
    let operation = u64::from(keyctl::CAPABILITIES);
    // SAFETY: a buffer with its own length.
    unsafe { keyctl(GATES.first()?, [operation, into.as_mut_ptr() as u64, into.len() as u64]) }
}

/// `keyctl(2)` by a gate; `None` where this program cannot enter by it.
///
/// # Safety
///
/// The arguments are what the operation asks for.
#[cfg(target_arch = "x86_64")]
unsafe fn keyctl(gate: &Gate, [a, b, c]: [u64; 3]) -> Option<i64> {
    let number = gate.numbers.keyctl;
    let value: i64;
    match gate.width {
        // SAFETY: the kernel's convention for `syscall`: it changes rax, rcx and r11,
        // and memory that the caller vouches for.
        Width::Bits64 => unsafe {
            asm!(
                "syscall",
                inlateout("rax") number => value,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        },
        // SAFETY: the kernel's convention for `int 0x80`: it changes rax, and r8 to r11
        // in 64-bit code. The compiler keeps rbx for itself, so it is put back.
        Width::Bits32 => unsafe {
            asm!(
                "xchg rbx, {a}",
                "int 0x80",
                "xchg rbx, {a}",
                a = inout(reg) a => _,
                inlateout("rax") number => value,
                in("rcx") b,
                in("rdx") c,
                out("r8") _,
                out("r9") _,
                out("r10") _,
                out("r11") _,
                options(nostack),
            );
        },
    }
    Some(if gate.width == Width::Bits32 { i64::from(value as i32) } else { value })
}

/// `keyctl(2)` by a gate; `None` where this program cannot enter by it: 64-bit code
/// has no way in for 32-bit programs.
///
/// # Safety
///
/// The arguments are what the operation asks for.
#[cfg(target_arch = "aarch64")]
unsafe fn keyctl(gate: &Gate, [a, b, c]: [u64; 3]) -> Option<i64> {
    if gate.width == Width::Bits32 {
        return None;
    }
    let value: i64;
    // SAFETY: the kernel's convention for `svc 0`: it changes x0, and memory that the
    // caller vouches for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") gate.numbers.keyctl,
            inlateout("x0") a => value,
            in("x1") b,
            in("x2") c,
            options(nostack),
        );
    }
    Some(value)
}

/// No gate is known of this machine.
///
/// # Safety
///
/// Safe always: it does nothing, which it says.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn keyctl(_gate: &Gate, _arguments: [u64; 3]) -> Option<i64> {
    None
}
