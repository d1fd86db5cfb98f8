//! A client of a broker, for our own commands: the same conversation that the
//! preload library has, with time to spare.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keyshim_abi::Request;
use keyshim_abi::frame::{
    KNOCK, LENGTH_LEN, Message, Origin, decode_delay, decode_reply, decode_welcome, encode_message,
    reply_len,
};
use keyshim_abi::limits::REQUEST_HEAD_LEN_MAX;
use keyshim_abi::procfs::ProcFile;
use keyshim_abi::reply::Answer;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair,
    sockopt,
};
use nix::unistd::gettid;
use thiserror::Error;

use crate::address::Address;

/// How long a broker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no conversation, or why it ended.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// Nobody has made a door there.
    #[error("no broker there")]
    Nobody,
    /// A door that may not be used.
    #[error("not allowed to knock there")]
    Forbidden,
    /// Something else with the socket.
    #[error("{0}")]
    Socket(Errno),
    /// The broker hung up, or took too long.
    #[error("the broker does not answer: {0}")]
    Silence(#[from] std::io::Error),
    /// Bytes that are no frame of our version.
    #[error("not a broker of our version")]
    Unintelligible,
}

/// A conversation with a broker.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    /// Talks to the broker at that address.
    pub(crate) fn connect(address: &Address) -> Result<Client, Trouble> {
        let door = address.connect().map_err(|errno| match errno {
            Errno::ENOENT | Errno::ECONNREFUSED | Errno::EPROTOTYPE => Trouble::Nobody,
            Errno::EACCES | Errno::EPERM => Trouble::Forbidden,
            errno => Trouble::Socket(errno),
        })?;
        let stream = knock(&door).map_err(Trouble::Socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut client = Client { stream };
        client.greet()?;
        Ok(client)
    }

    fn greet(&mut self) -> Result<(), Trouble> {
        let tid = gettid().as_raw() as u32;
        self.send(&Message::Hello { tid, origin: Origin::Fresh })?;
        let frame = self.receive()?;
        decode_welcome(&frame).map(drop).map_err(|_| Trouble::Unintelligible)
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), Trouble> {
        let mut buffer = vec![0; REQUEST_HEAD_LEN_MAX];
        let encoded = encode_message(message, &mut buffer).map_err(|_| Trouble::Unintelligible)?;
        let (head_len, trailing) = (encoded.head_len, encoded.trailing);
        let head = buffer.get(..head_len).unwrap_or_default();
        self.stream.write_all(&[head, trailing].concat())?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut length = [0; LENGTH_LEN];
        self.stream.read_exact(&mut length)?;
        let len = reply_len(length).map_err(|_| Trouble::Unintelligible)?;
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    fn exchange(&mut self, message: &Message<'_>) -> Result<(Answer, Vec<u8>), Trouble> {
        self.send(message)?;
        let mut frame = self.receive()?;
        // Some key is being made; our patience bounds how long we wait for it.
        while decode_delay(&frame).map_err(|_| Trouble::Unintelligible)?.is_some() {
            frame = self.receive()?;
        }
        let reply = decode_reply(&frame).map_err(|_| Trouble::Unintelligible)?;
        Ok((reply.answer, reply.data.to_vec()))
    }

    /// Makes one call.
    pub(crate) fn call(&mut self, request: Request<'_>) -> Result<(Answer, Vec<u8>), Trouble> {
        self.exchange(&Message::Call(request))
    }

    /// The text of a file under `/proc`, as we may see it.
    pub(crate) fn open(&mut self, file: ProcFile) -> Result<String, Trouble> {
        let (_, text) = self.exchange(&Message::Open(file))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Hands one end of a pair to the door and keeps the other.
fn knock(door: &OwnedFd) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    // Before the knock: the first message is to be stamped already.
    setsockopt(&ours, sockopt::PassCred, &true)?;
    let bytes = [IoSlice::new(KNOCK)];
    let descriptors = [theirs.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(door.as_raw_fd(), &bytes, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(UnixStream::from(ours))
}
