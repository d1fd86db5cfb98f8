//! KEYCTL_SET_REQKEY_KEYRING: where request_key puts a key that it had to make.
//!
//! Checks: -1 asks only; the thread and process keyrings are made; 6 (group), 8 and
//! above, below -1: EINVAL (`keyctl_set_reqkey_keyring`). Returns the old value.

use keyshim_abi::Errno;
use keyshim_abi::uapi::reqkey_default as default;

use super::Progress;
use crate::lookup::Call;
use crate::service::KeyService;

pub(super) fn set_reqkey_keyring(
    service: &mut KeyService,
    call: &Call<'_>,
    wanted: i32,
) -> Progress {
    let old = service.task(call).reqkey_default;
    match wanted {
        default::NO_CHANGE => return Ok(old.unsigned_abs()),
        default::THREAD => {
            service.thread_keyring(call, true)?;
        }
        default::PROCESS => {
            service.process_keyring(call, true)?;
        }
        default::DEFAULT
        | default::SESSION
        | default::USER
        | default::USER_SESSION
        | default::REQUESTOR => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    service.task(call).reqkey_default = wanted;
    Ok(old.unsigned_abs())
}
