//! `.request_key_auth`: the authority to instantiate one key (`request_key_auth.c`).
//!
//! Nobody can add one: they are made with each upcall. READ gives the callout
//! information, EKEYREVOKED once the authority has ended.

use alloc::borrow::Cow;

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Preparsed, ReadKey};
use crate::payload::Payload;

pub(crate) struct RequestKeyAuth;

impl KeyType for RequestKeyAuth {
    fn name(&self) -> &'static str {
        ".request_key_auth"
    }

    fn preparse(&self, _data: &[u8]) -> Result<Preparsed, Errno> {
        Err(Errno::EINVAL)
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

impl ReadKey for RequestKeyAuth {
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        let authority = payload.authority().ok_or(Errno::EKEYREVOKED)?;
        Ok(Cow::Borrowed(authority.callout()))
    }
}
