//! KEYCTL_CAPABILITIES: what this kernel can do, as two bytes.
//!
//! Checks: EFAULT. Returns 2; bytes of the buffer beyond the second are zeroed.

use alloc::vec::Vec;

use keyshim_abi::uapi::{caps0, caps1};

const CAPABILITIES: [u8; 2] = [
    caps0::CAPABILITIES
        | caps0::PERSISTENT_KEYRINGS
        | caps0::BIG_KEY
        | caps0::INVALIDATE
        | caps0::RESTRICT_KEYRING
        | caps0::MOVE,
    caps1::NS_KEYRING_NAME | caps1::NS_KEY_TAG,
];

pub(super) fn capabilities(room: u64, data: &mut Vec<u8>) -> u32 {
    let copied = room.min(CAPABILITIES.len() as u64) as usize;
    data.extend_from_slice(&CAPABILITIES[..copied]);
    CAPABILITIES.len() as u32
}
