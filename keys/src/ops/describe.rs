//! KEYCTL_DESCRIBE: `type;uid;gid;perm;description`.
//!
//! Checks: the key with VIEW, negative too: the lookup's errors
//! (`keyctl_describe_key`). EACCES would be excused by the authority to instantiate
//! the key, which nobody has here. Returns the length with its NUL; copies nothing
//! unless all of it fits.

use alloc::format;
use alloc::vec::Vec;

use keyshim_abi::reply::Answer;
use keyshim_abi::{KeyId, Need};

use super::copy_if_it_fits;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn describe(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    room: Option<u32>,
    data: &mut Vec<u8>,
) -> Answer {
    let found = service.lookup(call, key, Missing::Leave, Access::Partial(Need::View))?;
    let key = service.store.get(found.key);
    let namespace = &call.caller.namespace();
    let mut text = format!(
        "{};{};{};{:08x};",
        service.types.get(key.key_type).name(),
        namespace.uids.inward_or_overflow(key.uid.0) as i32,
        namespace.gids.inward_or_overflow(key.gid.0) as i32,
        key.perm.0,
    )
    .into_bytes();
    text.extend_from_slice(&key.description);
    text.push(0);
    copy_if_it_fits(&text, room.map(u64::from), data);
    Ok(text.len() as u32)
}
