//! `big_key`: up to a megabyte, cheap in quota (`big_key.c`).
//!
//! Payload: 1 byte to 1 MiB, else EINVAL; costs 16 bytes whatever its size. An update
//! must find its whole length free in the owner's quota for a moment, and leaves the
//! expiry alone, even one that has passed: unlike a `user` key, an expired `big_key` is
//! not revived by add_key. Above [`FILE_THRESHOLD_LEN`] the kernel keeps the payload in
//! an encrypted temporary file, which shows in `/proc/keys` only; here it stays in
//! locked memory.

use alloc::borrow::Cow;
use core::fmt;

use keyshim_abi::Errno;
use keyshim_abi::limits::{BIG_KEY_PAYLOAD_LEN_MAX, BIG_KEY_QUOTA_LEN};

use crate::key_type::{KeyType, Preparsed, ReadKey, Summary, UpdateKey};
use crate::payload::Payload;

/// Bytes above which `/proc/keys` says `[file]`: the sizes of the kernel's structures
/// for an inode and a directory entry. Every build has its own sum; this is that of
/// the kernel that judged us (COMPATIBILITY.md), 544 and 192.
const FILE_THRESHOLD_LEN: usize = 736;

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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    fn shown(payload: &Payload) -> String {
        let mut out = String::new();
        BigKey.summarize(Summary { payload, data_len: BIG_KEY_QUOTA_LEN }, &mut out).unwrap();
        out
    }

    #[test]
    fn more_than_an_inode_and_a_directory_entry_is_a_file() {
        assert_eq!(shown(&Payload::copied(&[0; 736])), ": 736 [buff]");
        assert_eq!(shown(&Payload::copied(&[0; 737])), ": 737 [file]");
        let mut revoked = Payload::copied(&[0; 737]);
        revoked.wipe();
        assert_eq!(shown(&revoked), ": 737 [file]");
    }

    /// add_key stops a byte short of this limit, so no caller meets it.
    #[test]
    fn a_mebibyte_is_the_most() {
        let mebibyte = vec![0; 1024 * 1024 + 1];
        assert_eq!(BigKey.preparse(&mebibyte[1..]).unwrap().quota_len, 16);
        assert_eq!(BigKey.preparse(&mebibyte).err(), Some(Errno::EINVAL));
        assert_eq!(BigKey.preparse(&[]).err(), Some(Errno::EINVAL));
    }
}
