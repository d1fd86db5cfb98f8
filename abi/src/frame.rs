//! Messages between a client and the broker as bytes.
//!
//! A frame is a length (of what follows, 4 bytes), a kind (1 byte) and the body;
//! all numbers are little-endian. The payload of a request comes last, so that a
//! client can send it from where it lies. Everything is bounded by
//! [`crate::limits`], and a frame that is not exactly as described is
//! [`Malformed`]: there is no partial understanding.
//!
//! A conversation begins with [`Message::Hello`], answered by a [`Welcome`]; then
//! one request at a time, each answered by one reply. Where that takes its time, the
//! broker says so first: a [`Delay`].

mod decode;
mod encode;

use crate::limits::{REPLY_FRAME_LEN_MAX, REQUEST_FRAME_LEN_MAX};
use crate::procfs::{Knob, ProcFile};
use crate::request::Request;

pub use decode::{decode_delay, decode_message, decode_reply, decode_welcome};
pub use encode::{Encoded, encode_delay, encode_message, encode_reply_head, encode_welcome};

/// Version of this format; both sides must have the same.
pub const VERSION: u16 = 3;
/// Bytes of the length that begins each frame.
pub const LENGTH_LEN: usize = 4;
/// What a client sends to the broker's door, a datagram socket, together with one
/// end of a stream socket pair: from then on it talks over the other end.
pub const KNOCK: &[u8; 10] = &{
    let mut knock = *b"keyshim\0\0\0";
    [knock[8], knock[9]] = VERSION.to_le_bytes();
    knock
};

/// The bytes are no frame of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The buffer is too small for the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// A secret that the broker gave to a thread, by which a child or a reconnecting
/// thread shows where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where the memory of a new client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A fresh program image: it remembers nothing.
    Fresh,
    /// The same thread, which lost its connection.
    Same(Token),
    /// A child that was forked by the thread with this token and has not called
    /// exec since.
    ForkedBy(Token),
}

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message of a connection.
    Hello {
        /// The calling thread, as the client's own namespace numbers it.
        tid: u32,
        /// Where it comes from.
        origin: Origin,
    },
    /// One of the three system calls.
    Call(Request<'a>),
    /// Open a file under `/proc` for reading: the reply holds its contents.
    Open(ProcFile),
    /// Open a knob for writing: the reply brings a socket whose every message is a
    /// write to the knob.
    OpenKnob(Knob),
    /// The calling thread is about to execute a program, which ends the connection.
    /// The reply is empty; execve may still fail.
    Execute,
    /// The calling thread, which is not the main one, is about to start another
    /// (`done` is false), or has started it. The reply is empty.
    StartThread {
        /// True when it has been tried.
        done: bool,
    },
    /// A signal came for the calling thread, whose call waits: answered by
    /// [`Delay::Heard`], and by a reply to the call at once if its wait may end so.
    Interrupt,
}

/// What the broker says of a call that waits for a key under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// The reply comes when the key is finished; [`Message::Interrupt`] brings it at once.
    Interruptible,
    /// The reply comes when the helper that this call caused has ended.
    Uninterruptible,
    /// An [`Message::Interrupt`] has been taken note of. It may come before the reply or
    /// after it.
    Heard,
}

/// The broker's answer to Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The secret of this thread.
    pub token: Token,
}

const HELLO: u8 = 1;
const CALL: u8 = 2;
const OPEN: u8 = 3;
const OPEN_KNOB: u8 = 4;
const WELCOME: u8 = 5;
const REPLY: u8 = 6;
const EXECUTE: u8 = 7;
const START_THREAD: u8 = 8;
const INTERRUPT: u8 = 9;
const DELAY: u8 = 10;

/// Bytes of a reply frame before its data, length included. The frame of a [`Delay`] is
/// as long.
pub const REPLY_HEAD_LEN: usize = LENGTH_LEN + 1 + 8;

/// Bytes of a welcome frame, length included.
pub const WELCOME_LEN: usize = LENGTH_LEN + 1 + 2 + 16;

/// The tag of each request, its number in the frame.
mod tag {
    pub(super) const ADD_KEY: u8 = 0;
    pub(super) const REQUEST_KEY: u8 = 1;
    pub(super) const OTHER: u8 = 2;
    /// Operation n of keyctl has the tag `KEYCTL + n`.
    pub(super) const KEYCTL: u8 = 16;
}

const fn keyctl(operation: u32) -> u8 {
    tag::KEYCTL + operation as u8
}

/// The length of a frame of a client that begins with these four bytes, without
/// them. Malformed when it is longer than any request can be, or empty.
pub fn message_len(length: [u8; LENGTH_LEN]) -> Result<usize, Malformed> {
    bounded(length, REQUEST_FRAME_LEN_MAX)
}

/// The same for a frame of the broker.
pub fn reply_len(length: [u8; LENGTH_LEN]) -> Result<usize, Malformed> {
    bounded(length, REPLY_FRAME_LEN_MAX)
}

fn bounded(length: [u8; LENGTH_LEN], max: usize) -> Result<usize, Malformed> {
    let len = u32::from_le_bytes(length) as usize;
    if len == 0 || len > max { Err(Malformed) } else { Ok(len) }
}
