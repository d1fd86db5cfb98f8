//! Where `libkeyshim.so` is, and how a program is made to load it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// File name of the library.
const NAME: &str = "libkeyshim.so";
/// Names the library, wherever it is.
pub(crate) const VARIABLE: &str = "KEYSHIM_LIBRARY";
/// What the dynamic linker reads.
pub(crate) const PRELOAD: &str = "LD_PRELOAD";

/// The library's absolute path.
#[derive(Debug, Clone)]
pub(crate) struct Library(pub(crate) PathBuf);

/// Finds the library: `KEYSHIM_LIBRARY`, else beside this executable, else in
/// `../lib/keyshim/` or `../lib/` from there.
pub(crate) fn find() -> Result<Library, Fault> {
    let path = match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => named(Path::new(&path))?,
        None => beside_us()?,
    };
    if path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        return Err(Fault::Told(format!(
            "{} holds a space or a colon, which the dynamic linker takes for the end of a name; \
             move the library, or name it by {VARIABLE}",
            path.display()
        )));
    }
    Ok(Library(path))
}

fn named(path: &Path) -> Result<PathBuf, Fault> {
    let next = "set KEYSHIM_LIBRARY to the library, or unset it";
    let path = path.canonicalize().map_err(Fault::file("cannot use the library", path, next))?;
    if path.is_file() { Ok(path) } else { Err(not_found(&[path])) }
}

fn beside_us() -> Result<PathBuf, Fault> {
    let next = "set KEYSHIM_LIBRARY to the library";
    let executable = std::env::current_exe().map_err(Fault::file(
        "cannot find ourselves by",
        "/proc/self/exe",
        next,
    ))?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let places =
        ["", "../lib/keyshim", "../lib"].map(|relative| directory.join(relative).join(NAME));
    let found = places.iter().find(|place| place.is_file());
    let found = found.and_then(|place| place.canonicalize().ok());
    found.ok_or_else(|| not_found(&places))
}

fn not_found(places: &[PathBuf]) -> Fault {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Fault::Told(format!(
        "{NAME} is not in {}; build it (`cargo build --release`) or name it by {VARIABLE}",
        places.join(", ")
    ))
}

impl Library {
    /// The value of `LD_PRELOAD`: ours first, then what was there.
    pub(crate) fn preload(&self, before: Option<&OsStr>) -> OsString {
        let mut value = self.0.clone().into_os_string();
        if let Some(before) = before.filter(|before| !before.is_empty()) {
            value.push(":");
            value.push(before);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_before_what_was_there() {
        let library = Library(PathBuf::from("/lib/libkeyshim.so"));
        assert_eq!(library.preload(None), "/lib/libkeyshim.so");
        assert_eq!(library.preload(Some(OsStr::new(""))), "/lib/libkeyshim.so");
        assert_eq!(library.preload(Some(OsStr::new("a.so b.so"))), "/lib/libkeyshim.so:a.so b.so");
    }
}
