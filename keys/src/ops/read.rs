//! KEYCTL_READ: a key's payload, or the serials that a keyring links.
//!
//! Checks in order (`keyctl_read_key`):
//! 1. the key: whatever the lookup says is ENOKEY
//! 2. a negative key: its stored error
//! 3. neither READ nor possession: EACCES
//! 4. the type has no read: EOPNOTSUPP
//! 5. the key's state: ENOKEY, EKEYREVOKED, EKEYEXPIRED; then the type's error
//! 6. a keyring, into a buffer of at most a page that is no multiple of 4: EINVAL
//!
//! Returns the full length; copies nothing unless all of it fits, or what the profile says.

use alloc::sync::Arc;
use alloc::vec::Vec;

use keyshim_abi::limits::PAGE_LEN;
use keyshim_abi::{Errno, KeyId};

use super::{Progress, copy_out};
use crate::key::Key;
use crate::lookup::{Access, Call, Missing, Stop};
use crate::profile::ShortBuffer;
use crate::service::KeyService;

const SERIAL_LEN: usize = 4;

pub(super) fn read(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyId,
    room: Option<u64>,
    data: &mut Vec<u8>,
) -> Progress {
    let found = match service.lookup(call, key, Missing::Leave, Access::Deferred) {
        Err(Stop::Refused(_)) => return Err(Errno::ENOKEY.into()),
        found => found?,
    };
    let key = service.store.get(found.key);
    if service.profile.negative_refuses {
        key.rejection()?;
    }
    if !service.may_read(call, found) {
        return Err(service.profile.unreadable.into());
    }
    let key_type = Arc::clone(service.types.get(key.key_type));
    let reader = key_type.reader().ok_or(Errno::EOPNOTSUPP)?;
    key.validate(call.now)?;
    if key.links().is_some() {
        return read_keyring(service, key, room, data);
    }
    let payload = reader.read(&key.payload)?;
    copy_out(&payload, room, service.profile.short_buffer, data);
    Ok(u32::try_from(payload.len()).map_err(|_| Errno::ENOMEM)?)
}

fn read_keyring(
    service: &KeyService,
    keyring: &Key,
    room: Option<u64>,
    data: &mut Vec<u8>,
) -> Progress {
    let crooked = |room: u64| room <= PAGE_LEN && room % SERIAL_LEN as u64 != 0;
    let takes_part = service.profile.short_buffer == ShortBuffer::Part;
    if !takes_part && room.is_some_and(crooked) {
        return Err(Errno::EINVAL.into());
    }
    let Some(links) = keyring.links() else { return Ok(0) };
    let len = links.len() * SERIAL_LEN;
    if room.is_some_and(|room| room >= len as u64 || takes_part) {
        data.reserve(len);
        links.each(&mut |key| {
            data.extend_from_slice(&service.store.get(key).serial.raw().to_ne_bytes());
        });
        data.truncate(room.map_or(0, |room| usize::try_from(room).unwrap_or(usize::MAX)));
    }
    Ok(u32::try_from(len).map_err(|_| Errno::ENOMEM)?)
}
