//! `request_key(2)`: find a key in the caller's keyrings, or have it made.
//!
//! Checks in order (`keyctl.c`, `request_key.c`):
//! 1. type EFAULT, EINVAL, EPERM; description EFAULT, EINVAL; callout EFAULT, EINVAL
//! 2. destination, writable, made if missing: the lookup's errors
//! 3. unknown type: ENOKEY
//! 4. the search through thread, process and session keyring, with assumed authority also
//!    through the requester's; an expired key counts as none. Found, with a destination:
//!    LINK on the key EACCES, then the link's errors
//! 5. not found: ENOKEY without callout information, EPERM for a keyring
//! 6. the destination's WRITE EACCES; an empty description EINVAL, the type's vetting,
//!    EDQUOT; ENOTDIR, EKEYREVOKED, EDQUOT for the link
//! 7. the caller's own authority has ended EKEYREVOKED; the helper cannot be started
//! 8. what the key has become: a stored error, ENOKEY, EKEYREVOKED, EKEYEXPIRED

use keyshim_abi::{Errno, Fetched, KeyId};

use super::{Progress, checked_text, checked_type_name, serial_of};
use crate::construction::{Claimant, Wanted};
use crate::lookup::{Call, Stop, Wait};
use crate::service::KeyService;

/// What is requested.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a> {
    pub(super) type_name: Fetched<&'a [u8]>,
    pub(super) description: Fetched<&'a [u8]>,
    pub(super) callout: Option<Fetched<&'a [u8]>>,
}

pub(super) fn request_key(
    service: &mut KeyService,
    call: &Call<'_>,
    arguments: Arguments<'_>,
    destination: KeyId,
) -> Progress {
    let type_name = checked_type_name(service, arguments.type_name)?;
    let description = checked_text(service, arguments.description)?;
    let callout = arguments.callout.map(|text| checked_text(service, text)).transpose()?;
    let destination = super::search::destination(service, call, destination)?;
    let key_type = service.types.find(type_name).ok_or(Errno::ENOKEY)?;
    let claimant = Claimant::Caller;
    let wanted = Wanted { key_type, description, callout, destination, claimant };
    let key = service.request(call, wanted)?;
    if service.store.get(key).flags.under_construction {
        return Err(Stop::Waits(Wait::Requested(key, claimant)));
    }
    service.state(call.now, key)?;
    Ok(serial_of(service, key))
}
