//! In whose namespaces a helper runs.
//!
//! The kernel calls its helper as root in the first namespaces, whoever asks. Ours runs in
//! the requester's, so that it finds the files and the network that the requester means;
//! but only where that lends the requester, who may have chosen what program stands there,
//! no right that it has not got: in a user namespace of the requester's own, which bounds
//! all rights, or where the requester has every right that we have.

use std::fs;
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

/// The namespaces of the requester's that its helper is to join.
pub(super) fn to_join(requester: &Requester) -> CloneFlags {
    let others = others(requester.pid);
    let is_bounded = others.contains(CloneFlags::CLONE_NEWUSER);
    if others.is_empty() || is_bounded || has_our_rights(requester.pid) {
        return others;
    }
    tracing::info!(pid = requester.pid, "a helper runs in our namespaces, not in its requester's");
    CloneFlags::empty()
}

/// Those that are not ours.
fn others(pid: u32) -> CloneFlags {
    let inode = |whose: &str, name: &str| {
        fs::metadata(format!("/proc/{whose}/ns/{name}")).map(|file| file.ino()).ok()
    };
    let is_another = |name| match (inode(&pid.to_string(), name), inode("self", name)) {
        (Some(theirs), Some(ours)) => theirs != ours,
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
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sys;

    #[test]
    fn nothing_is_joined_for_a_process_beside_us() {
        let pid = std::process::id();
        let pidfd: OwnedFd = sys::pidfd_open(pid, 0).unwrap();
        let requester = Requester { pid, pidfd, is_trapped: false };
        assert_eq!(to_join(&requester), CloneFlags::empty());
    }
}
