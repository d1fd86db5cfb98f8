//! One client's end of a conversation: bytes in, frames out, every buffer bounded.
//!
//! The client holds the same open socket as we do, so nothing that it could change
//! there (blocking mode, stamps) is relied on: every transfer says that it will not
//! wait, and a message without the kernel's stamp ends the conversation.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use keyshim_abi::caller::TaskId;
use keyshim_abi::frame::{LENGTH_LEN, message_len};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use zeroize::{Zeroize, Zeroizing};

use crate::fault::CutOff;
use crate::identity::{self, Peer};

/// Bytes that a worker takes from a socket at once: any frame but one with a big
/// payload comes in one piece.
pub(crate) const CHUNK_LEN: usize = 64 * 1024;

/// A worker's own memory, used again for each message.
pub(crate) struct Scratch {
    chunk: Zeroizing<Vec<u8>>,
    control: Vec<u8>,
}

impl Scratch {
    /// Memory for one worker.
    pub(crate) fn new() -> Scratch {
        Scratch {
            chunk: Zeroizing::new(vec![0; CHUNK_LEN]),
            control: nix::cmsg_space!(nix::sys::socket::UnixCredentials),
        }
    }
}

/// What came in.
pub(crate) enum Incoming<'a> {
    /// One whole frame.
    Frame(Frame<'a>),
    /// Not yet.
    Incomplete,
}

/// One frame with its length, cleared when it has been used.
pub(crate) enum Frame<'a> {
    /// In the worker's memory.
    Short(&'a mut [u8]),
    /// In memory of its own.
    Long(Zeroizing<Vec<u8>>),
}

impl Frame<'_> {
    /// The bytes after the length.
    pub(crate) fn bytes(&self) -> &[u8] {
        let whole: &[u8] = match self {
            Frame::Short(bytes) => bytes,
            Frame::Long(bytes) => bytes,
        };
        whole.get(LENGTH_LEN..).unwrap_or_default()
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        if let Frame::Short(bytes) = self {
            bytes.zeroize();
        }
    }
}

/// The changing part of a connection.
#[derive(Default)]
pub(crate) struct Talk {
    /// Who talks, once it has said hello.
    pub(crate) task: Option<TaskId>,
    /// Since when half a frame lies here, half a reply has not been read, or no
    /// hello was said.
    pub(crate) stalled_since: Option<Instant>,
    input: Zeroizing<Vec<u8>>,
    output: Zeroizing<Vec<u8>>,
    sent: usize,
}

/// A connection.
pub(crate) struct Connection {
    /// Its number, never used again.
    pub(crate) id: u64,
    /// The client.
    pub(crate) peer: Peer,
    /// Our end.
    pub(crate) socket: OwnedFd,
}

impl Talk {
    /// Bytes of memory that the conversation holds between two looks.
    pub(crate) fn held_len(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// A conversation in which nothing has been said.
    pub(crate) fn begin() -> Talk {
        Talk { stalled_since: Some(Instant::now()), ..Talk::default() }
    }

    /// What the epoll is to wake a worker for next.
    pub(crate) fn interest(&self) -> EpollFlags {
        if self.has_output() { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN }
    }

    /// True while a reply has not been taken by the client.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }
}

impl Connection {
    /// Takes what has come. A frame lies in the worker's memory or in the
    /// conversation's, and is to be used before the next look.
    pub(crate) fn receive<'a>(
        &self,
        talk: &mut Talk,
        scratch: &'a mut Scratch,
    ) -> Result<Incoming<'a>, CutOff> {
        while let Some(len) = self.receive_piece(scratch)? {
            let piece = scratch.chunk.get(..len).unwrap_or_default();
            if talk.input.is_empty() && is_whole(piece)? {
                let piece = scratch.chunk.get_mut(..len).unwrap_or_default();
                return Ok(Incoming::Frame(Frame::Short(piece)));
            }
            append(&mut talk.input, piece);
            scratch.chunk.get_mut(..len).unwrap_or_default().zeroize();
            if is_whole(&talk.input)? {
                talk.stalled_since = None;
                return Ok(Incoming::Frame(Frame::Long(std::mem::take(&mut talk.input))));
            }
        }
        if !talk.input.is_empty() {
            talk.stalled_since.get_or_insert_with(Instant::now);
        }
        Ok(Incoming::Incomplete)
    }

    /// Receives into the worker's memory: how many bytes, or `None` when there are
    /// none yet. Left when the client has closed; Stranger when another process
    /// wrote.
    fn receive_piece(&self, scratch: &mut Scratch) -> Result<Option<usize>, CutOff> {
        let mut buffers = [IoSliceMut::new(&mut scratch.chunk)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let control = Some(scratch.control.as_mut_slice());
        let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut buffers, control, flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(_) => return Err(CutOff::Left),
        };
        if message.bytes == 0 {
            return Err(CutOff::Left);
        }
        let sender = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::ScmCredentials(stamp) => identity::sender(&stamp),
                _ => None,
            })
        });
        if sender == Some(self.peer.pid) { Ok(Some(message.bytes)) } else { Err(CutOff::Stranger) }
    }

    /// Sends a reply of two parts, with a descriptor if there is one. What the
    /// client does not take at once waits in the conversation.
    pub(crate) fn send(
        &self,
        talk: &mut Talk,
        head: &[u8],
        data: &[u8],
        descriptor: Option<RawFd>,
    ) -> Result<(), CutOff> {
        let parts = [IoSlice::new(head), IoSlice::new(data)];
        let descriptors = descriptor.as_slice();
        let control = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptor.is_some() { &control[..] } else { &[] };
        let sent = match sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, SEND, None) {
            Ok(sent) => sent,
            Err(Errno::EAGAIN) => 0,
            Err(_) => return Err(CutOff::Left),
        };
        if sent < head.len() + data.len() {
            if descriptor.is_some() {
                // A reply this small fits into any socket whose owner reads.
                return Err(CutOff::Stalled);
            }
            talk.output.reserve_exact(head.len() + data.len() - sent);
            talk.output.extend_from_slice(head.get(sent..).unwrap_or_default());
            let rest = data.get(sent.saturating_sub(head.len())..);
            talk.output.extend_from_slice(rest.unwrap_or_default());
            talk.stalled_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Sends what has waited.
    pub(crate) fn flush(&self, talk: &mut Talk) -> Result<(), CutOff> {
        while let Some(rest) = talk.output.get(talk.sent..).filter(|rest| !rest.is_empty()) {
            let rest = [IoSlice::new(rest)];
            match sendmsg::<()>(self.socket.as_raw_fd(), &rest, &[], SEND, None) {
                Ok(sent) => {
                    talk.sent += sent;
                    talk.stalled_since = Some(Instant::now());
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) => return Err(CutOff::Left),
            }
        }
        talk.output = Zeroizing::default();
        talk.sent = 0;
        talk.stalled_since = None;
        Ok(())
    }
}

const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// True when the bytes are exactly one frame, false when some are missing.
/// Malformed when there are more: a client waits for its reply.
fn is_whole(bytes: &[u8]) -> Result<bool, CutOff> {
    let Some(&length) = bytes.first_chunk::<LENGTH_LEN>() else { return Ok(false) };
    let whole = LENGTH_LEN + message_len(length).map_err(|_| CutOff::Malformed)?;
    if bytes.len() > whole { Err(CutOff::Malformed) } else { Ok(bytes.len() == whole) }
}

/// Appends to memory that may hold a secret: when it must grow, the old place is
/// cleared.
fn append(input: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    let needed = input.len() + piece.len();
    if needed > input.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
        larger.extend_from_slice(input);
        *input = larger;
    }
    input.extend_from_slice(piece);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = OwnedFd::from(ours);
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        let peer = Peer::of(&socket).unwrap();
        (Connection { id: 1, peer, socket }, theirs)
    }

    #[test]
    fn a_reply_that_is_not_read_waits_and_arrives_whole() {
        let (connection, mut client) = connection();
        let mut talk = Talk::default();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        connection.send(&mut talk, b"head", &data, None).unwrap();
        assert!(talk.has_output() && talk.stalled_since.is_some());
        assert!(talk.held_len() > 1_000_000);
        let mut read = vec![0; data.len() + 4];
        let mut filled = 0;
        while filled < read.len() {
            filled += client.read(&mut read[filled..]).unwrap();
            connection.flush(&mut talk).unwrap();
        }
        assert_eq!((&read[..4], &read[4..]), (&b"head"[..], &data[..]));
        assert!(!talk.has_output() && talk.stalled_since.is_none());
        assert_eq!(talk.held_len(), 0);
    }

    #[test]
    fn a_frame_longer_than_a_chunk_is_put_together() {
        let (connection, mut client) = connection();
        let (mut talk, mut scratch) = (Talk::default(), Scratch::new());
        let body: Vec<u8> = (0..500_000u32).map(|n| n as u8).collect();
        let sent = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
        for piece in sent.chunks(70_000) {
            assert!(matches!(
                connection.receive(&mut talk, &mut scratch).unwrap(),
                Incoming::Incomplete
            ));
            client.write_all(piece).unwrap();
        }
        let Incoming::Frame(frame) = connection.receive(&mut talk, &mut scratch).unwrap() else {
            panic!("incomplete")
        };
        assert_eq!(frame.bytes(), body);
        drop(frame);
        assert_eq!(talk.held_len(), 0);
    }

    #[test]
    fn a_worker_forgets_what_a_frame_held() {
        let (connection, mut client) = connection();
        let (mut talk, mut scratch) = (Talk::default(), Scratch::new());
        client.write_all(b"\x06\0\0\0secret").unwrap();
        let incoming = connection.receive(&mut talk, &mut scratch).unwrap();
        assert!(matches!(&incoming, Incoming::Frame(frame) if frame.bytes() == b"secret"));
        drop(incoming);
        assert!(scratch.chunk.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_end_of_a_client_is_seen() {
        let (connection, client) = connection();
        drop(client);
        let (mut talk, mut scratch) = (Talk::default(), Scratch::new());
        let received = connection.receive(&mut talk, &mut scratch);
        assert!(matches!(received, Err(CutOff::Left)));
        let sent = connection.send(&mut talk, b"x", b"", None);
        assert_eq!(sent, Err(CutOff::Left));
    }
}
