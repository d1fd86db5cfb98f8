//! Who asks: one thread, by what the kernel says of it.
//!
//! A road (preload, supervisor, test) makes a [`Caller`] for each call from the
//! kernel's own word. Facts that few operations need (groups, capabilities) are
//! asked through [`Privileges`], so that a road may look them up only then.

use core::fmt;

/// A thread, as the shell around the core numbers it. Never used again for
/// another thread, unlike the kernel's thread ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A user id of the outermost user namespace that the domain serves (`kuid_t`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub u32);

/// A group id of that namespace (`kgid_t`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gid(pub u32);

impl Uid {
    /// Root, who has a quota of its own.
    pub const ROOT: Uid = Uid(0);
}

impl Gid {
    /// No group: what kernel-made keyrings carry (`INVALID_GID`).
    pub const INVALID: Gid = Gid(u32::MAX);
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.0)
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gid {}", self.0)
    }
}

/// The eight ids of a thread's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Real user: whose `@u` it is, and who owns new process keyrings.
    pub uid: Uid,
    /// Effective user.
    pub euid: Uid,
    /// Saved user.
    pub suid: Uid,
    /// File-system user: whom permissions are judged by.
    pub fsuid: Uid,
    /// Real group.
    pub gid: Gid,
    /// Effective group.
    pub egid: Gid,
    /// Saved group.
    pub sgid: Gid,
    /// File-system group.
    pub fsgid: Gid,
}

impl Ids {
    /// All four user ids and all four group ids the same.
    #[must_use]
    pub const fn all(uid: Uid, gid: Gid) -> Ids {
        Ids { uid, euid: uid, suid: uid, fsuid: uid, gid, egid: gid, sgid: gid, fsgid: gid }
    }
}

/// The capabilities that the key service asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_SYS_ADMIN` (21): chown and setperm of foreign keys.
    SysAdmin,
    /// `CAP_SETUID` (7): other users' persistent keyrings.
    SetUid,
}

/// Facts about a caller that are looked up only when a decision depends on them.
pub trait Privileges {
    /// True when the group is among the supplementary groups.
    fn in_group(&self, gid: Gid) -> bool;
    /// Tells every supplementary group: asked when the credentials must outlast the
    /// call, because the caller waits or a helper acts for it.
    fn each_group(&self, visit: &mut dyn FnMut(Gid));
    /// True when the capability is effective in the domain's outermost user
    /// namespace (`capable`).
    fn capable(&self, capability: Capability) -> bool;
    /// True when the capability is effective in the caller's own user namespace
    /// (`ns_capable`).
    fn capable_in_own_namespace(&self, capability: Capability) -> bool;
}

/// A caller without supplementary groups and capabilities.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged;

impl Privileges for Unprivileged {
    fn in_group(&self, _gid: Gid) -> bool {
        false
    }

    fn each_group(&self, _visit: &mut dyn FnMut(Gid)) {}

    fn capable(&self, _capability: Capability) -> bool {
        false
    }

    fn capable_in_own_namespace(&self, _capability: Capability) -> bool {
        false
    }
}

/// One run of ids: `count` ids from `inside` stand for those from `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRun {
    /// First id as the namespace sees it.
    pub inside: u32,
    /// First id as the outermost namespace sees it.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// `/proc/PID/uid_map` or `gid_map`: at most 340 runs (`user_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap<'a>(pub &'a [IdRun]);

const IDENTITY: &[IdRun] = &[IdRun { inside: 0, outside: 0, count: u32::MAX }];

impl IdMap<'static> {
    /// The map of the outermost namespace.
    pub const IDENTITY: IdMap<'static> = IdMap(IDENTITY);
}

impl IdMap<'_> {
    /// The outer id of an inner one; `None` where it is not mapped.
    #[must_use]
    pub fn outward(&self, inside: u32) -> Option<u32> {
        let run = self.0.iter().find(|run| inside.wrapping_sub(run.inside) < run.count)?;
        Some(run.outside.wrapping_add(inside.wrapping_sub(run.inside)))
    }

    /// The inner id of an outer one; `None` where it is not mapped.
    #[must_use]
    pub fn inward(&self, outside: u32) -> Option<u32> {
        let run = self.0.iter().find(|run| outside.wrapping_sub(run.outside) < run.count)?;
        Some(run.inside.wrapping_add(outside.wrapping_sub(run.outside)))
    }

    /// The inner id, or 65534 where there is none (`from_kuid_munged`).
    #[must_use]
    pub fn inward_or_overflow(&self, outside: u32) -> u32 {
        self.inward(outside).unwrap_or(OVERFLOW_ID)
    }
}

/// What an id that has no mapping reads as (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_ID: u32 = 65534;

/// A user namespace: user keyrings, the persistent register and the names of
/// session keyrings belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserNamespace<'a> {
    /// The shell's number for it; [`UserNamespace::OUTERMOST`] is 0.
    pub number: u64,
    /// Who made it, and so who owns its register of user keyrings.
    pub owner: Uid,
    /// Its user ids.
    pub uids: IdMap<'a>,
    /// Its group ids.
    pub gids: IdMap<'a>,
}

impl UserNamespace<'static> {
    /// The namespace that the domain's ids belong to.
    pub const OUTERMOST: UserNamespace<'static> =
        UserNamespace { number: 0, owner: Uid::ROOT, uids: IdMap::IDENTITY, gids: IdMap::IDENTITY };
}

/// Looks up a caller's user namespace, which costs more than many a call.
pub trait NamespaceLookup {
    /// The namespace, the same every time during one call.
    fn namespace(&self) -> UserNamespace<'_>;
}

/// The user namespace of a caller: known, or looked up when a call first needs it.
#[derive(Clone, Copy)]
pub enum NamespaceOf<'a> {
    /// This one.
    Known(UserNamespace<'a>),
    /// The one that is found by then.
    LookedUp(&'a dyn NamespaceLookup),
}

impl<'a> NamespaceOf<'a> {
    /// That of a caller in the outermost namespace.
    pub const OUTERMOST: NamespaceOf<'static> = NamespaceOf::Known(UserNamespace::OUTERMOST);

    fn get(&self) -> UserNamespace<'a> {
        match *self {
            NamespaceOf::Known(namespace) => namespace,
            NamespaceOf::LookedUp(lookup) => lookup.namespace(),
        }
    }
}

/// The caller's parent process, for SESSION_TO_PARENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its main thread.
    pub task: TaskId,
    /// Its credentials.
    pub ids: Ids,
    /// True when it is init, or a kernel thread, or has more than one thread:
    /// then the operation is refused with EPERM.
    pub unfit: bool,
}

/// The thread that makes a call.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Which thread; the core must have been told of it by a task event.
    pub task: TaskId,
    /// Its number in `/proc`, which a request of it shows in `/proc/keys`.
    pub tid: u32,
    /// Its ids now.
    pub ids: Ids,
    /// Its user namespace.
    pub namespace: NamespaceOf<'a>,
    /// Its parent, which only SESSION_TO_PARENT needs; `None` counts as unfit.
    pub parent: Option<Parent>,
    /// Its groups and capabilities.
    pub privileges: &'a dyn Privileges,
}

impl<'a> Caller<'a> {
    /// The user namespace that it is in.
    #[must_use]
    pub fn namespace(&self) -> UserNamespace<'a> {
        self.namespace.get()
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("task", &self.task).field("ids", &self.ids).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: &[IdRun] = &[
        IdRun { inside: 0, outside: 1000, count: 1 },
        IdRun { inside: 1, outside: 100_000, count: 65_536 },
    ];

    #[test]
    fn a_map_is_followed_both_ways() {
        let map = IdMap(RUNS);
        assert_eq!(map.outward(0), Some(1000));
        assert_eq!(map.outward(2), Some(100_001));
        assert_eq!(map.inward(100_001), Some(2));
        assert_eq!(map.inward(0), None);
        assert_eq!(map.outward(70_000), None);
        assert_eq!(map.inward_or_overflow(5), OVERFLOW_ID);
    }

    #[test]
    fn the_outermost_map_has_every_id_but_the_invalid_one() {
        assert_eq!(IdMap::IDENTITY.outward(u32::MAX - 1), Some(u32::MAX - 1));
        assert_eq!(IdMap::IDENTITY.outward(u32::MAX), None);
    }
}
