//! Where a user's sockets are: `$XDG_RUNTIME_DIR/keyshim`, else `/tmp/keyshim-UID`.
//! The directory is the user's alone; anything else found there is refused. The
//! preload library has the same rule for the default socket.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::{geteuid, getuid};

use crate::fault::Fault;

/// Bytes of a domain's name, so that its socket's path stays short.
const DOMAIN_NAME_LEN_MAX: usize = 32;

/// The name of a shared domain: part of a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainName(String);

impl FromStr for DomainName {
    type Err = String;

    fn from_str(text: &str) -> Result<DomainName, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=DOMAIN_NAME_LEN_MAX).contains(&text.len());
        match fits && text.chars().all(is_plain) {
            true => Ok(DomainName(text.to_owned())),
            false => Err(format!(
                "use 1 to {DOMAIN_NAME_LEN_MAX} letters, digits, dots, dashes and underscores"
            )),
        }
    }
}

impl std::fmt::Display for DomainName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the user's directory is to be; it need not exist.
pub(crate) fn user_directory() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR");
    match runtime.filter(|value| value.as_bytes().first() == Some(&b'/')) {
        Some(runtime) => Path::new(&runtime).join("keyshim"),
        None => fallback_directory(),
    }
}

/// Where it is without `XDG_RUNTIME_DIR`.
pub(crate) fn fallback_directory() -> PathBuf {
    PathBuf::from(format!("/tmp/keyshim-{}", getuid()))
}

/// The socket of the user's own broker.
pub(crate) fn default_socket() -> PathBuf {
    user_directory().join("default")
}

/// The socket of a shared domain.
pub(crate) fn domain_socket(name: &DomainName) -> PathBuf {
    user_directory().join(format!("domain-{name}"))
}

/// Makes a user's directory, or checks the one that is there.
pub(crate) fn make_user_directory(path: &Path) -> Result<(), Fault> {
    match make_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(path),
        made => made.map_err(Fault::file(
            "cannot make the directory",
            path,
            "set XDG_RUNTIME_DIR to a directory of your own",
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_name_cannot_leave_its_directory() {
        for bad in ["", "a/b", "a b", &"x".repeat(33), "\u{e9}"] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad}");
        }
        assert_eq!("build-1.2_x".parse::<DomainName>().unwrap().to_string(), "build-1.2_x");
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keyshim");
        make_user_directory(&path).unwrap();
        make_user_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_user_directory(&path).is_err());
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(make_user_directory(&link).is_err());
    }
}
