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
//! 9. for a new key: keyring revoked EKEYREVOKED, link quota EDQUOT
//! 10. restriction (EPERM...), WRITE EACCES
//! 11. an equal key that can be updated: under construction it is waited for, and then
//!     its state counts; its WRITE EACCES, the type's update, EDQUOT
//! 12. else a new key: vetting of the description, EDQUOT
//!
//! Where the profile does not check ahead, payload and link are looked at in the course of
//! making or updating the key; and an equal key that cannot be updated may be EEXIST.

use alloc::sync::Arc;

use keyshim_abi::{Errno, Fetched, KeyId, Need, Payload};

use super::{Progress, checked_text, checked_type_name, fetched, serial_of};
use crate::create::NewKey;
use crate::key::{KeyIx, KeyRef};
use crate::key_type::{KeyType, Preparsed, TypeIx};
use crate::lookup::{Access, Call, Missing, Stop, Wait};
use crate::permission;
use crate::profile::NotUpdatable;
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
    if payload.len() > service.profile.add_payload_len_max {
        return Err(Errno::EINVAL.into());
    }
    let type_name = checked_type_name(service, type_name)?;
    let description = checked_description(service, type_name, description)?;
    let payload = fetched(service, payload)?;
    let ring = service.lookup(call, keyring, Missing::Create, Access::Usable(Need::Write))?;
    let key = create_or_update(service, call, ring, (type_name, description), payload)?;
    Ok(serial_of(service, key))
}

/// An empty description counts as none.
fn checked_description<'a>(
    service: &KeyService,
    type_name: &[u8],
    description: Option<Fetched<&'a [u8]>>,
) -> Result<Option<&'a [u8]>, Errno> {
    match description.map(|text| checked_text(service, text)).transpose()? {
        None if !service.profile.description_may_be_null => Err(Errno::EFAULT),
        None | Some([]) => Ok(None),
        Some([b'.', ..]) if service.profile.reserves_dots && type_name.starts_with(b"keyring") => {
            Err(Errno::EPERM)
        }
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
    let given = Given { key_type: &*key_type, type_ix, payload };
    let mut ahead = match service.profile.checks_ahead {
        true => Some(given.preparse(service, call)?),
        false => None,
    };
    let invented = ahead.as_mut().and_then(|prep| prep.description.take());
    let description = description.or(invented.as_deref()).ok_or(Errno::EINVAL)?;
    let index = service.index(type_ix, description);
    let is_equal =
        key_type.updater().is_some() || service.profile.not_updatable == NotUpdatable::Exists;
    let equal = service.find_key_to_update(ring.key, &index).filter(|_| is_equal);
    if let Some(key) = equal {
        let found = KeyRef { key, possessed: ring.possessed };
        check_ring(service, call, ring, type_ix, ahead.as_ref())?;
        replace(service, call, found, &given, ahead)?;
        return Ok(key);
    }
    let link = match service.profile.checks_ahead {
        true => {
            let displaces = service.displaced_by(ring.key, &index);
            Some(service.prepare_link(ring.key, displaces)?)
        }
        false => None,
    };
    let made = check_ring(service, call, ring, type_ix, ahead.as_ref())
        .and_then(|()| create(service, call, &given, description, ahead));
    match (made, link) {
        (Ok(new), link) => {
            let linked = match link {
                Some(link) => service.finish_link(link, new),
                None => service.link(ring.key, new),
            };
            service.put(new);
            Ok(linked.map(|()| new)?)
        }
        (Err(errno), link) => {
            if let Some(link) = link {
                service.cancel_link(link);
            }
            Err(errno.into())
        }
    }
}

/// What a key is to be made of.
struct Given<'a> {
    key_type: &'a dyn KeyType,
    type_ix: TypeIx,
    payload: Option<&'a [u8]>,
}

impl Given<'_> {
    fn preparse(&self, service: &KeyService, call: &Call<'_>) -> Result<Preparsed, Errno> {
        // A payload that was not worth carrying is one that its type refuses.
        service.preparse(call.now, self.key_type, self.payload.ok_or(Errno::EINVAL)?)
    }
}

fn check_ring(
    service: &KeyService,
    call: &Call<'_>,
    ring: KeyRef,
    key_type: TypeIx,
    prep: Option<&Preparsed>,
) -> Result<(), Errno> {
    if let Some(prep) = prep {
        service.check_restriction(ring.key, key_type, &prep.payload)?;
    }
    permission::check(service.store.get(ring.key), ring.possessed, call.caller, Need::Write)
}

fn replace(
    service: &mut KeyService,
    call: &Call<'_>,
    key: KeyRef,
    given: &Given<'_>,
    ahead: Option<Preparsed>,
) -> Result<(), Stop> {
    if service.store.get(key.key).flags.under_construction {
        return Err(Stop::Waits(Wait::Lookup(key)));
    }
    if call.resolved.contains(&key) {
        service.state(call.now, key.key)?;
    }
    permission::check(service.store.get(key.key), key.possessed, call.caller, Need::Write)?;
    if given.key_type.updater().is_none() {
        return Err(Errno::EEXIST.into());
    }
    let prep = ahead.map_or_else(|| given.preparse(service, call), Ok)?;
    Ok(super::update::replace_payload(service, key.key, given.key_type, prep)?)
}

fn create(
    service: &mut KeyService,
    call: &Call<'_>,
    given: &Given<'_>,
    description: &[u8],
    ahead: Option<Preparsed>,
) -> Result<KeyIx, Errno> {
    let key = service.allocate(&NewKey {
        key_type: given.type_ix,
        description,
        uid: call.caller.ids.fsuid,
        gid: call.caller.ids.fsgid,
        perm: service.new_key_perm(given.type_ix, given.key_type),
        charge: Charge::Limited,
        namespace: call.caller.namespace().number,
    })?;
    let prep = ahead.map_or_else(|| given.preparse(service, call), Ok);
    match prep.and_then(|prep| service.instantiate(key, prep)) {
        Ok(()) => Ok(key),
        Err(errno) => {
            service.put(key);
            Err(errno)
        }
    }
}
