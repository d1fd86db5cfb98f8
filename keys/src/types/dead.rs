//! `.dead`: what keys become whose type has been unregistered (`gc.c`).

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Preparsed};

/// Its name has come to begin with a dot.
pub(crate) struct Dead(pub(crate) &'static str);

impl KeyType for Dead {
    fn name(&self) -> &'static str {
        self.0
    }

    fn preparse(&self, _data: &[u8]) -> Result<Preparsed, Errno> {
        Err(Errno::EINVAL)
    }
}
