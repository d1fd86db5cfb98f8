//! KEYCTL_SESSION_TO_PARENT: give the caller's session keyring to its parent.
//!
//! Checks in order (`keyctl_session_to_parent`):
//! 1. the session keyring, linkable: the lookup's errors
//! 2. the parent is init, a kernel thread or has several threads: EPERM
//! 3. both have the same session already: 0
//! 4. the parent's real, effective or saved ids are not the caller's effective ones:
//!    EPERM
//! 5. either session keyring is not owned by the caller's effective user: EPERM
//!
//! In the kernel the parent gets it when it next returns to user mode, here at once. An
//! authority that the parent has assumed is lost thereby (`key_change_session_keyring`).

use keyshim_abi::caller::Ids;
use keyshim_abi::{Errno, KeyId, Need};

use super::Progress;
use crate::lookup::{Access, Call, Missing};
use crate::service::KeyService;

pub(super) fn session_to_parent(service: &mut KeyService, call: &Call<'_>) -> Progress {
    let link = Access::Usable(Need::Link);
    let session = service.lookup(call, KeyId::SESSION, Missing::Leave, link)?.key;
    let parent = call.caller.parent.filter(|parent| !parent.unfit).ok_or(Errno::EPERM)?;
    let of_parent = service.subscriptions(parent.task).session;
    if of_parent == Some(session) {
        return Ok(0);
    }
    let euid = call.caller.ids.euid;
    let owned = |ring| service.store.get(ring).uid == euid;
    if !same_person(&parent.ids, &call.caller.ids)
        || !owned(session)
        || !of_parent.is_none_or(owned)
    {
        return Err(Errno::EPERM.into());
    }
    service.hold(session);
    service.install_session(parent.task, parent.ids, session);
    service.assume(parent.task, None);
    Ok(0)
}

fn same_person(parent: &Ids, caller: &Ids) -> bool {
    [parent.uid, parent.euid, parent.suid] == [caller.euid; 3]
        && [parent.gid, parent.egid, parent.sgid] == [caller.egid; 3]
}
