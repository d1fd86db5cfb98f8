//! The C programs of `programs/`, compiled, and run on the kernel and under keyshim.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use once_cell::sync::OnceCell;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Folder of the compiled programs.
fn folder() -> Result<&'static Path> {
    static FOLDER: OnceCell<PathBuf> = OnceCell::new();
    let folder = FOLDER.get_or_try_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        std::fs::create_dir_all(&folder).map(|()| folder)
    });
    Ok(folder?)
}

/// Compiles a program, unless that was done since it was changed.
pub(crate) fn compile(name: &str) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let program = folder()?.join(name);
    let source = sources.join(name).with_extension("c");
    let changed = |path: &Path| path.metadata().and_then(|facts| facts.modified());
    let newest = changed(&source)?.max(changed(&sources.join("common.h"))?);
    if changed(&program).is_ok_and(|built| built > newest) {
        return Ok(program);
    }
    // Under another name first: another test may be about to run it.
    let fresh = folder()?.join(format!("{name}.{}", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Werror", "-Wno-nonnull", "-pthread", "-o"]);
    compiler.arg(&fresh).arg(&source).arg("-ldl");
    let status = compiler.status().context("there is no cc; install a C compiler")?;
    if !status.success() {
        bail!("{} does not compile", source.display());
    }
    std::fs::rename(&fresh, &program)?;
    Ok(program)
}

/// What a program printed and how it ended, in one text.
pub(crate) fn told(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !output.stderr.is_empty() {
        text += &format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    text
}

/// Runs a command to its end, which must come in time.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let began = Instant::now();
    // What the programs print fits into a pipe, so that nobody need read meanwhile.
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            bail!("{command:?} hangs:\n{}", told(&child.wait_with_output()?));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

/// A command without anything of keyshim in its environment.
pub(crate) fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("KEYSHIM_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("LD_PRELOAD");
    command
}
