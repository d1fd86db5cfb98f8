//! In whose namespaces a helper runs.
//!
//! The kernel calls its helper as root in the first namespaces, whoever asks. Ours runs in
//! the requester's, so that it finds the files and the network that the requester means;
//! but only where that lends the requester, who may have chosen what program stands there,
//! no right that it has not got: in a user namespace of the requester's own, which bounds
//! all rights, or where the requester has every right that we have. Otherwise it runs where
//! the domain's first program began, with our files in its `/proc`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::CloneFlags;

use crate::proc;
use crate::waits::Requester;

const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
];

/// The mount namespace in which a domain's first program began.
pub(crate) struct Home {
    namespace: OwnedFd,
    inode: u64,
}

impl Home {
    /// That of the calling thread.
    pub(crate) fn here() -> io::Result<Home> {
        let namespace = File::open("/proc/thread-self/ns/mnt")?;
        let inode = namespace.metadata()?.ino();
        Ok(Home { namespace: namespace.into(), inode })
    }
}

/// The namespaces of the requester's that its helper is to join, if it is to be there.
pub(super) fn of_requester(requester: &Requester, home: Option<&Home>) -> CloneFlags {
    let others = others(requester.pid, home);
    let is_bounded = others.contains(CloneFlags::CLONE_NEWUSER);
    if others.is_empty() || is_bounded || has_our_rights(requester.pid) {
        return others;
    }
    tracing::info!(pid = requester.pid, "a helper does not run in its requester's namespaces");
    CloneFlags::empty()
}

/// What to join at home, if that is another place.
pub(super) fn at_home(home: Option<&Home>) -> Option<(BorrowedFd<'_>, CloneFlags)> {
    let home = home.filter(|home| inode("self", "mnt") != Some(home.inode))?;
    Some((home.namespace.as_fd(), CloneFlags::CLONE_NEWNS))
}

fn inode(whose: &str, name: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{whose}/ns/{name}")).map(|file| file.ino()).ok()
}

/// Those that are neither ours nor those of the domain's first program.
fn others(pid: u32, home: Option<&Home>) -> CloneFlags {
    let at_home = home.map(|home| home.inode);
    let is_another = |name| match (inode(&pid.to_string(), name), inode("self", name)) {
        (Some(theirs), Some(ours)) => theirs != ours && !(name == "mnt" && Some(theirs) == at_home),
        // It has ended, or may not be looked at.
        _ => false,
    };
    let others = NAMESPACES.into_iter().filter(|(name, _)| is_another(name));
    others.fold(CloneFlags::empty(), |all, (_, flag)| all | flag)
}

fn has_our_rights(pid: u32) -> bool {
    let rights = |pid: u32| proc::status(pid, pid).map(|status| status.effective);
    match (rights(pid), rights(std::process::id())) {
        (Some(theirs), Some(ours)) => theirs & ours == ours,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn nothing_is_joined_for_a_process_beside_us() {
        let pid = std::process::id();
        let pidfd: OwnedFd = sys::pidfd_open(pid, 0).unwrap();
        let requester = Requester { pid, pidfd, is_trapped: false };
        assert_eq!(of_requester(&requester, None), CloneFlags::empty());
        let home = Home::here().unwrap();
        assert!(at_home(Some(&home)).is_none());
    }
}
