//! The doors of one run: an abstract name, and a socket in a directory of its own
//! for programs that leave our network namespace.
//!
//! A lock on a file in the directory says that its run lives. A run that was
//! killed leaves the directory; a later one finds the lock free and removes it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::address::Address;
use crate::fault::Fault;
use crate::{host, paths};

/// Prefix of a run's directory.
const PREFIX: &str = "run-";
const LOCK: &str = "lock";
const DOOR: &str = "door";
/// A directory without a lock may be one that is being made.
const UNLOCKED_AGE_MAX: Duration = Duration::from_secs(60);

/// The doors of one run.
pub(crate) struct Shelter {
    name: Address,
    directory: Option<Directory>,
}

struct Directory {
    path: PathBuf,
    /// Locked for as long as the run lives.
    _lock: Flock<File>,
}

impl Shelter {
    /// Chooses the addresses. A run without a directory still has its abstract name.
    pub(crate) fn open() -> Shelter {
        let random = host::random_name();
        let directory = open_directory(&random, &paths::user_directory())
            .or_else(|_| open_directory(&random, &paths::fallback_directory()));
        let directory = directory
            .inspect_err(|fault| tracing::info!("no socket but the abstract one: {fault}"))
            .ok();
        Shelter { name: Address::Abstract(format!("keyshim-{random}").into_bytes()), directory }
    }

    /// The addresses, in the order in which to try.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let in_directory = self.directory.iter().map(|d| Address::Path(d.path.join(DOOR)));
        std::iter::once(self.name.clone()).chain(in_directory).collect()
    }

    /// Binds every address.
    pub(crate) fn bind(&self) -> Result<Vec<OwnedFd>, Fault> {
        let next = "run `keyshim doctor`";
        let bound = self.addresses().into_iter().map(|address| address.bind());
        bound.collect::<Result<_, _>>().map_err(Fault::system("cannot make a socket", next))
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(self) {
        if let Some(directory) = self.directory {
            remove_directory(&directory.path);
        }
    }
}

fn open_directory(random: &str, parent: &Path) -> Result<Directory, Fault> {
    paths::make_user_directory(parent)?;
    remove_abandoned(parent);
    let path = parent.join(format!("{PREFIX}{random}"));
    check_length(&path)?;
    let next = "make room there, or set XDG_RUNTIME_DIR";
    paths::make_private(&path).map_err(Fault::file("cannot make", &path, next))?;
    let lock = File::create(path.join(LOCK)).map_err(Fault::file("cannot make", &path, next))?;
    match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Directory { path, _lock: lock }),
        Err((_, errno)) => Err(Fault::system("cannot lock the directory of this run", next)(errno)),
    }
}

/// A path that no socket can have is no use.
fn check_length(directory: &Path) -> Result<(), Fault> {
    let checked = nix::sys::socket::UnixAddr::new(&directory.join(DOOR)).map(drop);
    checked.map_err(Fault::system("cannot make a socket", "set XDG_RUNTIME_DIR to a shorter path"))
}

/// Removes what runs have left that are no more.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_run = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_run && is_abandoned(&entry.path()) {
            remove_directory(&entry.path());
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok(),
        Err(_) => {
            let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            age.is_some_and(|age| age > UNLOCKED_AGE_MAX)
        }
    }
}

fn remove_directory(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::info!(path = %path.display(), %error, "left behind");
    }
}
