//! What goes wrong with us, as against an answer, which is what Linux would say.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// A failure of the broker or of a command; its text says what to do next.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// A system call that ought to work did not.
    #[error("{what}: {errno}; {next}")]
    System {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        errno: Errno,
        /// What the user can do.
        next: &'static str,
    },
    /// A file or directory could not be used.
    #[error("{what} {path}: {error}; {next}")]
    File {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
        /// What the user can do.
        next: &'static str,
    },
    /// Anything else, told in full.
    #[error("{0}")]
    Told(String),
}

impl Fault {
    /// For `map_err` on a system call: `what` failed, do `next`.
    pub(crate) fn system(what: &'static str, next: &'static str) -> impl FnOnce(Errno) -> Fault {
        move |errno| Fault::System { what, errno, next }
    }

    /// For `map_err` on a file operation: `what` failed on `path`, do `next`.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
        next: &'static str,
    ) -> impl FnOnce(io::Error) -> Fault {
        move |error| Fault::File { what, path: path.into(), error, next }
    }
}

/// Why a client is cut off. It is told nothing but the end of its connection:
/// what it sent was no conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CutOff {
    /// It closed its end.
    #[error("it has left")]
    Left,
    /// Its process or thread has ended.
    #[error("its thread has ended")]
    Gone,
    /// Its bytes are no frame, or the frame is out of turn.
    #[error("it sent something else than one frame")]
    Malformed,
    /// A message did not come from the process that made the connection.
    #[error("a message came from another process")]
    Stranger,
    /// The thread that it claims to be is none of its own.
    #[error("it named a thread that is not its own")]
    NotItsThread,
    /// Half a frame for too long, or a reply not read for too long.
    #[error("it stalled")]
    Stalled,
    /// Too many connections, or too many bytes held for its user.
    #[error("its user holds too much")]
    Greedy,
    /// The kernel refused what we need to serve it.
    #[error("the kernel says {0}")]
    Kernel(Errno),
}
