//! What the service wants of the shell around it.
//!
//! A call is answered at once, or it waits and its answer is an effect of a later
//! input: exactly one for each call. Effects are in the order in which they arose.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use keyshim_abi::caller::{Gid, TaskId, Uid};
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Serial};
use zeroize::Zeroizing;

use crate::held::HeldKey;

/// A call, as the shell numbers it: no two that wait have the same number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// An upcall, as the service numbers it; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpcallId(pub u64);

/// What became of a call that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer.
    Done(Answer),
    /// The answer will be an [`Effect::Reply`].
    Waiting,
}

/// Something for the shell to do.
#[derive(Debug)]
pub enum Effect {
    /// The answer to a call that waited.
    Reply {
        /// Which call.
        call: CallId,
        /// What it returns.
        answer: Answer,
        /// What goes into the caller's buffer; overwritten when it is dropped.
        data: Data,
    },
    /// The answer to a service that requested a key and waited
    /// ([`crate::KeyService::request_key`]).
    Requested {
        /// Which request.
        call: CallId,
        /// The key, or why there is none.
        key: Result<HeldKey, Errno>,
    },
    /// Start a helper. The shell reports how it fares: [`crate::TaskEvent::UpcallStarted`],
    /// then [`crate::KeyService::upcall_exited`], or else
    /// [`crate::KeyService::upcall_failed`].
    StartUpcall(Upcall),
}

/// Bytes for a caller's buffer, perhaps secret: only their length is shown.
pub struct Data(pub Zeroizing<alloc::vec::Vec<u8>>);

impl core::fmt::Debug for Data {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A key that is to be made by somebody outside the service.
#[derive(Debug, Clone)]
pub struct Upcall {
    /// Its number.
    pub id: UpcallId,
    /// The request that waits for it.
    pub call: CallId,
    /// The thread that requested the key. A request of a helper counts as its own here,
    /// though its helper acts for whom the first one acted for.
    pub requester: TaskId,
    /// True when the key's type makes its keys itself and asked for time
    /// ([`crate::Made::Later`]): [`crate::KeyService::finish_upcall`] brings the result.
    pub by_type: bool,
    /// The key under construction.
    pub key: Serial,
    /// Its type.
    pub type_name: &'static str,
    /// Its description.
    pub description: Box<[u8]>,
    /// The requester's file-system user, whom the key belongs to.
    pub uid: Uid,
    /// The requester's file-system group.
    pub gid: Gid,
    /// The requester's thread keyring, if it has one.
    pub thread: Option<Serial>,
    /// The requester's process keyring, if it has one.
    pub process: Option<Serial>,
    /// The requester's session keyring, or the user-session keyring; none where a type
    /// makes its keys itself.
    pub session: Option<Serial>,
    /// What the requester says about the key it wants.
    pub callout: Box<[u8]>,
    /// True where helpers are told that as their last argument.
    pub shows_callout: bool,
}

impl Upcall {
    /// The arguments of `/sbin/request-key`, its own name not among them: `create`, the
    /// key, user and group, thread, process and session keyring, 0 where there is none.
    #[must_use]
    pub fn arguments(&self) -> [String; 7] {
        let ring = |ring: Option<Serial>| ring.map_or(0, Serial::raw).to_string();
        [
            "create".to_string(),
            self.key.raw().to_string(),
            format!("{}", self.uid.0 as i32),
            format!("{}", self.gid.0 as i32),
            ring(self.thread),
            ring(self.process),
            ring(self.session),
        ]
    }

    /// One argument more, of old kernels: the callout information, or `-` if it is empty.
    #[must_use]
    pub fn callout_argument(&self) -> Option<&[u8]> {
        let shown = if self.callout.is_empty() { b"-" } else { &*self.callout };
        self.shows_callout.then_some(shown)
    }
}
