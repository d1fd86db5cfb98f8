//! The mount point: made, found again, taken away.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};

use crate::fault::Fault;
use crate::procfiles;

/// What the kernel adds to the name of its file system type for ours.
const SUBTYPE: &str = "keyfs";

/// A file system that is mounted nowhere yet.
pub(super) struct Made {
    device: OwnedFd,
    root: OwnedFd,
}

impl Made {
    /// Makes one for everybody: who may do what is the domain's to say.
    pub(super) fn new(directory: &Path) -> Result<Made, Fault> {
        if !directory.is_dir() {
            return Err(Fault::Told(format!("{} is no directory; make it", directory.display())));
        }
        if !procfiles::may_mount() {
            let told = "cannot mount: no CAP_SYS_ADMIN; run it as root";
            return Err(Fault::Told(told.into()));
        }
        let device = procfiles::open_device()?;
        let root = procfiles::mount::plant(&device, SUBTYPE)?;
        Ok(Made { device, root })
    }

    /// The device, for whoever answers.
    pub(super) fn device(&self) -> &OwnedFd {
        &self.device
    }

    /// Puts it in its place: the number of the mount.
    pub(super) fn put(self, directory: &Path) -> Result<u64, Fault> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&self.root, "", CWD, directory, flags).map_err(|errno| Fault::System {
            what: "cannot mount",
            errno: nix::errno::Errno::from_raw(errno.raw_os_error()),
            next: "run it as root, on a directory",
        })?;
        let id = number_of(&self.root).or_else(|| last_on(directory));
        id.ok_or_else(|| Fault::Told("it was unmounted at once; try again".into()))
    }
}

/// The number of the mount that a descriptor lies in.
fn number_of(root: &OwnedFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", root.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The number of our mount that covers that directory, if one does.
fn last_on(directory: &Path) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (id, is_ours) = text.lines().filter_map(|line| parse(line, directory)).next_back()?;
    is_ours.then_some(id)
}

/// Number of a mount on that directory, and whether it is ours (`proc_pid_mountinfo(5)`).
fn parse(line: &str, directory: &Path) -> Option<(u64, bool)> {
    let (facts, source) = line.split_once(" - ")?;
    let mut facts = facts.split(' ');
    let id = facts.next()?.parse().ok()?;
    let place = facts.nth(3)?;
    let is_ours = source.starts_with("fuse.") && source.split(' ').next() == Some("fuse.keyfs");
    (place.as_bytes() == escaped(directory)).then_some((id, is_ours))
}

/// A path as mountinfo writes it.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(byte),
        }
    }
    text
}

/// Unmounts that mount of ours, if it still covers its directory.
pub(super) fn remove(directory: &Path, id: u64) {
    if last_on(directory) != Some(id) {
        return;
    }
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    if let Err(errno) = umount2(directory, flags) {
        tracing::warn!(directory = %directory.display(), %errno, "not unmounted");
    }
}

/// Removes a mount of ours that nobody answers for any more.
pub(super) fn clear_dead(directory: &Path) -> Result<(), Fault> {
    let is_dead =
        fs::metadata(directory).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN));
    if !is_dead {
        return Ok(());
    }
    let next = "unmount it";
    let absolute =
        std::path::absolute(directory).map_err(Fault::file("cannot mount on", directory, next))?;
    match last_on(&absolute) {
        Some(id) => {
            remove(&absolute, id);
            Ok(())
        }
        None => Err(Fault::Told(format!("{} is a dead mount; {next}", directory.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "36 35 0:47 / /a\\040b rw,nosuid - fuse.keyfs keyshim rw,user_id=0";

    #[test]
    fn a_mount_is_found_by_its_place() {
        assert_eq!(parse(LINE, Path::new("/a b")), Some((36, true)));
        assert_eq!(parse(LINE, Path::new("/a")), None);
        let other = LINE.replace("fuse.keyfs", "tmpfs");
        assert_eq!(parse(&other, Path::new("/a b")), Some((36, false)));
    }
}
