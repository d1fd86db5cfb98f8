//! The face of the service.

use alloc::boxed::Box;
use alloc::vec::Vec;

use keyshim_abi::caller::Caller;
use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Request};

use crate::{Now, TaskEvent};

/// Where serial numbers and hash keys come from.
pub trait Entropy: Send {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// How a domain begins.
pub struct Config {
    /// Randomness: the system's, or a generator with a seed.
    pub entropy: Box<dyn Entropy>,
}

/// One key universe.
pub struct KeyService {
    _entropy: Box<dyn Entropy>,
}

impl KeyService {
    /// An empty universe.
    #[must_use]
    pub fn new(config: Config) -> KeyService {
        KeyService { _entropy: config.entropy }
    }

    /// Carries out one call. Bytes for the caller's buffer are appended to `data`,
    /// never more than the room that the request offers.
    pub fn submit(
        &mut self,
        _now: Now,
        _caller: &Caller<'_>,
        _request: &Request<'_>,
        _data: &mut Vec<u8>,
    ) -> Answer {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes note of what happened to a task.
    pub fn task_event(&mut self, _now: Now, _event: TaskEvent) {}

    /// Collects garbage that is due: links to keys that expired or were revoked
    /// `gc_delay` seconds ago.
    pub fn collect(&mut self, _now: Now) {}

    /// When [`KeyService::collect`] next has something to do.
    #[must_use]
    pub fn next_collection(&self) -> Option<Now> {
        None
    }

    /// The text of a file under `/proc` as this caller, its opener, may see it.
    pub fn proc_read(
        &mut self,
        _now: Now,
        _caller: &Caller<'_>,
        _file: ProcFile,
        _text: &mut Vec<u8>,
    ) {
    }

    /// Writes to a knob what `echo VALUE >` would. EINVAL when it is no number or
    /// out of range. Whether the writer may open the file is the shell's question.
    pub fn knob_write(&mut self, _knob: Knob, _value: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}
