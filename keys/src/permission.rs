//! May this caller do this to that key (`permission.c`).
//!
//! One class only is looked at: the owner's if fsuid owns the key; else the group's
//! if the key grants its group anything and the caller is in it; else everyone's.
//! What the possessor may comes on top of that. Capabilities never help.

use keyshim_abi::caller::{Caller, Gid};
use keyshim_abi::{Errno, Need, Perm};

use crate::key::Key;

/// EACCES unless the caller has that right on the key.
pub(crate) fn check(
    key: &Key,
    possessed: bool,
    caller: &Caller<'_>,
    need: Need,
) -> Result<(), Errno> {
    if granted(key, possessed, caller) & need as u8 != 0 { Ok(()) } else { Err(Errno::EACCES) }
}

/// Every right that the caller has on the key, in bits of [`Need`].
pub(crate) fn granted(key: &Key, possessed: bool, caller: &Caller<'_>) -> u8 {
    class_byte(key, caller) | if possessed { key.perm.possessor_byte() } else { 0 }
}

fn class_byte(key: &Key, caller: &Caller<'_>) -> u8 {
    if key.uid == caller.ids.fsuid {
        key.perm.user_byte()
    } else if key.gid != Gid::INVALID && key.perm.meets(Perm::GROUP_ALL) && in_group(key, caller) {
        key.perm.group_byte()
    } else {
        key.perm.other_byte()
    }
}

fn in_group(key: &Key, caller: &Caller<'_>) -> bool {
    key.gid == caller.ids.fsgid || caller.privileges.in_group(key.gid)
}
