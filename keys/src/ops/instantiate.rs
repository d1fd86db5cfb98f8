//! KEYCTL_INSTANTIATE and KEYCTL_INSTANTIATE_IOV: give a key under construction its
//! payload.
//!
//! Checks in order (`keyctl_instantiate_key_common`):
//! 1. payload above 1 MiB - 1: EINVAL
//! 2. no authority assumed: EPERM. No helper is called yet, so nobody ever has any

use keyshim_abi::limits::ADD_PAYLOAD_LEN_MAX;
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Payload};

pub(super) fn instantiate(payload: Payload<'_>) -> Answer {
    if payload.len() > ADD_PAYLOAD_LEN_MAX { Err(Errno::EINVAL) } else { Err(Errno::EPERM) }
}
