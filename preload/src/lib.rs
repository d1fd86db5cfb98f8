//! `libkeyshim.so`, loaded by `LD_PRELOAD` into programs that know nothing of it.
//!
//! # What is hooked
//! - `add_key`, `request_key`, `keyctl` (libkeyutils' own are weak) and libc's
//!   `syscall`, below which libkeyutils' wrappers end as well;
//! - the functions by which C opens or looks at a file: `open`, `openat`, `creat`,
//!   `fopen`, `stat`, `lstat`, `fstatat`, `statx`, `access`, `faccessat`, `eaccess`,
//!   and their 64-bit, fortified and older names. They answer for the exact absolute
//!   paths of `/proc/keys`, `/proc/key-users` and the knobs under
//!   `/proc/sys/kernel/keys/`; every other path goes straight on;
//! - `chroot`, `unshare`, `setns`, `setuid` and its kin, `prctl`: the last chance to
//!   connect to the broker. They do what they always did;
//! - `execve` and its kin, of which the broker is told before, and `pthread_create`, of
//!   which it is told where it could not know whose keyrings the new thread begins with.
//!
//! # What is not
//! Static programs, system calls by the bare instruction (Go), set-uid programs, a
//! library that was loaded with `RTLD_DEEPBIND` or into a namespace of `dlmopen`,
//! programs that `exec` with an environment of their own, `freopen`, relative paths
//! and links to the files under `/proc`, and directory listings there. A thread in
//! seccomp's strict mode is killed at its first key call, as by the kernel. Preloading
//! is cooperation, not a boundary.
//!
//! # How to read it
//! [`hooks`], [`file_hooks`], [`road_hooks`], [`exec_hooks`] and [`thread_hooks`] are the
//! names, without logic. A call goes through `client` (one exchange), which takes a `seat`
//! (the thread's place: `slots`, or one for the time of the call), which gets in by the
//! `door`; `process` tells whose memory it is. Below that: `socket`, `memory`, `scratch`, `quiet` (signals), `sys` (bare
//! system calls). `start` and `environment` run when the library is loaded, `autostart`
//! when nobody answers.
//!
//! # What is absent on purpose
//! The standard library, the allocator, thread-local storage, locks, libc's own
//! wrappers of system calls: a hook may run in a signal handler, in a vforked child, on
//! a stack of a few kilobytes. Nothing is ever printed, no descriptor is closed that is
//! not ours, every wait ends (ten seconds to be let in, thirty for a reply), and what
//! goes wrong with us is ENOSYS, as on a kernel built without keys.
#![cfg_attr(not(test), no_std)]

mod autostart;
mod client;
mod door;
mod environment;
pub mod exec_hooks;
mod fault;
pub mod file_hooks;
mod files;
mod hook;
pub mod hooks;
mod memory;
mod process;
mod quiet;
mod real;
pub mod road_hooks;
mod scratch;
mod seat;
mod slots;
mod socket;
mod start;
mod sys;
mod text;
pub mod thread_hooks;
mod wait;

/// Nothing here panics by design; a mistake of ours must not go on in somebody
/// else's process.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::abort()
}
