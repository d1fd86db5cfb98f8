//! `big_key`: up to a megabyte, cheap in quota (`big_key.c`).
//!
//! Payload: 1 byte to 1 MiB, else EINVAL; costs 16 bytes whatever its size. An update
//! must find its whole length free in the owner's quota for a moment, and leaves the
//! expiry alone. Above [`FILE_THRESHOLD_LEN`] the kernel keeps it in an encrypted
//! temporary file, which shows in `/proc/keys` only; here it stays in locked memory.

use alloc::borrow::Cow;
use core::fmt;

use keyshim_abi::Errno;
use keyshim_abi::limits::{BIG_KEY_PAYLOAD_LEN_MAX, BIG_KEY_QUOTA_LEN};

use crate::key_type::{KeyType, Preparsed, ReadKey, Summary, UpdateKey};
use crate::payload::Payload;

/// Bytes above which `/proc/keys` says `[file]`: the size of an inode and a directory
/// entry in a kernel of today, without options that enlarge them.
const FILE_THRESHOLD_LEN: usize = 784;

pub(crate) struct BigKey;

impl KeyType for BigKey {
    fn name(&self) -> &'static str {
        "big_key"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        if data.is_empty() || data.len() > BIG_KEY_PAYLOAD_LEN_MAX {
            return Err(Errno::EINVAL);
        }
        Ok(Preparsed { quota_len: BIG_KEY_QUOTA_LEN, ..Preparsed::copied(data) })
    }

    fn summarize(&self, summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        let len = summary.payload.len();
        let place = if len > FILE_THRESHOLD_LEN { "file" } else { "buff" };
        write!(out, ": {len} [{place}]")
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

impl UpdateKey for BigKey {
    fn reserve_len(&self, prep: &Preparsed) -> u32 {
        u32::try_from(prep.payload.len()).unwrap_or(u32::MAX)
    }

    fn takes_expiry(&self) -> bool {
        false
    }
}

impl ReadKey for BigKey {
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Borrowed(payload.bytes()))
    }
}
