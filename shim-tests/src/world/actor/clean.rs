//! What a history on the kernel leaves behind.

use anyhow::Result;
use keyshim_abi::uapi::keyctl as op;

use super::{ActorWorld, USERS_MAX};
use crate::step::Which;
use crate::wire::{Command, Register};

impl ActorWorld {
    /// Takes away what a history's users would leave behind for days: their user
    /// keyrings and persistent keyrings. The first actor must still live, as root.
    pub(super) fn clean(&mut self) -> Result<()> {
        let first = self.first.clone();
        for user in 1..=USERS_MAX {
            let uid = self.id_base + user;
            self.set_ids(&first, Which::Uids, [uid, 0, 0])?;
            self.set_ids(&first, Which::FsUid, [uid, 0, 0])?;
            // Both are looked up before either goes: a lookup makes what is missing.
            let mut serials = Vec::new();
            for id in [-4i64, -5] {
                serials.push(self.keyctl(&first, [op::GET_KEYRING_ID.into(), id as u64, 0])?);
            }
            for serial in serials {
                self.keyctl(&first, [op::INVALIDATE.into(), serial as u64, 0])?;
            }
            let at = [op::GET_PERSISTENT.into(), uid.into(), -2i64 as u64];
            let serial = self.keyctl(&first, at)?;
            self.keyctl(&first, [op::INVALIDATE.into(), serial as u64, 0])?;
        }
        Ok(())
    }

    fn keyctl(&mut self, actor: &str, args: [u64; 3]) -> Result<i64> {
        let args = args.map(Register::Value).to_vec();
        Ok(self.ask(actor, &Command::Call { entry: 2, args })?.ret)
    }
}
