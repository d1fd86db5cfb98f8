//! In whose namespaces a helper runs.
//!
//! The kernel calls its helper as root in the first namespaces, whoever asks. Ours runs in
//! the requester's, so that it finds the files and the network that the requester means;
//! but only where that lends the requester, who may have chosen what program stands there,
//! no right that it has not got: in a user namespace of the requester's own, which bounds
//! all rights, or where the requester has every right that we have. Otherwise it runs where
//! the domain's first program began, with our files in its `/proc`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, fstatat};
use once_cell::sync::Lazy;

use crate::proc;
use crate::procfiles::Stage;
use crate::server::Server;
use crate::waits::Requester;

/// That of mounts among the others.
const MOUNTS: usize = 1;

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

    /// True if it is not where we are ourselves.
    pub(super) fn is_apart(&self) -> bool {
        OURS[MOUNTS] != Some(self.inode)
    }
}

/// A mount namespace of its own with the files of a domain in its `/proc`.
pub(super) fn furnish(server: &Arc<Server>) -> Option<Home> {
    let stage = Stage::of_server(server);
    match stage.start(Home::here) {
        Ok(home) => home.ok(),
        Err(fault) => {
            tracing::info!("helpers find the real kernel's files in /proc: {fault}");
            None
        }
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
    let home = home.filter(|home| home.is_apart())?;
    Some((home.namespace.as_fd(), CloneFlags::CLONE_NEWNS))
}

/// What namespaces a process is in, in the order of [`NAMESPACES`]; none of one that has
/// ended, or may not be looked at.
fn inodes(whose: &str) -> [Option<u64>; NAMESPACES.len()] {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(all) = open(format!("/proc/{whose}/ns").as_str(), flags, Mode::empty()) else {
        return Default::default();
    };
    let inode = |name: &str| fstatat(&all, name, AtFlags::empty()).map(|file| file.st_ino).ok();
    NAMESPACES.map(|(name, _)| inode(name))
}

/// Those of our first thread, which goes nowhere else; others of ours may.
static OURS: Lazy<[Option<u64>; NAMESPACES.len()]> = Lazy::new(|| inodes("self"));

/// Those that are neither ours nor those of the domain's first program.
fn others(pid: u32, home: Option<&Home>) -> CloneFlags {
    let at_home = home.map(|home| home.inode);
    let is_another = |(theirs, ours): (Option<u64>, Option<u64>), flag| {
        let both = theirs.zip(ours);
        let is_home = flag == CloneFlags::CLONE_NEWNS && theirs == at_home;
        both.is_some_and(|(theirs, ours)| theirs != ours && !is_home)
    };
    let pairs = inodes(&pid.to_string()).into_iter().zip(*OURS);
    let others = pairs.zip(NAMESPACES).filter(|&(pair, (_, flag))| is_another(pair, flag));
    others.fold(CloneFlags::empty(), |all, (_, (_, flag))| all | flag)
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
