//! What keeps payloads in this process: not dumpable, not swapped where that is
//! allowed, and enough descriptors to turn nobody away.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// `CAP_IPC_LOCK`: locks memory beyond the limit.
const CAP_IPC_LOCK: u32 = 14;

/// No core dump, no debugger of our own user, no `/proc/PID/mem`.
pub(crate) fn conceal() {
    if let Err(errno) = prctl::set_dumpable(false) {
        tracing::warn!(%errno, "this process stays dumpable");
    }
}

/// Keeps memory from being swapped out, if that can be had for all of it: with a
/// limit, a later allocation would fail instead, and a broker without memory is
/// worse than one in swap. `keyshim doctor` says which it is.
pub(crate) fn lock_memory() {
    if !may_lock_memory() {
        tracing::info!("memory is not locked: RLIMIT_MEMLOCK is limited");
        return;
    }
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    // Pages are locked as they are used: thread stacks are mostly untouched.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    if let Err(errno) = mlockall(flags) {
        tracing::warn!(%errno, "memory is not locked");
    }
}

/// True when all of our memory may be locked.
pub(crate) fn may_lock_memory() -> bool {
    let pid = std::process::id();
    let has_capability = crate::proc::status(pid, pid)
        .is_some_and(|status| status.effective >> CAP_IPC_LOCK & 1 == 1);
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK);
    has_capability || limit.is_ok_and(|(_, hard)| hard == RLIM_INFINITY)
}

/// Descriptors that this process may have once [`raise_descriptors`] was called.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

/// Takes as many descriptors as the hard limit allows. Not before a program has
/// been started that should have the limit that it was meant to have.
pub(crate) fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
