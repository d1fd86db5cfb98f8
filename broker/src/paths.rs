//! Where a user's sockets are: `$XDG_RUNTIME_DIR/keyshim`, else `/tmp/keyshim-UID`.
//! The directory is the user's alone; anything else found there is refused.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::fault::Fault;

/// Bytes of a socket's path with its NUL (`sun_path`).
const SOCKET_PATH_LEN_MAX: usize = 108;
/// Bytes kept free below the user's directory for the longest name that we use.
const NAME_LEN_MAX: usize = 48;

/// Where the user's directory is to be; it need not exist.
pub(crate) fn user_directory() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| is_usable(value));
    match runtime {
        Some(runtime) => Path::new(&runtime).join("keyshim"),
        None => PathBuf::from(format!("/tmp/keyshim-{}", geteuid())),
    }
}

/// An absolute directory, below which a socket's path still fits.
fn is_usable(runtime: &OsStr) -> bool {
    let is_short = runtime.len() + "/keyshim/".len() + NAME_LEN_MAX < SOCKET_PATH_LEN_MAX;
    runtime.as_bytes().first() == Some(&b'/') && is_short && Path::new(runtime).is_dir()
}

/// The socket of the user's own broker.
pub(crate) fn default_socket() -> PathBuf {
    user_directory().join("default")
}

/// Makes the user's directory, or checks the one that is there.
pub(crate) fn make_user_directory() -> Result<PathBuf, Fault> {
    let path = user_directory();
    match make_private(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(&path)?,
        made => made.map_err(Fault::file(
            "cannot make the directory",
            &path,
            "set XDG_RUNTIME_DIR to a directory of your own",
        ))?,
    }
    Ok(path)
}

/// Makes a directory that only its owner can enter.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Someone else may have made `/tmp/keyshim-UID` before us: then every socket in it
/// would be theirs.
fn check_private(path: &Path) -> Result<(), Fault> {
    let metadata = fs::symlink_metadata(path).map_err(Fault::file(
        "cannot look at",
        path,
        "set XDG_RUNTIME_DIR to a directory of your own",
    ))?;
    let is_private =
        metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if is_private {
        return Ok(());
    }
    Err(Fault::Told(format!(
        "{} is not a directory of yours alone (owner, mode 0700), so no socket in it can be \
         trusted; remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        path.display()
    )))
}
