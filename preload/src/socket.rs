//! Descriptors of ours in a process that is not ours.
//!
//! The program may close them (`closefrom(3)`), and open its own under the same
//! numbers. So each is known by what it is, device and inode, and looked at before
//! every use; one that has become something else is forgotten, never closed.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::fault::Fault;
use crate::quiet::{Patience, SLICE_MS};
use crate::sys::{self, Refused};

/// Programs use low numbers, and count on getting the lowest.
const NUMBER_MIN: i32 = 1000;

/// Device of every socket: one per kernel, learnt from the first.
static DEVICE: AtomicU64 = AtomicU64::new(0);

/// A socket of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    fd: i32,
    /// The low half of the inode number, which is all that the kernel counts.
    inode: u32,
}

impl Socket {
    /// Takes a new socket over: moves it out of the program's way and notes what it is.
    pub(crate) fn settle(fd: i32) -> Result<Socket, Fault> {
        let fd = out_of_the_way(fd)?;
        let facts = sys::fstat(fd).map_err(|_| Fault::NoRoom)?;
        DEVICE.store(facts.device, Relaxed);
        Ok(Socket { fd, inode: facts.inode as u32 })
    }

    /// As one number, never 0.
    pub(crate) const fn packed(self) -> u64 {
        (self.fd as u64) << 32 | self.inode as u64
    }

    /// Back from one number; 0 is none.
    pub(crate) const fn unpacked(packed: u64) -> Option<Socket> {
        if packed == 0 {
            return None;
        }
        Some(Socket { fd: (packed >> 32) as i32, inode: packed as u32 })
    }

    /// The number.
    pub(crate) const fn fd(self) -> i32 {
        self.fd
    }

    /// True while the number still stands for this socket.
    pub(crate) fn is_ours(self) -> bool {
        sys::fstat(self.fd).is_ok_and(|facts| {
            facts.inode as u32 == self.inode && facts.device == DEVICE.load(Relaxed)
        })
    }

    /// Closes it, if it is still there.
    pub(crate) fn close(self) {
        if self.is_ours() {
            sys::close(self.fd);
        }
    }

    /// Sends all of two pieces. Unheard when the other end is gone: it has not got
    /// the whole frame then.
    pub(crate) fn send(self, pieces: [&[u8]; 2], patience: &mut Patience<'_>) -> Result<(), Fault> {
        let [mut first, mut second] = pieces;
        while !first.is_empty() || !second.is_empty() {
            match sys::send_pieces(self.fd, [first, second]) {
                Ok(sent) => {
                    let of_first = sent.min(first.len());
                    first = &first[of_first..];
                    second = &second[(sent - of_first).min(second.len())..];
                }
                Err(Refused(libc::EINTR)) => {}
                Err(Refused(libc::EAGAIN)) => patience.spent(SLICE_MS)?,
                Err(Refused(libc::ENOMEM | libc::ENOBUFS)) => return Err(Fault::NoRoom),
                Err(_) => return Err(Fault::Unheard),
            }
        }
        Ok(())
    }

    /// Receives what there is, at least a byte. Unheard when the other end was
    /// closed with our request unread in it; Cut when it had been read.
    pub(crate) fn receive(
        self,
        into: &mut [u8],
        patience: &mut Patience<'_>,
    ) -> Result<usize, Fault> {
        loop {
            if let Some(len) = received(sys::receive(self.fd, into), patience)? {
                return Ok(len);
            }
        }
    }

    /// The same, with the descriptor that came along.
    pub(crate) fn receive_descriptor(
        self,
        into: &mut [u8],
        patience: &mut Patience<'_>,
    ) -> Result<(usize, Option<i32>), Fault> {
        loop {
            let (len, fd) = match sys::receive_descriptor(self.fd, into) {
                Ok((len, fd)) => (Ok(len), fd),
                Err(refused) => (Err(refused), None),
            };
            if let Some(len) = received(len, patience)? {
                return Ok((len, fd));
            }
        }
    }
}

/// `None` when it is to be tried again.
fn received(outcome: sys::Outcome, patience: &mut Patience<'_>) -> Result<Option<usize>, Fault> {
    match outcome {
        Ok(0) => Err(Fault::Cut),
        Ok(len) => Ok(Some(len)),
        Err(Refused(libc::EINTR)) => Ok(None),
        Err(Refused(libc::EAGAIN)) => patience.spent(SLICE_MS).map(|()| None),
        Err(Refused(libc::ECONNRESET)) => Err(Fault::Unheard),
        Err(_) => Err(Fault::Cut),
    }
}

/// Moves a descriptor to a high number, or as high as the limit lets it. It never
/// stays on 0 to 2.
fn out_of_the_way(fd: i32) -> Result<i32, Fault> {
    let highest = sys::duplicate(fd, NUMBER_MIN).or_else(|_| {
        let max = i32::try_from(sys::descriptors_max()).unwrap_or(i32::MAX);
        sys::duplicate(fd, (max - 64).max(3))
            .or_else(|_| sys::duplicate(fd, (max / 2).max(3)))
            .or_else(|_| sys::duplicate(fd, 3))
    });
    if highest.is_err() && fd > 2 {
        return Ok(fd);
    }
    sys::close(fd);
    highest.map_err(|_| Fault::NoRoom)
}
