//! The mounts: in the mount namespace that this thread is in, and nowhere else.
//!
//! The file system has one root with a branch for each place. The root is put over the
//! directory of the knobs, cuttings of its branches to their places, the directory of
//! the knobs last, which hides the root.
//!
//! Below the root, where no path leads, goes an untouched copy of `/proc`: the kernel
//! lets nobody mount a new procfs in a user namespace of theirs unless they have one
//! that nothing of importance is hidden in (`mnt_already_visible`), and programs that
//! make sandboxes want to. Without us they could, so with us they can.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::unistd::{getegid, geteuid};
use rustix::fs::{CWD, PROC_SUPER_MAGIC, statfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree,
};

use super::tree::{KEY_USERS, KEYS, KNOBS, SPARE};
use crate::fault::Fault;

/// The branches and their places, the one that hides the root last.
const PLACES: [(&str, &str); 3] =
    [(KEYS, "/proc/keys"), (KEY_USERS, "/proc/key-users"), (KNOBS, ROOT)];
const ROOT: &str = "/proc/sys/kernel/keys";

/// What may be mounted below `/proc` without hiding anything: these are empty before.
const EMPTY: [&str; 1] = ["/proc/sys/fs/binfmt_misc"];

/// True when nothing is mounted below the `/proc` of that process.
pub(super) fn is_bare(pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { return false };
    // The fifth field is where (`proc_pid_mountinfo(5)`).
    let mut places = text.lines().filter_map(|line| line.split(' ').nth(4));
    !places.any(|place| place.starts_with("/proc/") && !EMPTY.contains(&place))
}

/// True when files of ours are in the mount namespace of that process, of whichever
/// domain.
pub(super) fn has_files(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.contains(" - fuse.keyshim keyshim ")
}

/// Puts the files in place. `serve` gets the device, and must see to it that it is
/// answered from then on, by a thread outside of this namespace.
pub(super) fn put(
    device: OwnedFd,
    is_bare: bool,
    serve: impl FnOnce(OwnedFd) -> Result<(), Fault>,
) -> Result<(), Fault> {
    isolate()?;
    let root = plant(&device, "keyshim")?;
    serve(device)?;
    let place = || -> Result<(), Errno> {
        let untouched = is_bare.then(|| cutting(CWD, "/proc")).transpose()?;
        move_to(&root, CWD, ROOT)?;
        untouched.map_or(Ok(()), |copy| move_to(&copy, &root, SPARE))?;
        for (branch, place) in PLACES {
            move_to(&cutting(&root, branch)?, CWD, place)?;
        }
        Ok(())
    };
    place().map_err(cannot("cannot put files over those of /proc"))
}

/// Does what can be done without answering for the files.
pub(super) fn rehearse(device: &OwnedFd) -> Result<(), Fault> {
    isolate()?;
    plant(device, "keyshim").map(drop)
}

/// Makes sure of the places, and that no mount on them is seen elsewhere. What others
/// mount is still seen here, and the rest of the tree is left as it is: what a program
/// mounts goes where it would without us.
fn isolate() -> Result<(), Fault> {
    let is_procfs = statfs("/proc").is_ok_and(|facts| facts.f_type == PROC_SUPER_MAGIC);
    let missing = PLACES.iter().find(|(_, place)| !fs::exists(place).unwrap_or(false));
    if let (true, Some((_, place))) = (is_procfs, missing) {
        return Err(Fault::Told(format!(
            "there is no {place} to put a file over: this kernel has no keys; go without"
        )));
    }
    if !is_procfs {
        return Err(Fault::Told("/proc is no procfs; mount one".into()));
    }
    let alone = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/proc", alone).map_err(cannot("cannot separate /proc"))
}

/// Makes a file system whose type is `fuse` and that: its root, mounted nowhere yet.
pub(crate) fn plant(device: &OwnedFd, subtype: &str) -> Result<OwnedFd, Fault> {
    let make = || -> Result<OwnedFd, Errno> {
        let making = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| fsconfig_set_string(&making, key, value);
        set("source", "keyshim")?;
        set("subtype", subtype)?;
        set("fd", &device.as_raw_fd().to_string())?;
        set("rootmode", "40555")?;
        set("user_id", &geteuid().to_string())?;
        set("group_id", &getegid().to_string())?;
        // Who may do what is ours to say, as it is the kernel's with its own.
        fsconfig_set_flag(&making, "allow_other")?;
        fsconfig_create(&making)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&making, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().map_err(cannot("cannot make a FUSE file system"))
}

/// A mount of its own of what is there, mounted nowhere yet.
fn cutting(at: impl std::os::fd::AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_tree(at, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

fn move_to(mount: &OwnedFd, at: impl std::os::fd::AsFd, path: &str) -> Result<(), Errno> {
    move_mount(mount, "", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn cannot(what: &'static str) -> impl FnOnce(Errno) -> Fault {
    let next = "run it as root, or say --proc off; ask `keyshim doctor`";
    move |errno| Fault::System {
        what,
        errno: nix::errno::Errno::from_raw(errno.raw_os_error()),
        next,
    }
}
