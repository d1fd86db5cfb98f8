//! KEYCTL_DESCRIBE: `type;uid;gid;perm;description`.
//!
//! Checks: the key with VIEW, negative or under construction too: the lookup's errors
//! (`keyctl_describe_key`). EACCES is excused by the authority to instantiate the key,
//! which need not be assumed but found in the caller's own keyrings. Returns the length
//! with its NUL; copies nothing unless all of it fits, or what the profile says.

use alloc::format;
use alloc::vec::Vec;

use keyshim_abi::{Errno, KeyId, Need};

use super::{Progress, copy_out};
use crate::lookup::{Call, Missing};
use crate::service::KeyService;

pub(super) fn describe(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    room: Option<u32>,
    data: &mut Vec<u8>,
) -> Progress {
    let denied = |_| Errno::EACCES;
    let found = service.lookup_or_authority(call, key, Missing::Leave, Need::View, denied)?;
    let key = service.store.get(found.key);
    let namespace = &call.caller.namespace();
    let mut text = format!(
        "{};{};{};{:0width$x};",
        service.types.get(key.key_type).name(),
        namespace.uids.inward_or_overflow(key.uid.0) as i32,
        service.shown_gid(namespace, key.gid),
        key.perm.0,
        width = service.profile.perm_digits,
    )
    .into_bytes();
    text.extend_from_slice(&key.description);
    if text.len() > service.profile.describe_len_max {
        text.truncate(service.profile.describe_len_max - 1);
        text.push(0);
    }
    text.push(0);
    copy_out(&text, room.map(u64::from), service.profile.short_buffer, data);
    Ok(text.len() as u32)
}
