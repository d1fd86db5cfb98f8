//! What a request may change of that which children and threads inherit.

use keyshim_abi::{KeyId, Request};

/// True when the request may change what the caller's children inherit.
pub(crate) fn changes_inheritance(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::JoinSessionKeyring { .. }
            | Request::SessionToParent
            | Request::SetReqkeyKeyring { .. }
            | Request::AssumeAuthority { .. }
    )
}

/// True when the request may make a thread keyring.
pub(crate) fn names_thread_keyring(request: &Request<'_>) -> bool {
    matches!(request, Request::SetReqkeyKeyring { .. }) || named(request).contains(&KeyId::THREAD)
}

/// True when the request may make a process keyring.
pub(crate) fn names_process_keyring(request: &Request<'_>) -> bool {
    matches!(request, Request::SetReqkeyKeyring { .. }) || named(request).contains(&KeyId::PROCESS)
}

/// True when the request gives a session keyring to a caller that has none.
pub(crate) fn names_session(request: &Request<'_>) -> bool {
    *request == Request::SessionToParent || named(request).contains(&KeyId::SESSION)
}

/// The keys that a request names, and [`NOBODY`] in the other places.
fn named(request: &Request<'_>) -> [KeyId; 3] {
    match *request {
        Request::AddKey { keyring, .. }
        | Request::Clear { keyring }
        | Request::GetPersistent { keyring, .. }
        | Request::RestrictKeyring { keyring, .. } => [keyring, NOBODY, NOBODY],
        Request::RequestKey { destination, .. } => [destination, NOBODY, NOBODY],
        Request::Search { keyring, destination, .. } => [keyring, destination, NOBODY],
        Request::GetKeyringId { id: key, .. }
        | Request::Update { key, .. }
        | Request::Revoke { key }
        | Request::Chown { key, .. }
        | Request::Setperm { key, .. }
        | Request::Describe { key, .. }
        | Request::Read { key, .. }
        | Request::SetTimeout { key, .. }
        | Request::AssumeAuthority { key }
        | Request::GetSecurity { key, .. }
        | Request::Invalidate { key } => [key, NOBODY, NOBODY],
        Request::Link { key, keyring }
        | Request::Unlink { key, keyring }
        | Request::Instantiate { key, keyring, .. }
        | Request::InstantiateIov { key, keyring, .. }
        | Request::Negate { key, keyring, .. }
        | Request::Reject { key, keyring, .. } => [key, keyring, NOBODY],
        Request::Move { key, from, to, .. } => [key, from, to],
        Request::JoinSessionKeyring { .. }
        | Request::SetReqkeyKeyring { .. }
        | Request::SessionToParent
        | Request::Capabilities { .. }
        | Request::Other { .. } => [NOBODY; 3],
    }
}

/// No key has this number.
const NOBODY: KeyId = KeyId(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_may_come_from_any_place_of_a_request() {
        let key = KeyId(7);
        let link = Request::Link { key, keyring: KeyId::SESSION };
        assert!(names_session(&link) && !names_thread_keyring(&link));
        let to = Request::Move { key, from: KeyId::PROCESS, to: KeyId::SESSION, flags: 0 };
        assert!(names_session(&to) && names_process_keyring(&to));
        assert!(!names_session(&Request::Read { key, room: None }));
    }
}
