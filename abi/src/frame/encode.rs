//! Values into bytes.

use super::{
    CALL, DELAY, Delay, EXECUTE, HELLO, INTERRUPT, LENGTH_LEN, Message, NoRoom, OPEN, OPEN_KNOB,
    Origin, REPLY, REPLY_HEAD_LEN, START_THREAD, Token, VERSION, WELCOME, WELCOME_LEN, Welcome,
    keyctl, tag,
};
use crate::procfs::ProcFile;
use crate::reply::Answer;
use crate::request::{Fetched, Payload, Request};
use crate::serial::KeyId;

/// Puts values into a buffer.
struct Writer<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    /// Begins a frame: room for its length, then its kind.
    fn frame(buffer: &'b mut [u8], kind: u8) -> Result<Writer<'b>, NoRoom> {
        let mut writer = Writer { buffer, at: 0 };
        writer.u32(0)?;
        writer.u8(kind)?;
        Ok(writer)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.at + bytes.len();
        self.buffer.get_mut(self.at..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn u8(&mut self, value: u8) -> Result<(), NoRoom> {
        self.bytes(&[value])
    }

    fn u32(&mut self, value: u32) -> Result<(), NoRoom> {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> Result<(), NoRoom> {
        self.bytes(&value.to_le_bytes())
    }

    fn id(&mut self, id: KeyId) -> Result<(), NoRoom> {
        self.u32(id.0 as u32)
    }

    /// 0 and the bytes with their length, or the errno.
    fn fetched(&mut self, string: Fetched<&[u8]>) -> Result<(), NoRoom> {
        match string {
            Ok(bytes) => {
                self.u32(0)?;
                self.u32(bytes.len() as u32)?;
                self.bytes(bytes)
            }
            Err(errno) => self.u32(errno.raw() as u32),
        }
    }

    fn optional(&mut self, string: Option<Fetched<&[u8]>>) -> Result<(), NoRoom> {
        self.u8(u8::from(string.is_some()))?;
        string.map_or(Ok(()), |string| self.fetched(string))
    }

    fn room(&mut self, room: Option<u64>) -> Result<(), NoRoom> {
        self.u8(u8::from(room.is_some()))?;
        self.u64(room.unwrap_or_default())
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), NoRoom> {
        self.u8(match payload {
            Payload::Carried(_) => 0,
            Payload::Omitted(_) => 1,
            Payload::Unreadable(_) => 2,
            Payload::Absent(_) => 3,
        })?;
        self.u64(payload.len())
    }

    /// Ends the frame, whose last `trailing` bytes are sent from elsewhere.
    fn finish(self, trailing: usize) -> usize {
        let len = (self.at - LENGTH_LEN + trailing) as u32;
        self.buffer[..LENGTH_LEN].copy_from_slice(&len.to_le_bytes());
        self.at
    }
}

/// A frame ready to be sent: `head` bytes of the buffer, then `trailing`.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// How much of the buffer was filled.
    pub head_len: usize,
    /// The payload, which ends the frame.
    pub trailing: &'a [u8],
}

/// Encodes a client's message into `buffer`, of which
/// [`crate::limits::REQUEST_HEAD_LEN_MAX`] bytes always suffice.
pub fn encode_message<'a>(message: &Message<'a>, buffer: &mut [u8]) -> Result<Encoded<'a>, NoRoom> {
    match *message {
        Message::Hello { tid, origin } => {
            let mut writer = Writer::frame(buffer, HELLO)?;
            writer.bytes(&VERSION.to_le_bytes())?;
            writer.u32(tid)?;
            encode_origin(origin, &mut writer)?;
            Ok(Encoded { head_len: writer.finish(0), trailing: &[] })
        }
        Message::Call(request) => {
            let mut writer = Writer::frame(buffer, CALL)?;
            let trailing = encode_request(&request, &mut writer)?;
            Ok(Encoded { head_len: writer.finish(trailing.len()), trailing })
        }
        Message::Open(file) => encode_file(OPEN, file, buffer),
        Message::OpenKnob(knob) => encode_file(OPEN_KNOB, ProcFile::Knob(knob), buffer),
        Message::Execute => encode_empty(EXECUTE, buffer),
        Message::Interrupt => encode_empty(INTERRUPT, buffer),
        Message::StartThread { done } => {
            let mut writer = Writer::frame(buffer, START_THREAD)?;
            writer.u8(u8::from(done))?;
            Ok(Encoded { head_len: writer.finish(0), trailing: &[] })
        }
    }
}

fn encode_empty<'a>(kind: u8, buffer: &mut [u8]) -> Result<Encoded<'a>, NoRoom> {
    let writer = Writer::frame(buffer, kind)?;
    Ok(Encoded { head_len: writer.finish(0), trailing: &[] })
}

fn encode_file<'a>(kind: u8, file: ProcFile, buffer: &mut [u8]) -> Result<Encoded<'a>, NoRoom> {
    let mut writer = Writer::frame(buffer, kind)?;
    writer.u8(file.code())?;
    Ok(Encoded { head_len: writer.finish(0), trailing: &[] })
}

fn encode_origin(origin: Origin, writer: &mut Writer<'_>) -> Result<(), NoRoom> {
    let (kind, token) = match origin {
        Origin::Fresh => (0, Token([0; 16])),
        Origin::Same(token) => (1, token),
        Origin::ForkedBy(token) => (2, token),
    };
    writer.u8(kind)?;
    writer.bytes(&token.0)
}

fn encode_request<'a>(request: &Request<'a>, w: &mut Writer<'_>) -> Result<&'a [u8], NoRoom> {
    match *request {
        Request::AddKey { type_name, description, payload, keyring } => {
            w.u8(tag::ADD_KEY)?;
            w.id(keyring)?;
            w.fetched(type_name)?;
            w.optional(description)?;
            return encode_payload(payload, w);
        }
        Request::RequestKey { type_name, description, callout, destination } => {
            w.u8(tag::REQUEST_KEY)?;
            w.id(destination)?;
            w.fetched(type_name)?;
            w.fetched(description)?;
            w.optional(callout)?;
        }
        Request::Update { key, payload } => {
            w.u8(keyctl(2))?;
            w.id(key)?;
            return encode_payload(payload, w);
        }
        Request::Instantiate { key, payload, keyring } => {
            w.u8(keyctl(12))?;
            w.id(key)?;
            w.id(keyring)?;
            return encode_payload(payload, w);
        }
        Request::InstantiateIov { key, payload, keyring } => {
            w.u8(keyctl(20))?;
            w.id(key)?;
            w.id(keyring)?;
            return encode_payload(payload, w);
        }
        Request::JoinSessionKeyring { name } => {
            w.u8(keyctl(1))?;
            w.optional(name)?;
        }
        Request::Search { keyring, type_name, description, destination } => {
            w.u8(keyctl(10))?;
            w.id(keyring)?;
            w.id(destination)?;
            w.fetched(type_name)?;
            w.fetched(description)?;
        }
        Request::RestrictKeyring { keyring, type_name, restriction } => {
            w.u8(keyctl(29))?;
            w.id(keyring)?;
            w.optional(type_name)?;
            w.optional(restriction)?;
        }
        _ => encode_plain(request, w)?,
    }
    Ok(&[])
}

fn encode_payload<'a>(payload: Payload<'a>, w: &mut Writer<'_>) -> Result<&'a [u8], NoRoom> {
    w.payload(payload)?;
    Ok(match payload {
        Payload::Carried(bytes) => bytes,
        Payload::Omitted(_) | Payload::Unreadable(_) | Payload::Absent(_) => &[],
    })
}

/// Requests that are numbers only.
fn encode_plain(request: &Request<'_>, w: &mut Writer<'_>) -> Result<(), NoRoom> {
    let mut numbers = |operation: u32, values: &[u32]| {
        w.u8(keyctl(operation))?;
        values.iter().try_for_each(|&value| w.u32(value))
    };
    let raw = |id: KeyId| id.0 as u32;
    match *request {
        Request::GetKeyringId { id, create } => numbers(0, &[raw(id), u32::from(create)]),
        Request::Revoke { key } => numbers(3, &[raw(key)]),
        Request::Chown { key, uid, gid } => numbers(4, &[raw(key), uid, gid]),
        Request::Setperm { key, perm } => numbers(5, &[raw(key), perm.0]),
        Request::Describe { key, room } => {
            numbers(6, &[raw(key)])?;
            w.room(room.map(u64::from))
        }
        Request::Clear { keyring } => numbers(7, &[raw(keyring)]),
        Request::Link { key, keyring } => numbers(8, &[raw(key), raw(keyring)]),
        Request::Unlink { key, keyring } => numbers(9, &[raw(key), raw(keyring)]),
        Request::Read { key, room } => {
            numbers(11, &[raw(key)])?;
            w.room(room)
        }
        Request::Negate { key, timeout_s, keyring } => {
            numbers(13, &[raw(key), timeout_s, raw(keyring)])
        }
        Request::SetReqkeyKeyring { default } => numbers(14, &[default as u32]),
        Request::SetTimeout { key, timeout_s } => numbers(15, &[raw(key), timeout_s]),
        Request::AssumeAuthority { key } => numbers(16, &[raw(key)]),
        Request::GetSecurity { key, room } => {
            numbers(17, &[raw(key)])?;
            w.room(room)
        }
        Request::SessionToParent => numbers(18, &[]),
        Request::Reject { key, timeout_s, error, keyring } => {
            numbers(19, &[raw(key), timeout_s, error, raw(keyring)])
        }
        Request::Invalidate { key } => numbers(21, &[raw(key)]),
        Request::GetPersistent { uid, keyring } => numbers(22, &[uid, raw(keyring)]),
        Request::Move { key, from, to, flags } => {
            numbers(30, &[raw(key), raw(from), raw(to), flags])
        }
        Request::Capabilities { room } => {
            numbers(31, &[])?;
            w.u64(room)
        }
        Request::Other { operation } => {
            w.u8(tag::OTHER)?;
            w.u32(operation)
        }
        // The others carry bytes and are encoded by `encode_request`.
        _ => Ok(()),
    }
}

/// The head of a reply frame whose `data_len` bytes of data follow.
#[must_use]
pub fn encode_reply_head(answer: Answer, data_len: usize) -> [u8; REPLY_HEAD_LEN] {
    let len = (REPLY_HEAD_LEN - LENGTH_LEN + data_len) as u32;
    let (error, value) = match answer {
        Ok(value) => (0, value),
        Err(errno) => (errno.raw() as u32, 0),
    };
    let mut head = [0; REPLY_HEAD_LEN];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4] = REPLY;
    head[5..9].copy_from_slice(&error.to_le_bytes());
    head[9..].copy_from_slice(&value.to_le_bytes());
    head
}

/// A delay as a frame.
#[must_use]
pub fn encode_delay(delay: Delay) -> [u8; REPLY_HEAD_LEN] {
    let mut frame = encode_reply_head(Ok(delay as u32), 0);
    frame[4] = DELAY;
    frame
}

/// The welcome as a frame.
#[must_use]
pub fn encode_welcome(welcome: &Welcome) -> [u8; WELCOME_LEN] {
    let mut frame = [0; WELCOME_LEN];
    frame[..4].copy_from_slice(&((WELCOME_LEN - LENGTH_LEN) as u32).to_le_bytes());
    frame[4] = WELCOME;
    frame[5..7].copy_from_slice(&VERSION.to_le_bytes());
    frame[7..].copy_from_slice(&welcome.token.0);
    frame
}
