//! Waiting for a key that somebody else is making: for as long as it takes.
//!
//! The broker has said that the call waits, so that it lives; it is not asked to hurry,
//! but a signal for one of the program's handlers may end the wait.

use keyshim_abi::frame::{Delay, LENGTH_LEN, Message, REPLY_HEAD_LEN, decode_delay};

use crate::client::send;
use crate::fault::Fault;
use crate::quiet::{Patience, Quiet};
use crate::socket::Socket;
use crate::sys;

/// Bytes of our only message meanwhile.
const MESSAGE_LEN: usize = 16;
/// Some seven weeks. A broker that ends is noticed at once.
const LONG_MS: u32 = u32::MAX;

/// A call that waits.
pub(crate) struct Wait<'q> {
    socket: Socket,
    quiet: &'q Quiet,
    /// The broker owes an answer to our having been interrupted.
    is_owed: bool,
}

/// What a frame says about waiting, if it does.
pub(crate) fn delay_of(frame: &[u8]) -> Result<Option<Delay>, Fault> {
    let body = frame.get(LENGTH_LEN..REPLY_HEAD_LEN).ok_or(Fault::Garbled)?;
    decode_delay(body).map_err(|_| Fault::Garbled)
}

impl<'q> Wait<'q> {
    /// A call that the broker has just said to wait.
    pub(crate) const fn begin(socket: Socket, quiet: &'q Quiet) -> Wait<'q> {
        Wait { socket, quiet, is_owed: false }
    }

    /// Waits for the reply, and receives its head.
    pub(crate) fn for_reply(&mut self, delay: Delay, room: &mut [u8]) -> Result<(), Fault> {
        if delay == Delay::Interruptible {
            self.until_reply_or_signal()?;
        }
        while self.head(room)?.is_some() {
            self.is_owed = false;
        }
        Ok(())
    }

    /// Receives what the broker still owes after the reply.
    pub(crate) fn end(self, room: &mut [u8]) -> Result<(), Fault> {
        match self.is_owed && self.head(room)? != Some(Delay::Heard) {
            true => Err(Fault::Garbled),
            false => Ok(()),
        }
    }

    /// The head of the next frame; what it says if it is no reply.
    fn head(&self, room: &mut [u8]) -> Result<Option<Delay>, Fault> {
        let mut patience = Patience::new(self.quiet, LONG_MS);
        let mut filled = 0;
        while filled < REPLY_HEAD_LEN {
            let rest = room.get_mut(filled..REPLY_HEAD_LEN).ok_or(Fault::Garbled)?;
            let len = self.socket.receive(rest, &mut patience);
            // It has said that it has the request.
            filled +=
                len.map_err(|fault| if fault == Fault::Unheard { Fault::Cut } else { fault })?;
        }
        delay_of(room)
    }

    /// Returns when there is something to receive; on the way the broker is told of a
    /// signal. Without a descriptor to see signals by, the call is not interrupted.
    fn until_reply_or_signal(&mut self) -> Result<(), Fault> {
        let Ok(signals) = sys::signal_descriptor(self.quiet.awaited()) else { return Ok(()) };
        let mut is_to_end = false;
        while !is_to_end && !sys::wait_for_either(self.socket.fd(), signals) {
            is_to_end = self.quiet.is_to_end();
        }
        sys::close(signals);
        if is_to_end {
            let mut patience = Patience::new(self.quiet, LONG_MS);
            send(self.socket, &Message::Interrupt, &mut [0; MESSAGE_LEN], &mut patience)?;
            self.is_owed = true;
        }
        Ok(())
    }
}
