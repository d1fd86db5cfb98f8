//! `.request_key_auth`: the authority to instantiate one key (`request_key_auth.c`).
//!
//! No key of this type is ever made, because no helper is called yet; the type is
//! there so that ASSUME_AUTHORITY can search for one and not find it.

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Preparsed};

pub(crate) struct RequestKeyAuth;

impl KeyType for RequestKeyAuth {
    fn name(&self) -> &'static str {
        ".request_key_auth"
    }

    fn preparse(&self, _data: &[u8]) -> Result<Preparsed, Errno> {
        Err(Errno::EINVAL)
    }
}
