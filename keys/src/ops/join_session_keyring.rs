//! KEYCTL_JOIN_SESSION_KEYRING: a new session keyring, or one of that name.
//!
//! Checks in order (`keyctl_join_session_keyring`, `join_session_keyring`):
//! 1. name: EFAULT, EINVAL; EPERM with a leading dot
//! 2. no name: a new `_ses`, EDQUOT unless it is the caller's first session
//! 3. a keyring of that name in the caller's user namespace that is not revoked and
//!    grants SEARCH to who does not possess it: joined. Already the session: 0
//! 4. else a new one: EINVAL for an empty name, EDQUOT

use keyshim_abi::{Errno, Fetched};

use super::{Progress, checked_text, serial_of};
use crate::lookup::Call;
use crate::service::KeyService;

pub(super) fn join_session_keyring(
    service: &mut KeyService,
    call: &Call<'_>,
    name: Option<Fetched<&[u8]>>,
) -> Progress {
    let name = name.map(|name| checked_text(service, name)).transpose()?;
    let joined = match name {
        None => Some(service.join_anonymous_session(call)?),
        Some([b'.', ..]) if service.profile.reserves_dots => {
            return Err(Errno::EPERM.into());
        }
        Some(name) => service.join_named_session(call, name)?,
    };
    Ok(joined.map_or(0, |ring| serial_of(service, ring)))
}
