//! Groups and capabilities of a caller, looked up only when the core asks.

use std::cell::OnceCell;

use keyshim_abi::caller::{Capability, Gid, Privileges};

use crate::identity::ThreadRef;
use crate::proc::Status;

/// The privileges of one thread during one call: its status is read at most once.
pub(crate) struct LazyPrivileges<'a> {
    thread: ThreadRef<'a>,
    /// True when the thread is in the broker's own user namespace.
    outermost: bool,
    status: OnceCell<Option<Status>>,
}

impl<'a> LazyPrivileges<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(thread: ThreadRef<'a>, outermost: bool) -> LazyPrivileges<'a> {
        LazyPrivileges { thread, outermost, status: OnceCell::new() }
    }

    /// A thread that has gone has no privileges any more.
    fn status(&self) -> Option<&Status> {
        self.status.get_or_init(|| self.thread.status()).as_ref()
    }

    fn effective(&self, number: u32) -> bool {
        self.status().is_some_and(|status| status.effective >> number & 1 == 1)
    }
}

/// The number of a capability in `linux/capability.h`.
const fn number(capability: Capability) -> u32 {
    match capability {
        Capability::SetUid => 7,
        Capability::SysAdmin => 21,
    }
}

impl Privileges for LazyPrivileges<'_> {
    fn in_group(&self, gid: Gid) -> bool {
        self.status().is_some_and(|status| status.groups.contains(&gid.0))
    }

    fn capable(&self, capability: Capability) -> bool {
        self.outermost && self.effective(number(capability))
    }

    fn capable_in_own_namespace(&self, capability: Capability) -> bool {
        self.effective(number(capability))
    }
}
