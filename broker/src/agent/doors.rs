//! The directory in which each domain has a door for those who look, as long as it
//! lives.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::name::Name;
use crate::address::Address;
use crate::fault::Fault;
use crate::paths;

/// The directory.
pub(crate) struct Doors {
    path: PathBuf,
}

/// A door's file, removed with the value.
pub(crate) struct DoorFile {
    path: PathBuf,
}

impl Drop for DoorFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        // Somebody else's files may be in it: then it stays.
        let _ = fs::remove_dir(&self.path);
    }
}

impl Doors {
    /// Makes the directory, or takes the one that is there, without the doors that a
    /// killed agent left in it.
    pub(crate) fn open(path: &Path) -> Result<Doors, Fault> {
        let next = "choose another --domains";
        match paths::make_private(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(path)?,
            made => made.map_err(Fault::file("cannot make the directory", path, next))?,
        }
        let entries = fs::read_dir(path).map_err(Fault::file("cannot read", path, next))?;
        for entry in entries.flatten() {
            clear_stale(&entry.path());
        }
        Ok(Doors { path: path.to_owned() })
    }

    /// A door of that name. None where there cannot be one, which the log says: the
    /// domain works without.
    pub(crate) fn make(&self, name: &Name) -> Option<(OwnedFd, DoorFile)> {
        let path = self.path.join(name.file_name());
        let door = match Address::Path(path.clone()).bind() {
            Ok(door) => door,
            Err(errno) => {
                tracing::warn!(%name, %errno, "no door to look into this domain");
                return None;
            }
        };
        let file = DoorFile { path };
        // The directory is private already, unless somebody made it otherwise.
        match fs::set_permissions(&file.path, Permissions::from_mode(0o600)) {
            Ok(()) => Some((door, file)),
            Err(error) => {
                tracing::warn!(%name, %error, "no door to look into this domain");
                None
            }
        }
    }
}

/// In a directory that others may write to, a door could be theirs.
fn check(path: &Path) -> Result<(), Fault> {
    let next = "choose another --domains";
    let metadata = fs::symlink_metadata(path).map_err(Fault::file("cannot look at", path, next))?;
    let is_ours = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if metadata.is_dir() && is_ours {
        return Ok(());
    }
    Err(Fault::Told(format!(
        "{} is not a directory that only you can write to; {next}",
        path.display()
    )))
}

fn clear_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    let is_left = || Address::Path(path.to_owned()).connect().err() == Some(Errno::ECONNREFUSED);
    if is_socket && is_left() {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::Introduction;

    fn name(id: &str) -> Name {
        let introduction =
            Introduction { container: id.into(), shared: None, pid: 0, listener_at: 0 };
        Name::of(&introduction, geteuid().as_raw())
    }

    #[test]
    fn a_door_is_there_while_its_domain_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        let doors = Doors::open(&path).unwrap();
        let (_door, file) = doors.make(&name("one")).unwrap();
        assert!(Address::Path(path.join("one")).connect().is_ok());
        assert!(doors.make(&name("one")).is_none(), "it is taken");
        assert!(doors.make(&name(&"x".repeat(300))).is_none(), "too long");
        drop(file);
        drop(doors);
        assert!(!path.exists());
    }

    #[test]
    fn only_what_a_killed_agent_left_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(Address::Path(path.join("stale")).bind().unwrap());
        let _live = Address::Path(path.join("live")).bind().unwrap();
        fs::write(path.join("file"), "mine").unwrap();
        drop(Doors::open(&path).unwrap());
        let mut left: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "live"]);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(Doors::open(&path).is_err());
    }
}
