//! What can go wrong with us, as opposed to what Linux would answer.

use keyshim_abi::Errno;

/// The key service could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No broker answers, and none can be started.
    NoBroker,
    /// The connection went away before the broker had read the request: it may be put again.
    Unheard,
    /// The connection went away when the broker had the request: what it did is not known.
    Cut,
    /// The broker kept us waiting for longer than we wait.
    Silent,
    /// What came is no frame.
    Garbled,
    /// No memory, or no descriptor, for the exchange.
    NoRoom,
}

impl Fault {
    /// The one place where a fault becomes an answer. A program can only be told
    /// what a kernel may say: that there is no key service here, or no memory.
    pub(crate) const fn answer(self) -> Errno {
        match self {
            Fault::NoRoom => Errno::ENOMEM,
            _ => Errno::ENOSYS,
        }
    }
}
