//! Signals: blocked, looked at, and left to the kernel's own ways.

use super::{Refused, bare, outcome};

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

/// Who deals with a signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The kernel: it ends, stops or goes on with the program, or nothing happens.
    Kernel,
    /// A handler of the program's; a call that it interrupts begins anew or not.
    Handler { restarts: bool },
}

/// Who deals with that signal.
pub(crate) fn action_of(signal: u32) -> Action {
    let mut action = [0u64; 4];
    let asked = call!(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8);
    let [handler, flags, ..] = action;
    if asked.is_err() {
        return Action::Handler { restarts: false };
    }
    match handler {
        handler if handler == libc::SIG_DFL as u64 => Action::Kernel,
        handler if handler == libc::SIG_IGN as u64 => Action::Kernel,
        _ => Action::Handler { restarts: flags & libc::SA_RESTART as u64 != 0 },
    }
}

/// A descriptor that is readable while one of these signals, all of them blocked, waits
/// for its caller.
pub(crate) fn signal_descriptor(signals: u64) -> Result<i32, Refused> {
    let set = core::ptr::from_ref(&signals);
    call!(libc::SYS_signalfd4, -1, set, 8, libc::SFD_CLOEXEC).map(|fd| fd as i32)
}

/// Waits until one of two descriptors is readable; true for the first one.
pub(crate) fn wait_for_either(first: i32, second: i32) -> bool {
    let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [readable(first), readable(second)];
    let done = call!(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), 0, 0, 0);
    // What cannot be waited for is looked at.
    done.is_err() || fds[0].revents != 0
}

/// Leaves that signal to the kernel's own ways.
pub(crate) fn set_default_action(signal: u32) {
    let action = [0u64; 4];
    let _ = call!(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8);
}
