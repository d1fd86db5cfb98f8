//! Signals: blocked, looked at, and left to the kernel's own ways.

use super::{bare, outcome};

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
