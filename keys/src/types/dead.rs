//! `.dead`: what keys become whose type has been unregistered (`gc.c`).

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Preparsed};

pub(crate) struct Dead;

impl KeyType for Dead {
    fn name(&self) -> &'static str {
        ".dead"
    }

    fn preparse(&self, _data: &[u8]) -> Result<Preparsed, Errno> {
        Err(Errno::EINVAL)
    }
}
