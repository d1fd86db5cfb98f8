//! `add_key(2)`: make a key in a keyring, or update the equal one that is there.
//!
//! Checks in order (`keyctl.c`, `key.c`):
//! 1. payload above 1 MiB - 1: EINVAL
//! 2. type: EFAULT, EINVAL, EPERM with a leading dot
//! 3. description: EFAULT, EINVAL; EPERM with a leading dot where the type's name
//!    begins with "keyring"
//! 4. payload: EFAULT
//! 5. the keyring, writable, made if missing: the lookup's errors
//! 6. unknown type ENODEV
//! 7. not a keyring: ENOTDIR
//! 8. the type's preparse: EINVAL, EBADMSG...; no description and none invented: EINVAL
//! 9. keyring revoked EKEYREVOKED, link quota EDQUOT, restriction (EPERM...), WRITE EACCES
//! 10. an equal key that can be updated: under construction it is waited for, and then
//!     its state counts; its WRITE EACCES, the type's update, EDQUOT
//! 11. else a new key: vetting of the description, EDQUOT

use alloc::sync::Arc;

use keyshim_abi::limits::ADD_PAYLOAD_LEN_MAX;
use keyshim_abi::{Errno, Fetched, KeyId, Need, Payload};

use super::{Progress, checked_type_name, serial_of};
use crate::create::NewKey;
use crate::key::{KeyIx, KeyRef};
use crate::key_type::{KeyType, Preparsed, TypeIx};
use crate::lookup::{Access, Call, Missing, Stop, Wait};
use crate::permission;
use crate::quota::Charge;
use crate::service::KeyService;

pub(super) fn add_key(
    service: &mut KeyService,
    call: &Call<'_>,
    type_name: Fetched<&[u8]>,
    description: Option<Fetched<&[u8]>>,
    payload: Payload<'_>,
    keyring: KeyId,
) -> Progress {
    if payload.len() > ADD_PAYLOAD_LEN_MAX {
        return Err(Errno::EINVAL.into());
    }
    let type_name = checked_type_name(type_name)?;
    let description = checked_description(type_name, description)?;
    let payload = payload.fetched()?;
    let ring = service.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?;
    let key = create_or_update(service, call, ring, (type_name, description), payload)?;
    Ok(serial_of(service, key))
}

/// An empty description counts as none.
fn checked_description<'a>(
    type_name: &[u8],
    description: Option<Fetched<&'a [u8]>>,
) -> Result<Option<&'a [u8]>, Errno> {
    match description.transpose()? {
        None | Some([]) => Ok(None),
        Some([b'.', ..]) if type_name.starts_with(b"keyring") => Err(Errno::EPERM),
        some => Ok(some),
    }
}

/// From the type on (`__key_create_or_update`).
fn create_or_update(
    service: &mut KeyService,
    call: &Call<'_>,
    ring: KeyRef,
    (type_name, description): (&[u8], Option<&[u8]>),
    payload: Option<&[u8]>,
) -> Result<KeyIx, Stop> {
    let type_ix = service.types.find(type_name).ok_or(Errno::ENODEV)?;
    let key_type = Arc::clone(service.types.get(type_ix));
    if !service.is_keyring(ring.key) {
        return Err(Errno::ENOTDIR.into());
    }
    // A payload that was not worth carrying is one that its type refuses.
    let mut prep = service.preparse(call.now, &*key_type, payload.ok_or(Errno::EINVAL)?)?;
    let invented = prep.description.take();
    let description = description.or(invented.as_deref()).ok_or(Errno::EINVAL)?;
    let index = service.index(type_ix, description);
    let displaces = service.find_link(ring.key, &index);
    let link = service.prepare_link(ring.key, displaces)?;
    let checked = check_ring(service, call, ring, type_ix, &prep).map_err(Stop::from);
    let result = checked.and_then(|()| {
        let updatable = key_type.updater().and(service.find_key_to_update(ring.key, &index));
        match updatable {
            Some(key) => {
                let found = KeyRef { key, possessed: ring.possessed };
                replace(service, call, found, &*key_type, prep).map(|()| None)
            }
            None => Ok(Some(create(service, call, &*key_type, (type_ix, description), prep)?)),
        }
    });
    match result {
        Ok(Some(new)) => {
            let linked = service.finish_link(link, new);
            service.put(new);
            linked?;
            Ok(new)
        }
        Ok(None) => Ok(link.displaces.ok_or(Errno::ENOKEY)?),
        Err(stop) => {
            service.cancel_link(link);
            Err(stop)
        }
    }
}

fn check_ring(
    service: &KeyService,
    call: &Call<'_>,
    ring: KeyRef,
    key_type: TypeIx,
    prep: &Preparsed,
) -> Result<(), Errno> {
    service.check_restriction(ring.key, key_type, &prep.payload)?;
    permission::check(service.store.get(ring.key), ring.possessed, call.caller, Need::Write)
}

fn replace(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyRef,
    key_type: &dyn KeyType,
    prep: Preparsed,
) -> Result<(), Stop> {
    if service.store.get(key.key).flags.under_construction {
        return Err(Stop::Waits(Wait::Lookup(key)));
    }
    if call.resolved.contains(&key) {
        service.state(call.now, key.key)?;
    }
    permission::check(service.store.get(key.key), key.possessed, call.caller, Need::Write)?;
    Ok(super::update::replace_payload(service, key.key, key_type, prep)?)
}

fn create(
    service: &mut KeyService,
    call: &Call<'_>,
    key_type: &dyn KeyType,
    (type_ix, description): (TypeIx, &[u8]),
    prep: Preparsed,
) -> Result<KeyIx, Errno> {
    let key = service.allocate(&NewKey {
        key_type: type_ix,
        description,
        uid: call.caller.ids.fsuid,
        gid: call.caller.ids.fsgid,
        perm: service.new_key_perm(type_ix, key_type),
        charge: Charge::Limited,
        namespace: call.caller.namespace().number,
    })?;
    match service.instantiate(key, prep) {
        Ok(()) => Ok(key),
        Err(errno) => {
            service.put(key);
            Err(errno)
        }
    }
}
