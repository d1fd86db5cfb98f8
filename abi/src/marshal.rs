//! From registers to a [`Request`], and from a [`Reply`] to what the call returns.
//!
//! One place knows how long each copy may be and which register holds the buffer;
//! every road uses it over its own [`UserMemory`]. Source: the copies of
//! `security/keys/keyctl.c`.

mod scattered;

use crate::errno::Errno;
use crate::limits::{
    ADD_PAYLOAD_LEN_MAX, CALLOUT_BUFFER_LEN, DESCRIPTION_BUFFER_LEN, STRINGS_LEN_MAX,
    TYPE_NAME_BUFFER_LEN, UPDATE_PAYLOAD_LEN_MAX, USER_PAYLOAD_LEN_MAX,
};
use crate::perm::Perm;
use crate::reply::Reply;
use crate::request::{Fetched, Payload, Request};
use crate::serial::KeyId;
use crate::uapi::{CallNumbers, keyctl as op};
use crate::user_memory::UserMemory;

/// Which of the three system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// `add_key(2)`.
    AddKey,
    /// `request_key(2)`.
    RequestKey,
    /// `keyctl(2)`.
    Keyctl,
}

/// How wide the pointers are in the structures that a call points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Those of a 64-bit gate.
    Bits64,
    /// Those of a 32-bit one, into which the kernel's `compat` functions look.
    Bits32,
}

/// A call as it left the caller: the entry and its five registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawCall {
    /// Which call.
    pub entry: Entry,
    /// Its arguments; those that the call does not take may hold anything.
    pub args: [u64; 5],
    /// How to read the structures that they point to.
    pub width: Width,
}

impl RawCall {
    /// The call of that number, if it is one of the three.
    #[must_use]
    pub fn from_number(numbers: &CallNumbers, number: i64, args: [u64; 5]) -> Option<RawCall> {
        let entry = if number == numbers.keyctl {
            Entry::Keyctl
        } else if number == numbers.add_key {
            Entry::AddKey
        } else if number == numbers.request_key {
            Entry::RequestKey
        } else {
            return None;
        };
        Some(RawCall::native(entry, args))
    }

    /// A call by the gate of 64-bit programs.
    #[must_use]
    pub const fn native(entry: Entry, args: [u64; 5]) -> RawCall {
        RawCall { entry, args, width: Width::Bits64 }
    }

    /// The operation of a keyctl call: its low 32 bits, as the kernel's `int`.
    fn operation(&self) -> Option<u32> {
        (self.entry == Entry::Keyctl).then_some(self.args[0] as u32)
    }

    /// The length of the payload that the call announces, and the most it may be.
    fn payload_bound(&self) -> Option<(u64, u64)> {
        match (self.entry, self.operation()) {
            (Entry::AddKey, _) => Some((self.args[3], ADD_PAYLOAD_LEN_MAX)),
            (_, Some(op::UPDATE)) => Some((self.args[3], UPDATE_PAYLOAD_LEN_MAX)),
            (_, Some(op::INSTANTIATE)) if self.args[2] != 0 => {
                Some((self.args[3], ADD_PAYLOAD_LEN_MAX))
            }
            _ => None,
        }
    }

    /// The error of a call that its announced payload length alone refuses: the
    /// first test that the kernel makes, so nothing need be copied or sent.
    #[must_use]
    pub fn refused_by_length(&self) -> Option<Errno> {
        self.payload_bound().and_then(|(len, max)| (len > max).then_some(Errno::EINVAL))
    }

    /// Bytes of scratch memory that [`request`] needs at most for this call.
    #[must_use]
    pub fn scratch_len(&self) -> usize {
        let payload_len = match self.operation() {
            Some(op::INSTANTIATE_IOV) => scattered::scratch_len(self.args[2], self.args[3] as u32),
            _ => self.payload_bound().map_or(0, |(len, max)| len.min(max)) as usize,
        };
        STRINGS_LEN_MAX + payload_len
    }

    /// Address of the buffer that takes the data of the reply.
    fn buffer(&self) -> Option<u64> {
        match self.operation()? {
            op::DESCRIBE | op::READ | op::GET_SECURITY => Some(self.args[2]),
            op::CAPABILITIES => Some(self.args[1]),
            _ => None,
        }
    }
}

/// Memory handed out piece by piece.
struct Scratch<'s>(&'s mut [u8]);

impl<'s> Scratch<'s> {
    fn take(&mut self, len: usize) -> Fetched<&'s mut [u8]> {
        if self.0.len() < len {
            return Err(Errno::ENOMEM);
        }
        let (piece, rest) = core::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        Ok(piece)
    }
}

/// The caller's memory and the scratch that takes what is fetched from it.
struct Fetch<'m, 's, M> {
    memory: &'m M,
    scratch: Scratch<'s>,
    width: Width,
}

impl<'s, M: UserMemory> Fetch<'_, 's, M> {
    /// A string that must end within `buffer_len` bytes, NUL included.
    fn string(&mut self, address: u64, buffer_len: usize) -> Fetched<&'s [u8]> {
        let buffer = self.scratch.take(buffer_len)?;
        match self.memory.read_string(address, buffer)? {
            Some(len) => Ok(&buffer[..len]),
            None => Err(Errno::EINVAL),
        }
    }

    fn type_name(&mut self, address: u64) -> Fetched<&'s [u8]> {
        self.string(address, TYPE_NAME_BUFFER_LEN)
    }

    fn description(&mut self, address: u64) -> Fetched<&'s [u8]> {
        self.string(address, DESCRIPTION_BUFFER_LEN)
    }

    fn optional(&mut self, address: u64, buffer_len: usize) -> Option<Fetched<&'s [u8]>> {
        (address != 0).then(|| self.string(address, buffer_len))
    }

    fn payload(&mut self, address: u64, len: u64) -> Payload<'s> {
        let Ok(buffer) = self.scratch.take(len as usize) else {
            return Payload::Omitted(len);
        };
        if !buffer.is_empty() && self.memory.read(address, buffer).is_err() {
            return unreadable(address, len);
        }
        Payload::Carried(buffer)
    }

    /// The payload of a new key: not copied when its type never takes so much.
    fn payload_for(&mut self, type_name: Fetched<&[u8]>, address: u64, len: u64) -> Payload<'s> {
        let too_long = len > USER_PAYLOAD_LEN_MAX as u64;
        if too_long && matches!(type_name, Ok(b"user" | b"logon")) {
            return match self.memory.probe(address, len) {
                Ok(()) => Payload::Omitted(len),
                Err(_) => unreadable(address, len),
            };
        }
        self.payload(address, len)
    }
}

const fn unreadable<'s>(address: u64, len: u64) -> Payload<'s> {
    if address == 0 { Payload::Absent(len) } else { Payload::Unreadable(len) }
}

/// Fetches what a call points to.
///
/// `scratch` takes the strings and the payload and must be at least
/// [`RawCall::scratch_len`] long. The error is one that Linux gives before it
/// does anything else, a payload that is too long.
pub fn request<'s>(
    call: &RawCall,
    memory: &impl UserMemory,
    scratch: &'s mut [u8],
) -> Result<Request<'s>, Errno> {
    if let Some(errno) = call.refused_by_length() {
        return Err(errno);
    }
    let mut fetch = Fetch { memory, scratch: Scratch(scratch), width: call.width };
    let [a, b, c, d, e] = call.args;
    match call.entry {
        Entry::AddKey => {
            let type_name = fetch.type_name(a);
            let description = fetch.optional(b, DESCRIPTION_BUFFER_LEN);
            let payload = fetch.payload_for(type_name, c, d);
            Ok(Request::AddKey {
                type_name,
                description,
                payload,
                keyring: KeyId::from_register(e),
            })
        }
        Entry::RequestKey => Ok(Request::RequestKey {
            type_name: fetch.type_name(a),
            description: fetch.description(b),
            callout: fetch.optional(c, CALLOUT_BUFFER_LEN),
            destination: KeyId::from_register(d),
        }),
        Entry::Keyctl => keyctl_request(call.args, &mut fetch),
    }
}

fn keyctl_request<'s, M: UserMemory>(
    args: [u64; 5],
    fetch: &mut Fetch<'_, 's, M>,
) -> Result<Request<'s>, Errno> {
    let [operation, a, b, c, d] = args;
    let key = KeyId::from_register(a);
    let keyring = KeyId::from_register(b);
    Ok(match operation as u32 {
        op::GET_KEYRING_ID => Request::GetKeyringId { id: key, create: b as u32 != 0 },
        op::JOIN_SESSION_KEYRING => {
            Request::JoinSessionKeyring { name: fetch.optional(a, DESCRIPTION_BUFFER_LEN) }
        }
        op::UPDATE => Request::Update { key, payload: fetch.payload(b, c) },
        op::REVOKE => Request::Revoke { key },
        op::CHOWN => Request::Chown { key, uid: b as u32, gid: c as u32 },
        op::SETPERM => Request::Setperm { key, perm: Perm(b as u32) },
        op::DESCRIBE => Request::Describe { key, room: (b != 0).then_some(c as u32) },
        op::CLEAR => Request::Clear { keyring: key },
        op::LINK => Request::Link { key, keyring },
        op::UNLINK => Request::Unlink { key, keyring },
        op::SEARCH => Request::Search {
            keyring: key,
            type_name: fetch.type_name(b),
            description: fetch.description(c),
            destination: KeyId::from_register(d),
        },
        op::READ => Request::Read { key, room: (b != 0).then_some(c) },
        op::SET_REQKEY_KEYRING => Request::SetReqkeyKeyring { default: a as u32 as i32 },
        op::SET_TIMEOUT => Request::SetTimeout { key, timeout_s: b as u32 },
        op::GET_SECURITY => Request::GetSecurity { key, room: (b != 0).then_some(c) },
        op::SESSION_TO_PARENT => Request::SessionToParent,
        op::INVALIDATE => Request::Invalidate { key },
        op::GET_PERSISTENT => Request::GetPersistent { uid: a as u32, keyring },
        op::RESTRICT_KEYRING => Request::RestrictKeyring {
            keyring: key,
            type_name: fetch.optional(b, TYPE_NAME_BUFFER_LEN),
            restriction: fetch.optional(c, CALLOUT_BUFFER_LEN),
        },
        op::MOVE => {
            Request::Move { key, from: keyring, to: KeyId::from_register(c), flags: d as u32 }
        }
        op::CAPABILITIES => Request::Capabilities { room: b },
        _ => return authority_request(args, fetch),
    })
}

/// The operations of a helper that makes a key for somebody else.
fn authority_request<'s, M: UserMemory>(
    args: [u64; 5],
    fetch: &mut Fetch<'_, 's, M>,
) -> Result<Request<'s>, Errno> {
    let [operation, a, b, c, d] = args;
    let key = KeyId::from_register(a);
    let keyring = KeyId::from_register(d);
    Ok(match operation as u32 {
        op::INSTANTIATE => {
            let len = if b == 0 { 0 } else { c };
            within_user_half(b, len)?;
            Request::Instantiate { key, payload: fetch.payload(b, len), keyring }
        }
        op::INSTANTIATE_IOV => {
            let payload = scattered::scattered(fetch, b, c as u32)?;
            Request::InstantiateIov { key, payload, keyring }
        }
        op::NEGATE => {
            Request::Negate { key, timeout_s: b as u32, keyring: KeyId::from_register(c) }
        }
        op::REJECT => Request::Reject { key, timeout_s: b as u32, error: c as u32, keyring },
        op::ASSUME_AUTHORITY => Request::AssumeAuthority { key },
        operation => Request::Other { operation },
    })
}

/// EFAULT for a payload that lies where no program has memory: Linux looks at that
/// before it asks for authority (`import_ubuf`), and at the rest of it after.
fn within_user_half(address: u64, len: u64) -> Result<(), Errno> {
    match address.checked_add(len) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Hands a reply to the caller: its data into the caller's buffer, its answer as
/// the value to return, negative for an error.
#[must_use]
pub fn deliver(call: &RawCall, reply: &Reply<'_>, memory: &impl UserMemory) -> i64 {
    match deliver_data(call, reply, memory).and(reply.answer) {
        Ok(value) => i64::from(value),
        Err(errno) => -i64::from(errno.raw()),
    }
}

fn deliver_data(call: &RawCall, reply: &Reply<'_>, memory: &impl UserMemory) -> Result<(), Errno> {
    let Some(buffer) = call.buffer() else { return Ok(()) };
    if !reply.data.is_empty() {
        memory.write(buffer, reply.data)?;
    }
    if call.operation() == Some(op::CAPABILITIES) {
        let written = reply.data.len() as u64;
        return clear(memory, buffer.wrapping_add(written), call.args[2].saturating_sub(written));
    }
    Ok(())
}

/// Zeroes `len` bytes of the caller's memory (`clear_user`).
fn clear(memory: &impl UserMemory, address: u64, len: u64) -> Result<(), Errno> {
    const ZEROES: [u8; 512] = [0; 512];
    let mut at = address;
    let mut rest = len;
    while rest > 0 {
        let chunk = rest.min(ZEROES.len() as u64);
        memory.write(at, &ZEROES[..chunk as usize])?;
        at = at.checked_add(chunk).ok_or(Errno::EFAULT)?;
        rest -= chunk;
    }
    Ok(())
}
