//! What the orchestrator and an actor say to each other: a length (4 bytes,
//! native), then one value.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A register of a call.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub enum Register {
    /// This value.
    Value(u64),
    /// The address of these bytes.
    In(Vec<u8>),
    /// The address of an array of `struct iovec`, one for each of these pieces.
    Scattered(Vec<Vec<u8>>),
    /// The address of a buffer of so many bytes, filled with [`UNTOUCHED`].
    Out(u32),
    /// An address where nothing is.
    Bad,
}

/// What a buffer holds before the call.
pub const UNTOUCHED: u8 = 0xa5;
/// An address where nothing is: below what may be mapped.
pub const BAD_ADDRESS: u64 = 16;

/// An array of `struct iovec` that lies at that address, with its pieces behind it.
#[must_use]
pub fn scattered(pieces: &[Vec<u8>], address: u64) -> Vec<u8> {
    let mut at = address + pieces.len() as u64 * 16;
    let mut memory = Vec::new();
    for piece in pieces {
        memory.extend_from_slice(&at.to_ne_bytes());
        memory.extend_from_slice(&(piece.len() as u64).to_ne_bytes());
        at += piece.len() as u64;
    }
    pieces.iter().for_each(|piece| memory.extend_from_slice(piece));
    memory
}

/// What a helper says first: for which thread it acts, and the arguments it was given.
#[derive(Debug, Serialize, Deserialize)]
pub struct HelperHello {
    /// Thread id of the requester; of the first where a helper requested in its turn.
    pub requester: i64,
    /// The arguments, without the program's name.
    pub arguments: Vec<String>,
}

/// What an actor shall do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// One of the three calls, by its place in `marshal::Entry`.
    Call {
        /// 0 add_key, 1 request_key, 2 keyctl.
        entry: u8,
        /// Five registers.
        args: Vec<Register>,
    },
    /// Fork; the child serves the descriptor that comes along.
    Fork,
    /// Start a thread, which serves the descriptor that comes along.
    Thread,
    /// Execute the same program anew, serving the same descriptor.
    Exec,
    /// End the thread, or the process.
    Exit {
        /// True when the whole process ends.
        process: bool,
    },
    /// Any other system call of plain numbers, for this thread alone.
    Plain {
        /// Its number.
        number: i64,
        /// Its arguments.
        args: [u64; 3],
    },
    /// `setgroups`, for this thread alone.
    SetGroups(Vec<u32>),
    /// Open and read a file.
    ReadFile(String),
    /// Nothing, but pass through the kernel.
    Nothing,
}

/// How far a call has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// To its end.
    #[default]
    Done,
    /// It waits for a key that somebody else is having made.
    Waits,
    /// It waits for a helper of its own, that actor, which is to make the key of that
    /// serial.
    Upcall(String, i32),
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Unless it is done, the rest says nothing yet.
    pub progress: Progress,
    /// The value returned, or the error's number, negative. For the first report
    /// of a new actor, its thread id.
    pub ret: i64,
    /// What the buffer holds now, or the file held.
    pub out: Vec<u8>,
    /// The second of `CLOCK_REALTIME_COARSE` just before.
    pub second_before: i64,
    /// And just after.
    pub second_after: i64,
}

/// One value as a frame.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let body = postcard::to_stdvec(value)?;
    let mut frame = u32::try_from(body.len())?.to_ne_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Writes one value.
pub fn send<T: Serialize>(into: &mut impl Write, value: &T) -> Result<()> {
    Ok(into.write_all(&encode(value)?)?)
}

/// Reads one value after its length has been read.
pub fn receive_body<T: DeserializeOwned>(from: &mut impl Read, length: [u8; 4]) -> Result<T> {
    let mut body = vec![0; u32::from_ne_bytes(length) as usize];
    from.read_exact(&mut body).context("the other side is gone")?;
    Ok(postcard::from_bytes(&body)?)
}

/// Reads one value.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length).context("the other side is gone")?;
    receive_body(from, length)
}
