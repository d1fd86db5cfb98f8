//! Bytes into values; whatever is not exactly a frame is refused.

use super::{
    CALL, DELAY, Delay, EXECUTE, HELLO, INTERRUPT, Malformed, Message, OPEN, OPEN_KNOB, Origin,
    REPLY, START_THREAD, Token, VERSION, WELCOME, Welcome, tag,
};
use crate::errno::Errno;
use crate::perm::Perm;
use crate::procfs::ProcFile;
use crate::reply::Reply;
use crate::request::{Fetched, Payload, Request};
use crate::serial::KeyId;

/// Takes values out of a frame.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (piece, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(piece)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[value]| value)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Result<KeyId, Malformed> {
        self.u32().map(|raw| KeyId(raw as i32))
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn fetched(&mut self) -> Result<Fetched<&'a [u8]>, Malformed> {
        let raw = self.u32()?;
        if raw != 0 {
            return errno(raw).map(Err);
        }
        let len = self.u32()? as usize;
        let bytes = self.bytes(len)?;
        if bytes.contains(&0) { Err(Malformed) } else { Ok(Ok(bytes)) }
    }

    fn optional(&mut self) -> Result<Option<Fetched<&'a [u8]>>, Malformed> {
        if self.flag()? { self.fetched().map(Some) } else { Ok(None) }
    }

    fn room(&mut self) -> Result<Option<u64>, Malformed> {
        let present = self.flag()?;
        let room = self.u64()?;
        Ok(present.then_some(room))
    }

    /// A payload, of which the bytes are all that is left of the frame.
    fn payload(&mut self) -> Result<Payload<'a>, Malformed> {
        let kind = self.u8()?;
        let len = self.u64()?;
        match kind {
            0 if len == self.0.len() as u64 => Ok(Payload::Carried(core::mem::take(&mut self.0))),
            1 => Ok(Payload::Omitted(len)),
            2 => Ok(Payload::Unreadable(len)),
            3 => Ok(Payload::Absent(len)),
            _ => Err(Malformed),
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

fn errno(raw: u32) -> Result<Errno, Malformed> {
    i32::try_from(raw).ok().and_then(Errno::new).ok_or(Malformed)
}

/// Decodes a client's frame, without its length.
pub fn decode_message(frame: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader(frame);
    let message = match reader.u8()? {
        HELLO => decode_hello(&mut reader)?,
        CALL => Message::Call(decode_request(&mut reader)?),
        OPEN => Message::Open(ProcFile::from_code(reader.u8()?).ok_or(Malformed)?),
        OPEN_KNOB => match ProcFile::from_code(reader.u8()?) {
            Some(ProcFile::Knob(knob)) => Message::OpenKnob(knob),
            _ => return Err(Malformed),
        },
        EXECUTE => Message::Execute,
        INTERRUPT => Message::Interrupt,
        START_THREAD => Message::StartThread { done: reader.flag()? },
        _ => return Err(Malformed),
    };
    reader.end()?;
    Ok(message)
}

fn decode_hello<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    if reader.u16()? != VERSION {
        return Err(Malformed);
    }
    let tid = reader.u32()?;
    let kind = reader.u8()?;
    let token = Token(reader.array()?);
    let origin = match kind {
        0 => Origin::Fresh,
        1 => Origin::Same(token),
        2 => Origin::ForkedBy(token),
        _ => return Err(Malformed),
    };
    Ok(Message::Hello { tid, origin })
}

fn decode_request<'a>(r: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    Ok(match r.u8()? {
        tag::ADD_KEY => {
            let keyring = r.id()?;
            Request::AddKey {
                type_name: r.fetched()?,
                description: r.optional()?,
                payload: r.payload()?,
                keyring,
            }
        }
        tag::REQUEST_KEY => {
            let destination = r.id()?;
            Request::RequestKey {
                type_name: r.fetched()?,
                description: r.fetched()?,
                callout: r.optional()?,
                destination,
            }
        }
        tag::OTHER => Request::Other { operation: r.u32()? },
        other => decode_keyctl(other.checked_sub(tag::KEYCTL).ok_or(Malformed)?, r)?,
    })
}

fn decode_keyctl<'a>(operation: u8, r: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    Ok(match operation {
        0 => Request::GetKeyringId { id: r.id()?, create: r.u32()? != 0 },
        1 => Request::JoinSessionKeyring { name: r.optional()? },
        2 => Request::Update { key: r.id()?, payload: r.payload()? },
        3 => Request::Revoke { key: r.id()? },
        4 => Request::Chown { key: r.id()?, uid: r.u32()?, gid: r.u32()? },
        5 => Request::Setperm { key: r.id()?, perm: Perm(r.u32()?) },
        6 => Request::Describe { key: r.id()?, room: decode_small_room(r)? },
        7 => Request::Clear { keyring: r.id()? },
        8 => Request::Link { key: r.id()?, keyring: r.id()? },
        9 => Request::Unlink { key: r.id()?, keyring: r.id()? },
        10 => {
            let (keyring, destination) = (r.id()?, r.id()?);
            Request::Search {
                keyring,
                type_name: r.fetched()?,
                description: r.fetched()?,
                destination,
            }
        }
        11 => Request::Read { key: r.id()?, room: r.room()? },
        12 => {
            let (key, keyring) = (r.id()?, r.id()?);
            Request::Instantiate { key, payload: r.payload()?, keyring }
        }
        13 => Request::Negate { key: r.id()?, timeout_s: r.u32()?, keyring: r.id()? },
        14 => Request::SetReqkeyKeyring { default: r.u32()? as i32 },
        15 => Request::SetTimeout { key: r.id()?, timeout_s: r.u32()? },
        16 => Request::AssumeAuthority { key: r.id()? },
        17 => Request::GetSecurity { key: r.id()?, room: r.room()? },
        18 => Request::SessionToParent,
        19 => {
            Request::Reject { key: r.id()?, timeout_s: r.u32()?, error: r.u32()?, keyring: r.id()? }
        }
        20 => {
            let (key, keyring) = (r.id()?, r.id()?);
            Request::InstantiateIov { key, payload: r.payload()?, keyring }
        }
        21 => Request::Invalidate { key: r.id()? },
        22 => Request::GetPersistent { uid: r.u32()?, keyring: r.id()? },
        29 => Request::RestrictKeyring {
            keyring: r.id()?,
            type_name: r.optional()?,
            restriction: r.optional()?,
        },
        30 => Request::Move { key: r.id()?, from: r.id()?, to: r.id()?, flags: r.u32()? },
        31 => Request::Capabilities { room: r.u64()? },
        _ => return Err(Malformed),
    })
}

fn decode_small_room(r: &mut Reader<'_>) -> Result<Option<u32>, Malformed> {
    r.room()?.map(|room| u32::try_from(room).map_err(|_| Malformed)).transpose()
}

/// Decodes a reply frame, without its length.
pub fn decode_reply(frame: &[u8]) -> Result<Reply<'_>, Malformed> {
    let mut reader = Reader(frame);
    if reader.u8()? != REPLY {
        return Err(Malformed);
    }
    let error = reader.u32()?;
    let value = reader.u32()?;
    let answer = if error == 0 { Ok(value) } else { Err(errno(error)?) };
    Ok(Reply { answer, data: reader.0 })
}

/// Decodes a frame that says that a call waits, without its length; `None` when it is of
/// another kind.
pub fn decode_delay(frame: &[u8]) -> Result<Option<Delay>, Malformed> {
    let mut reader = Reader(frame);
    if reader.u8()? != DELAY {
        return Ok(None);
    }
    let (error, value) = (reader.u32()?, reader.u32()?);
    reader.end()?;
    let all = [Delay::Interruptible, Delay::Uninterruptible, Delay::Heard];
    let delay = all.into_iter().find(|&delay| delay as u32 == value);
    delay.filter(|_| error == 0).map(Some).ok_or(Malformed)
}

/// Decodes a welcome frame, without its length.
pub fn decode_welcome(frame: &[u8]) -> Result<Welcome, Malformed> {
    let mut reader = Reader(frame);
    if reader.u8()? != WELCOME || reader.u16()? != VERSION {
        return Err(Malformed);
    }
    let token = Token(reader.array()?);
    reader.end()?;
    Ok(Welcome { token })
}
