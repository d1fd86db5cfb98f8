//! Credentials that outlast a call: of a caller that waits, or of a requester for whom
//! a helper acts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use keyshim_abi::caller::{
    Caller, Capability, Gid, IdMap, IdRun, Ids, NamespaceOf, Parent, Privileges, TaskId, Uid,
    UserNamespace,
};

/// A copy of everything that a [`Caller`] says of itself. A thread that waits in the
/// kernel cannot change its credentials, so the copy stays true.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) task: TaskId,
    pub(crate) tid: u32,
    ids: Ids,
    namespace: u64,
    namespace_owner: Uid,
    uids: Box<[IdRun]>,
    gids: Box<[IdRun]>,
    parent: Option<Parent>,
    groups: Vec<Gid>,
    outermost: Capabilities,
    own: Capabilities,
}

#[derive(Debug)]
struct Capabilities {
    sys_admin: bool,
    set_uid: bool,
}

impl Capabilities {
    fn of(has: impl Fn(Capability) -> bool) -> Capabilities {
        Capabilities { sys_admin: has(Capability::SysAdmin), set_uid: has(Capability::SetUid) }
    }

    fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::SysAdmin => self.sys_admin,
            Capability::SetUid => self.set_uid,
        }
    }
}

impl Credentials {
    pub(crate) fn of(caller: &Caller<'_>) -> Credentials {
        let mut groups = Vec::new();
        caller.privileges.each_group(&mut |gid| groups.push(gid));
        let namespace = caller.namespace();
        Credentials {
            task: caller.task,
            tid: caller.tid,
            ids: caller.ids,
            namespace: namespace.number,
            namespace_owner: namespace.owner,
            uids: namespace.uids.0.into(),
            gids: namespace.gids.0.into(),
            parent: caller.parent,
            groups,
            outermost: Capabilities::of(|which| caller.privileges.capable(which)),
            own: Capabilities::of(|which| caller.privileges.capable_in_own_namespace(which)),
        }
    }

    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            task: self.task,
            tid: self.tid,
            ids: self.ids,
            namespace: NamespaceOf::Known(UserNamespace {
                number: self.namespace,
                owner: self.namespace_owner,
                uids: IdMap(&self.uids),
                gids: IdMap(&self.gids),
            }),
            parent: self.parent,
            privileges: self,
        }
    }
}

impl Privileges for Credentials {
    fn in_group(&self, gid: Gid) -> bool {
        self.groups.contains(&gid)
    }

    fn each_group(&self, visit: &mut dyn FnMut(Gid)) {
        self.groups.iter().copied().for_each(visit);
    }

    fn capable(&self, capability: Capability) -> bool {
        self.outermost.has(capability)
    }

    fn capable_in_own_namespace(&self, capability: Capability) -> bool {
        self.own.has(capability)
    }
}
