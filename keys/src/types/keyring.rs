//! `keyring`: links to other keys (`keyring.c`).
//!
//! Payload: none may be given (EINVAL). READ lists the linked serials; there is no
//! update, so adding a keyring of a name that is there displaces it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::fmt;

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Preparsed, ReadKey, Summary};
use crate::links::Links;
use crate::payload::Payload;
use crate::profile::Rings;

pub(crate) struct Keyring {
    pub(crate) rings: Rings,
    pub(crate) quota_len: u32,
}

impl KeyType for Keyring {
    fn name(&self) -> &'static str {
        "keyring"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        if !data.is_empty() {
            return Err(Errno::EINVAL);
        }
        let payload = Payload::Keyring(Box::new(Links::new(self.rings)));
        let quota_len = self.quota_len;
        Ok(Preparsed { payload, quota_len, description: None, expiry: None, life_s: None })
    }

    fn summarize(&self, summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        let links = summary.payload.links();
        match (links.map_or(0, Links::len), links.and_then(Links::places)) {
            (count, Some(places @ 1..)) => write!(out, ": {count}/{places}"),
            (count @ 1.., _) => write!(out, ": {count}"),
            (0, _) => out.write_str(": empty"),
        }
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

/// A list of serials needs the store, which a type does not see: `ops/read.rs` makes
/// it. That a keyring can be read is all that is asked here.
impl ReadKey for Keyring {
    fn read<'p>(&self, _payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Borrowed(&[]))
    }
}
