//! The least that any broker at a socket costs: 64 bytes there, 64 bytes back.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::measure::timed;
use crate::role::Role;

const MESSAGE_LEN: usize = 64;

/// A process that sends back what it is sent.
pub(crate) struct Echo {
    socket: UnixStream,
    process: Child,
}

impl Echo {
    /// Starts it, without the library.
    pub(crate) fn start() -> Result<Echo> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        Role::Echo.give(&mut command);
        command.env_remove("LD_PRELOAD").stdin(OwnedFd::from(theirs));
        Ok(Echo { socket, process: command.spawn().context("starting the echo process")? })
    }

    /// One round trip, in nanoseconds.
    pub(crate) fn round_trip(&mut self) -> Result<u64> {
        let mut message = [0x5a; MESSAGE_LEN];
        let (result, took_ns) = timed(|| {
            self.socket.write_all(&message)?;
            self.socket.read_exact(&mut message)
        });
        result.context("the echo process is gone")?;
        Ok(took_ns)
    }

    /// Ends it and waits for that.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.socket);
        self.process.wait()?;
        Ok(())
    }
}

/// What the echo process does until the line on its standard input ends.
pub(crate) fn serve() -> Result<()> {
    let mut line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut message = [0; MESSAGE_LEN];
    loop {
        match line.read_exact(&mut message) {
            Ok(()) => line.write_all(&message)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
