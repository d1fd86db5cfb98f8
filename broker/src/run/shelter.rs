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
/// Prefix while it is being made and not locked yet, lest others take it for abandoned.
const PREFIX_UNLOCKED: &str = "new-";
/// How long the making of one can take.
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
    let unlocked = parent.join(format!("{PREFIX_UNLOCKED}{random}"));
    let make = || {
        paths::make_private(&unlocked)?;
        let lock = File::create(unlocked.join(LOCK))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        fs::rename(&unlocked, &path).map(|()| lock)
    };
    let made = make().inspect_err(|_| remove_directory(&unlocked));
    let lock = made.map_err(Fault::file("cannot make", &path, next))?;
    Ok(Directory { path, _lock: lock })
}

/// A path that no socket can have is no use.
fn check_length(directory: &Path) -> Result<(), Fault> {
    let checked = nix::sys::socket::UnixAddr::new(&directory.join(DOOR)).map(drop);
    checked.map_err(Fault::system("cannot make a socket", "set XDG_RUNTIME_DIR to a shorter path"))
}

/// Removes what runs have left that are no more.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let has = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
        if has(PREFIX) && is_unlocked(&path) || has(PREFIX_UNLOCKED) && is_old(&path) {
            remove_directory(&path);
        }
    }
}

/// Also true of one that has gone, or has no lock: it had one before it got its name.
fn is_unlocked(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok(),
        Err(_) => true,
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > UNLOCKED_AGE_MAX)
}

fn remove_directory(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::info!(path = %path.display(), %error, "left behind");
    }
}
