//! Groups and capabilities of a caller, looked up only when the core asks.

use keyshim_abi::caller::{Capability, Gid, Privileges};

use crate::identity::ThreadRef;
use crate::namespace::Lookup;

/// The privileges of one thread during one call; one that has gone has none any more.
pub(crate) struct PrivilegesOf<'a> {
    /// The thread.
    pub(crate) thread: &'a ThreadRef<'a>,
    /// Its user namespace.
    pub(crate) namespace: &'a Lookup<'a>,
}

impl PrivilegesOf<'_> {
    fn effective(&self, capability: Capability) -> bool {
        let bit = number(capability);
        self.thread.status().is_ok_and(|status| status.effective >> bit & 1 == 1)
    }
}

/// The number of a capability in `linux/capability.h`.
const fn number(capability: Capability) -> u32 {
    match capability {
        Capability::SetUid => 7,
        Capability::SysAdmin => 21,
    }
}

impl Privileges for PrivilegesOf<'_> {
    fn in_group(&self, gid: Gid) -> bool {
        self.thread.status().is_ok_and(|status| status.groups.contains(&gid.0))
    }

    fn each_group(&self, visit: &mut dyn FnMut(Gid)) {
        if let Ok(status) = self.thread.status() {
            status.groups.iter().copied().map(Gid).for_each(visit);
        }
    }

    fn capable(&self, capability: Capability) -> bool {
        self.namespace.is_outermost() && self.effective(capability)
    }

    fn capable_in_own_namespace(&self, capability: Capability) -> bool {
        self.effective(capability)
    }
}
