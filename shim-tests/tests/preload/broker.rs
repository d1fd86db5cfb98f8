//! A broker that does what it is told, so that what the library says can be noted,
//! and what it does about a bad broker can be seen.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keyshim_abi::frame::{
    KNOCK, Message, Origin, Token, Welcome, decode_message, encode_reply_head, encode_welcome,
    message_len,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// What is to happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Answered with that many bytes of data.
    Answer(usize),
    /// The same, in pieces of that many bytes.
    Drip(usize, usize),
    /// The connection is closed before the request is read.
    CloseUnread,
    /// The connection is closed when the request has been read.
    CloseRead,
    /// Something that is no reply is sent.
    Garbage(&'static [u8]),
    /// The reply comes with bytes behind it.
    Trailing,
    /// Nothing, and nobody reads.
    Silence,
}

/// What the broker has seen, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A broker in a thread of this process.
pub(crate) struct Broker {
    /// Where its door is.
    pub(crate) address: PathBuf,
    /// What it has seen.
    pub(crate) log: Log,
}

struct Service {
    deeds: Mutex<Vec<Deed>>,
    then: Deed,
    log: Log,
    tokens: AtomicU32,
}

/// The data of a reply: bytes that tell their place.
pub(crate) fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// What `caller` prints of the data.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// A list, whatever a thread that held it did.
fn held<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// Opens a door; the requests meet these deeds in order, and then the last.
    pub(crate) fn open(deeds: &[Deed], then: Deed) -> Result<Broker> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("keyshim-test-{}-{number}", std::process::id());
        let address = std::env::temp_dir().join(name);
        let door = UnixDatagram::bind(&address).context("a door")?;
        let log = Log::default();
        let deeds = Mutex::new(deeds.iter().rev().copied().collect());
        let tokens = AtomicU32::new(0);
        let service = Arc::new(Service { deeds, then, log: Arc::clone(&log), tokens });
        std::thread::spawn(move || {
            while let Ok(line) = let_in(&door) {
                let service = Arc::clone(&service);
                std::thread::spawn(move || service.talk(line));
            }
        });
        Ok(Broker { address, log })
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        held(&self.log).clone()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.address);
    }
}

fn let_in(door: &UnixDatagram) -> Result<UnixStream> {
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut room = [IoSliceMut::new(&mut bytes)];
    let message = rustix::net::recvmsg(door, &mut room, &mut control, RecvFlags::empty())?;
    let came: Vec<OwnedFd> = control
        .drain()
        .filter_map(|one| match one {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let [line] = <[OwnedFd; 1]>::try_from(came).ok().context("a knock brings one descriptor")?;
    if &bytes[..message.bytes] != KNOCK {
        bail!("no knock");
    }
    Ok(line.into())
}

impl Service {
    fn note(&self, what: String) {
        held(&self.log).push(what);
    }

    /// Talks until either side has enough of it.
    fn talk(&self, mut line: UnixStream) {
        while let Ok(true) = self.serve(&mut line) {}
    }

    fn serve(&self, line: &mut UnixStream) -> Result<bool> {
        let mut length = [0; 4];
        self.wait_for_request(line)?;
        let deed = self.deed_for(line)?;
        if deed == Some(Deed::CloseUnread) {
            self.note("unread".to_owned());
            return Ok(false);
        }
        line.read_exact(&mut length)?;
        let mut frame = vec![0; message_len(length).ok().context("a length")?];
        line.read_exact(&mut frame)?;
        match decode_message(&frame).ok().context("a frame of the library's")? {
            Message::Hello { tid, origin } => self.welcome(line, tid, origin),
            _ => self.answer(line, deed.context("a request")?),
        }
    }

    /// Until there is a byte to read, which stays unread.
    fn wait_for_request(&self, line: &UnixStream) -> Result<()> {
        let mut byte = [0];
        match rustix::net::recv(line, &mut byte[..], RecvFlags::PEEK)? {
            (_, 1) => Ok(()),
            _ => bail!("the end"),
        }
    }

    /// What is to happen to the request at hand; nothing to a hello.
    fn deed_for(&self, line: &UnixStream) -> Result<Option<Deed>> {
        let mut start = [0; 5];
        while rustix::net::recv(line, &mut start[..], RecvFlags::PEEK)?.1 < start.len() {}
        const HELLO: u8 = 1;
        if start[4] == HELLO {
            return Ok(None);
        }
        let next = held(&self.deeds).pop();
        Ok(Some(next.unwrap_or(self.then)))
    }

    fn welcome(&self, line: &mut UnixStream, _tid: u32, origin: Origin) -> Result<bool> {
        let name = |token: Token| match token.0 {
            [0, ..] => "nobody".to_owned(),
            [number, ..] => format!("#{number}"),
        };
        let number = self.tokens.fetch_add(1, Ordering::Relaxed) + 1;
        self.note(match origin {
            Origin::Fresh => format!("#{number} fresh"),
            Origin::Same(token) => format!("#{number} same as {}", name(token)),
            Origin::ForkedBy(token) => format!("#{number} forked by {}", name(token)),
        });
        let mut token = [0; 16];
        token[0] = number as u8;
        line.write_all(&encode_welcome(&Welcome { token: Token(token) }))?;
        Ok(true)
    }

    fn answer(&self, line: &mut UnixStream, deed: Deed) -> Result<bool> {
        self.note(format!("{deed:?}"));
        let reply = |len: usize| [&encode_reply_head(Ok(len as u32), len)[..], &data(len)].concat();
        match deed {
            Deed::Answer(len) => line.write_all(&reply(len))?,
            Deed::Drip(len, piece_len) => {
                for piece in reply(len).chunks(piece_len) {
                    line.write_all(piece)?;
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
            Deed::Garbage(bytes) => line.write_all(bytes)?,
            Deed::Trailing => line.write_all(&[&reply(3)[..], b"more"].concat())?,
            Deed::Silence => std::thread::sleep(Duration::from_secs(3600)),
            Deed::CloseRead | Deed::CloseUnread => return Ok(false),
        }
        Ok(true)
    }
}
