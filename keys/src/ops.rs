//! The operations, one file each, named as in the man pages. The head of each file
//! lists what Linux checks, in its order, each with its error.

pub(crate) mod add_key;
mod assume_authority;
mod capabilities;
mod chown;
mod clear;
mod describe;
mod get_keyring_id;
mod get_persistent;
mod get_security;
mod instantiate;
mod invalidate;
mod join_session_keyring;
mod link;
mod move_key;
mod read;
mod reject;
mod request_key;
mod restrict_keyring;
mod revoke;
mod search;
mod session_to_parent;
mod set_reqkey_keyring;
mod set_timeout;
mod setperm;
mod unlink;
mod update;

use alloc::vec::Vec;

use keyshim_abi::{Errno, Fetched, Payload, Request};

use crate::lookup::{Call, Stop};
use crate::profile::ShortBuffer;
use crate::service::KeyService;

/// The value of an operation, or why it does not go on.
pub(crate) type Progress = Result<u32, Stop>;

/// Carries out one call. EOPNOTSUPP for what the domain's kernel did not know yet.
pub(crate) fn carry_out(
    service: &mut KeyService,
    call: &Call<'_>,
    request: &Request<'_>,
    data: &mut Vec<u8>,
) -> Progress {
    if request.operation().is_some_and(|number| number > service.profile.last_operation) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match *request {
        Request::AddKey { type_name, description, payload, keyring } => {
            add_key::add_key(service, call, type_name, description, payload, keyring)
        }
        Request::RequestKey { type_name, description, callout, destination } => {
            let what = request_key::Arguments { type_name, description, callout };
            request_key::request_key(service, call, what, destination)
        }
        Request::Update { key, payload } => update::update(service, call, key, payload),
        Request::Search { keyring, type_name, description, destination } => {
            search::search(service, call, keyring, (type_name, description), destination)
        }
        Request::JoinSessionKeyring { name } => {
            join_session_keyring::join_session_keyring(service, call, name)
        }
        Request::RestrictKeyring { keyring, type_name, restriction } => {
            restrict_keyring::restrict_keyring(service, call, keyring, type_name, restriction)
        }
        Request::Read { key, room } => read::read(service, call, key, room, data),
        Request::Describe { key, room } => describe::describe(service, call, key, room, data),
        Request::GetSecurity { key, room } => {
            get_security::get_security(service, call, key, room, data)
        }
        Request::Capabilities { room } => Ok(capabilities::capabilities(room, data)),
        _ => carry_out_plain(service, call, request),
    }
}

/// Operations whose arguments are numbers and whose answer is one.
fn carry_out_plain(service: &mut KeyService, call: &Call<'_>, request: &Request<'_>) -> Progress {
    match *request {
        Request::GetKeyringId { id, create } => {
            get_keyring_id::get_keyring_id(service, call, id, create)
        }
        Request::Revoke { key } => revoke::revoke(service, call, key),
        Request::Chown { key, uid, gid } => chown::chown(service, call, key, uid, gid),
        Request::Setperm { key, perm } => setperm::setperm(service, call, key, perm),
        Request::Clear { keyring } => clear::clear(service, call, keyring),
        Request::Link { key, keyring } => link::link(service, call, key, keyring),
        Request::Unlink { key, keyring } => unlink::unlink(service, call, key, keyring),
        Request::Move { key, from, to, flags } => {
            move_key::move_key(service, call, key, (from, to), flags)
        }
        Request::SetReqkeyKeyring { default } => {
            set_reqkey_keyring::set_reqkey_keyring(service, call, default)
        }
        Request::SetTimeout { key, timeout_s } => {
            set_timeout::set_timeout(service, call, key, timeout_s)
        }
        Request::SessionToParent => session_to_parent::session_to_parent(service, call),
        Request::Invalidate { key } => invalidate::invalidate(service, call, key),
        Request::GetPersistent { uid, keyring } => {
            get_persistent::get_persistent(service, call, uid, keyring)
        }
        Request::Instantiate { key, payload, keyring }
        | Request::InstantiateIov { key, payload, keyring } => {
            instantiate::instantiate(service, call, key, payload, keyring)
        }
        Request::Negate { key, timeout_s, keyring } => {
            reject::reject(service, call, key, (timeout_s, Errno::ENOKEY.raw() as u32), keyring)
        }
        Request::Reject { key, timeout_s, error, keyring } => {
            reject::reject(service, call, key, (timeout_s, error), keyring)
        }
        Request::AssumeAuthority { key } => assume_authority::assume_authority(service, call, key),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// A type name as the kernel takes it: empty or too long EINVAL, with a leading dot
/// EPERM, at a bad address EFAULT (`key_get_type_from_user`). Where that does not matter,
/// what is too long is cut off and then as unknown as the empty name.
fn checked_type_name<'a>(
    service: &KeyService,
    type_name: Fetched<&'a [u8]>,
) -> Result<&'a [u8], Errno> {
    let is_strict = service.profile.strict_type_names;
    match type_name {
        Err(Errno::EINVAL) if !is_strict => Ok(&[]),
        Ok([]) if is_strict => Err(Errno::EINVAL),
        Ok([b'.', ..]) if service.profile.reserves_dots => Err(Errno::EPERM),
        name => name,
    }
}

/// A description, name or callout information: EFAULT, EINVAL when it is too long.
fn checked_text<'a>(service: &KeyService, text: Fetched<&'a [u8]>) -> Fetched<&'a [u8]> {
    text.and_then(|text| match text.len() <= service.profile.text_len_max {
        true => Ok(text),
        false => Err(Errno::EINVAL),
    })
}

/// A payload where the kernel copies it; none that is not worth carrying, or absent.
fn fetched<'a>(service: &KeyService, payload: Payload<'a>) -> Fetched<Option<&'a [u8]>> {
    match service.profile.null_payload_is_none {
        true => payload.fetched_unless_null(),
        false => payload.fetched(),
    }
}

/// Copies what has been made into the caller's buffer: all of it if it fits, else what the
/// profile says.
fn copy_out(bytes: &[u8], room: Option<u64>, short: ShortBuffer, data: &mut Vec<u8>) {
    let room = room.map_or(0, |room| usize::try_from(room).unwrap_or(usize::MAX));
    let len = match short {
        _ if room >= bytes.len() => bytes.len(),
        ShortBuffer::Nothing => 0,
        ShortBuffer::Part => room,
    };
    data.extend_from_slice(&bytes[..len]);
}

/// What an operation returns that made or found a key.
pub(crate) fn serial_of(service: &KeyService, key: crate::key::KeyIx) -> u32 {
    service.store.get(key).serial.raw().unsigned_abs()
}
