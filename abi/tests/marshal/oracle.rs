//! What a call fetches, said once more in the plainest way.

use keyshim_abi::marshal::{Entry, RawCall};
use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::{Errno, KeyId, Payload, Perm, Request};

use crate::memory::Memory;

type Text = Result<Vec<u8>, Errno>;

pub(crate) enum OwnedPayload {
    Carried(Vec<u8>),
    Omitted(u64),
    Unreadable(u64),
    Absent(u64),
}

/// A request that owns what it points to.
pub(crate) enum Owned {
    AddKey(Text, Option<Text>, OwnedPayload, KeyId),
    RequestKey(Text, Text, Option<Text>, KeyId),
    Join(Option<Text>),
    Update(KeyId, OwnedPayload),
    Search(KeyId, Text, Text, KeyId),
    Instantiate(KeyId, OwnedPayload, KeyId),
    InstantiateIov(KeyId, OwnedPayload, KeyId),
    Restrict(KeyId, Option<Text>, Option<Text>),
    Numbers(Request<'static>),
}

fn lend(text: &Text) -> Result<&[u8], Errno> {
    text.as_deref().map_err(|errno| *errno)
}

fn lend_payload(payload: &OwnedPayload) -> Payload<'_> {
    match payload {
        OwnedPayload::Carried(bytes) => Payload::Carried(bytes),
        OwnedPayload::Omitted(len) => Payload::Omitted(*len),
        OwnedPayload::Unreadable(len) => Payload::Unreadable(*len),
        OwnedPayload::Absent(len) => Payload::Absent(*len),
    }
}

impl Owned {
    pub(crate) fn borrow(&self) -> Request<'_> {
        match self {
            Owned::AddKey(type_name, description, payload, keyring) => Request::AddKey {
                type_name: lend(type_name),
                description: description.as_ref().map(lend),
                payload: lend_payload(payload),
                keyring: *keyring,
            },
            Owned::RequestKey(type_name, description, callout, destination) => {
                Request::RequestKey {
                    type_name: lend(type_name),
                    description: lend(description),
                    callout: callout.as_ref().map(lend),
                    destination: *destination,
                }
            }
            Owned::Join(name) => Request::JoinSessionKeyring { name: name.as_ref().map(lend) },
            Owned::Update(key, payload) => {
                Request::Update { key: *key, payload: lend_payload(payload) }
            }
            Owned::Search(keyring, type_name, description, destination) => Request::Search {
                keyring: *keyring,
                type_name: lend(type_name),
                description: lend(description),
                destination: *destination,
            },
            Owned::Instantiate(key, payload, keyring) => Request::Instantiate {
                key: *key,
                payload: lend_payload(payload),
                keyring: *keyring,
            },
            Owned::InstantiateIov(key, payload, keyring) => Request::InstantiateIov {
                key: *key,
                payload: lend_payload(payload),
                keyring: *keyring,
            },
            Owned::Restrict(keyring, type_name, restriction) => Request::RestrictKeyring {
                keyring: *keyring,
                type_name: type_name.as_ref().map(lend),
                restriction: restriction.as_ref().map(lend),
            },
            Owned::Numbers(request) => *request,
        }
    }
}

/// Byte by byte: EFAULT at the first that is missing, EINVAL without a NUL.
fn string(memory: &Memory, address: u64, buffer_len: u64) -> Text {
    let mut text = Vec::new();
    for at in 0..buffer_len {
        let byte = address.checked_add(at).and_then(|at| memory.byte(at));
        match byte.ok_or(Errno::EFAULT)? {
            0 => return Ok(text),
            byte => text.push(byte),
        }
    }
    Err(Errno::EINVAL)
}

fn optional(memory: &Memory, address: u64, buffer_len: u64) -> Option<Text> {
    (address != 0).then(|| string(memory, address, buffer_len))
}

fn payload(memory: &Memory, address: u64, len: u64) -> OwnedPayload {
    if !memory.readable(address, len) {
        return match address {
            0 => OwnedPayload::Absent(len),
            _ => OwnedPayload::Unreadable(len),
        };
    }
    let bytes = (0..len).map(|at| memory.byte(address + at).expect("it is readable"));
    OwnedPayload::Carried(bytes.collect())
}

fn add_key([a, b, c, d, e]: [u64; 5], memory: &Memory) -> Result<Owned, Errno> {
    if d > 1024 * 1024 - 1 {
        return Err(Errno::EINVAL);
    }
    let type_name = string(memory, a, 32);
    let small = matches!(type_name.as_deref(), Ok(b"user" | b"logon"));
    let payload = match payload(memory, c, d) {
        OwnedPayload::Carried(_) if small && d > 32_767 => OwnedPayload::Omitted(d),
        payload => payload,
    };
    Ok(Owned::AddKey(type_name, optional(memory, b, 4096), payload, KeyId(e as i32)))
}

fn instantiate([_, a, b, c, d]: [u64; 5], memory: &Memory) -> Result<Owned, Errno> {
    let len = if b == 0 { 0 } else { c };
    if len > 1024 * 1024 - 1 {
        return Err(Errno::EINVAL);
    }
    if b.checked_add(len).is_none_or(|end| end >= 1 << 63) {
        return Err(Errno::EFAULT);
    }
    Ok(Owned::Instantiate(KeyId(a as i32), payload(memory, b, len), KeyId(d as i32)))
}

/// The segments of an array, in the order in which Linux looks at them.
fn segments(memory: &Memory, address: u64, count: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut segments = Vec::new();
    for index in 0..count {
        let at = address.checked_add(16 * index).ok_or(Errno::EFAULT)?;
        if !memory.readable(at, 16) {
            return Err(Errno::EFAULT);
        }
        let word = |from: u64| {
            let byte = |n: usize| memory.byte(at + from + n as u64).expect("it is readable");
            u64::from_le_bytes(std::array::from_fn(byte))
        };
        if word(8) >= 1 << 63 {
            return Err(Errno::EINVAL);
        }
        segments.push((word(0), word(8)));
    }
    Ok(segments)
}

fn instantiate_iov([_, a, b, c, d]: [u64; 5], memory: &Memory) -> Result<Owned, Errno> {
    let count = if b == 0 { 0 } else { u64::from(c as u32) };
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let segments = segments(memory, b, count)?;
    if segments.iter().any(|&(base, len)| base.checked_add(len).is_none_or(|end| end >= 1 << 63)) {
        return Err(Errno::EFAULT);
    }
    let total: u128 = segments.iter().map(|&(_, len)| u128::from(len)).sum();
    if total > 1024 * 1024 - 1 {
        return Err(Errno::EINVAL);
    }
    let readable = segments.iter().all(|&(base, len)| memory.readable(base, len));
    let payload = match readable {
        true => OwnedPayload::Carried(
            segments
                .iter()
                .flat_map(|&(base, len)| base..base + len)
                .map(|at| memory.byte(at).expect("it is readable"))
                .collect(),
        ),
        false => OwnedPayload::Unreadable(total as u64),
    };
    Ok(Owned::InstantiateIov(KeyId(a as i32), payload, KeyId(d as i32)))
}

pub(crate) fn request(call: &RawCall, memory: &Memory) -> Result<Owned, Errno> {
    let [operation, a, b, c, d] = call.args;
    let id = |register: u64| KeyId(register as i32);
    match call.entry {
        Entry::AddKey => return add_key(call.args, memory),
        Entry::RequestKey => {
            return Ok(Owned::RequestKey(
                string(memory, operation, 32),
                string(memory, a, 4096),
                optional(memory, b, 4096),
                id(c),
            ));
        }
        Entry::Keyctl => {}
    }
    Ok(match operation as u32 {
        op::JOIN_SESSION_KEYRING => Owned::Join(optional(memory, a, 4096)),
        op::UPDATE if c > 4096 => return Err(Errno::EINVAL),
        op::UPDATE => Owned::Update(id(a), payload(memory, b, c)),
        op::SEARCH => Owned::Search(id(a), string(memory, b, 32), string(memory, c, 4096), id(d)),
        op::INSTANTIATE => return instantiate(call.args, memory),
        op::INSTANTIATE_IOV => return instantiate_iov(call.args, memory),
        op::RESTRICT_KEYRING => {
            Owned::Restrict(id(a), optional(memory, b, 32), optional(memory, c, 4096))
        }
        operation => Owned::Numbers(numbers(operation, [a, b, c, d])),
    })
}

fn numbers(operation: u32, [a, b, c, d]: [u64; 4]) -> Request<'static> {
    let id = |register: u64| KeyId(register as i32);
    let key = id(a);
    let room = (b != 0).then_some(c);
    match operation {
        op::GET_KEYRING_ID => Request::GetKeyringId { id: key, create: b as u32 != 0 },
        op::REVOKE => Request::Revoke { key },
        op::CHOWN => Request::Chown { key, uid: b as u32, gid: c as u32 },
        op::SETPERM => Request::Setperm { key, perm: Perm(b as u32) },
        op::DESCRIBE => Request::Describe { key, room: room.map(|room| room as u32) },
        op::CLEAR => Request::Clear { keyring: key },
        op::LINK => Request::Link { key, keyring: id(b) },
        op::UNLINK => Request::Unlink { key, keyring: id(b) },
        op::READ => Request::Read { key, room },
        op::NEGATE => Request::Negate { key, timeout_s: b as u32, keyring: id(c) },
        op::SET_REQKEY_KEYRING => Request::SetReqkeyKeyring { default: a as i32 },
        op::SET_TIMEOUT => Request::SetTimeout { key, timeout_s: b as u32 },
        op::ASSUME_AUTHORITY => Request::AssumeAuthority { key },
        op::GET_SECURITY => Request::GetSecurity { key, room },
        op::SESSION_TO_PARENT => Request::SessionToParent,
        op::REJECT => Request::Reject { key, timeout_s: b as u32, error: c as u32, keyring: id(d) },
        op::INVALIDATE => Request::Invalidate { key },
        op::GET_PERSISTENT => Request::GetPersistent { uid: a as u32, keyring: id(b) },
        op::MOVE => Request::Move { key, from: id(b), to: id(c), flags: d as u32 },
        op::CAPABILITIES => Request::Capabilities { room: b },
        operation => Request::Other { operation },
    }
}
