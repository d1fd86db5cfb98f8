//! `user`: bytes for user space, as they are (`user_defined.c`).
//!
//! Payload: 1 to 32,767 bytes, else EINVAL; costs its length. Read and update; an
//! update clears the expiry. Revoking wipes it and gives the quota back.

use alloc::borrow::Cow;
use core::fmt;

use keyshim_abi::Errno;
use keyshim_abi::limits::USER_PAYLOAD_LEN_MAX;

use crate::key_type::{KeyType, Preparsed, ReadKey, Summary, UpdateKey};
use crate::payload::Payload;

pub(crate) struct User;

/// The rule that `user` and `logon` share (`user_preparse`).
pub(super) fn preparse(data: &[u8]) -> Result<Preparsed, Errno> {
    if data.is_empty() || data.len() > USER_PAYLOAD_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(Preparsed::copied(data))
}

/// The length that is charged, 0 after a revocation (`user_describe`).
pub(super) fn summarize(summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, ": {}", summary.data_len)
}

impl KeyType for User {
    fn name(&self) -> &'static str {
        "user"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        preparse(data)
    }

    fn summarize(&self, summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        summarize(summary, out)
    }

    fn wipes_when_revoked(&self) -> bool {
        true
    }

    fn updater(&self) -> Option<&dyn UpdateKey> {
        Some(self)
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

impl UpdateKey for User {}

impl ReadKey for User {
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Borrowed(payload.bytes()))
    }
}
