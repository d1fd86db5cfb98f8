//! KEYCTL_REJECT and KEYCTL_NEGATE: fail a key under construction.
//!
//! Checks in order (`keyctl_reject_key`):
//! 1. an error of 0, above 4094, or one of the kernel's restart codes: EINVAL
//! 2. no authority assumed: EPERM. No helper is called yet, so nobody ever has any

use keyshim_abi::Errno;
use keyshim_abi::reply::Answer;

/// ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK.
const RESTART_CODES: [u32; 4] = [512, 513, 514, 516];

pub(super) fn reject(error: u32) -> Answer {
    let legal = i32::try_from(error).ok().and_then(Errno::new).is_some();
    if !legal || RESTART_CODES.contains(&error) { Err(Errno::EINVAL) } else { Err(Errno::EPERM) }
}
