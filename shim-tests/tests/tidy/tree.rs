//! The files of the workspace, as git keeps them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One file that is, or is about to be, in the repository.
pub(crate) struct File {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
}

impl File {
    /// True for what people write as code: Rust, C, shell, Python.
    pub(crate) fn is_code(&self) -> bool {
        let ending = Path::new(&self.path).extension().and_then(|ending| ending.to_str());
        match ending {
            Some(ending) => ["rs", "c", "h", "sh", "py"].contains(&ending),
            None => self.path.starts_with(".dev/") || self.path.starts_with(".ci/"),
        }
    }

    pub(crate) fn text(&self) -> String {
        read(&self.path)
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a file; empty when it is no text.
#[track_caller]
pub(crate) fn read(path: &str) -> String {
    match std::fs::read(root().join(path)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Every file but the ignored ones; git tells, so that a rule sees new files before
/// they are committed.
pub(crate) fn files() -> Vec<File> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let paths = String::from_utf8(output.stdout).expect("paths are text");
    let found: Vec<File> = paths
        .lines()
        .filter(|path| root().join(path).is_file())
        .map(|path| File { path: path.to_owned() })
        .collect();
    assert!(found.len() > 20, "git lists only {} files: run this in a clone", found.len());
    found
}

/// The names under `[dependencies]` of a manifest.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') {
                names.push(name.to_owned());
            }
        }
    }
    names
}
