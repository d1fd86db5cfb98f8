//! `logon`: like `user`, but what goes in never comes out (`user_defined.c`).
//!
//! Description: `SERVICE:NAME`, with at least one byte before the colon, else EINVAL.
//! There is no read: EOPNOTSUPP.

use core::fmt;

use keyshim_abi::Errno;

use super::user;
use crate::key_type::{KeyType, Preparsed, Summary, UpdateKey};

pub(crate) struct Logon;

impl KeyType for Logon {
    fn name(&self) -> &'static str {
        "logon"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        user::preparse(data)
    }

    fn vet_description(&self, description: &[u8]) -> Result<(), Errno> {
        match description.iter().position(|&byte| byte == b':') {
            None | Some(0) => Err(Errno::EINVAL),
            Some(_) => Ok(()),
        }
    }

    fn summarize(&self, summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        user::summarize(summary, out)
    }

    fn wipes_when_revoked(&self) -> bool {
        true
    }

    fn updater(&self) -> Option<&dyn UpdateKey> {
        Some(self)
    }
}

impl UpdateKey for Logon {}
