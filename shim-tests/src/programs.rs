//! The programs of `programs/`, compiled, and run on the kernel and under keyshim.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As programs usually are.
    Dynamic,
    /// With everything that it needs inside.
    Static,
    /// The same for the 32-bit gate.
    Narrow,
    /// By Go's compiler, without the C library.
    Go,
}

impl Build {
    /// What the compiled program's name ends in.
    const fn suffix(self) -> &'static str {
        match self {
            Build::Dynamic => "",
            Build::Static => ".static",
            Build::Narrow => ".32",
            Build::Go => ".go",
        }
    }

    fn compiler(self, source: &Path, program: &Path) -> Command {
        let mut compiler = Command::new(if self == Build::Go { "go" } else { "cc" });
        if self == Build::Go {
            compiler.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOFLAGS", "");
            compiler.env("GOCACHE", program.with_extension("cache"));
            compiler.args(["build", "-o"]).arg(program).arg(source);
            return compiler;
        }
        compiler.args(["-O1", "-Wall", "-Werror", "-Wno-nonnull", "-pthread"]);
        compiler.args(match self {
            Build::Static => &["-static"][..],
            Build::Narrow => &["-static", "-m32"],
            _ => &[],
        });
        compiler.arg("-o").arg(program).arg(source).arg("-ldl");
        compiler
    }

    /// Why such programs cannot be made here, if they cannot: what to install.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        let has = |flag: &str, file: &str| {
            let name = format!("-print-file-name={file}");
            let output = Command::new("cc").args([flag, &name]).output();
            output.is_ok_and(|output| output.stdout.starts_with(b"/"))
        };
        let library = |flag: &str| has(flag, "libc.a") && has(flag, "libgcc.a");
        match self {
            Build::Dynamic => None,
            Build::Static if library("-m64") => None,
            Build::Static => Some("no static C library (package libc6-dev)"),
            Build::Narrow if library("-m32") => None,
            Build::Narrow => Some("no 32-bit C library (package gcc-multilib)"),
            Build::Go => match Command::new("go").arg("version").output() {
                Ok(output) if output.status.success() => None,
                _ => Some("no go (package golang-go)"),
            },
        }
    }
}

/// Folder of the compiled programs, below `target/`.
fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("this test is not below target/")?;
    let folder = target.join("tmp/programs");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Compiles a program, unless that was done since it was changed.
pub fn compile(name: &str, build: Build) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let file = format!("{name}{}", build.suffix());
    let program = folder()?.join(&file);
    let extension = if build == Build::Go { "go" } else { "c" };
    let source = sources.join(name).with_extension(extension);
    let changed = |path: &Path| path.metadata().and_then(|facts| facts.modified());
    let newest = changed(&source)?.max(changed(&sources.join("common.h"))?);
    if changed(&program).is_ok_and(|built| built > newest) {
        return Ok(program);
    }
    // Under another name first: another test process may be about to run it.
    let fresh = folder()?.join(format!("{file}.{}", std::process::id()));
    let mut compiler = build.compiler(&source, &fresh);
    let output = compiler.stdin(Stdio::null()).output();
    let output = output.context("there is no compiler; install gcc")?;
    if !output.status.success() {
        bail!("{} does not compile:\n{}", source.display(), told(&output));
    }
    std::fs::rename(&fresh, &program)?;
    Ok(program)
}

/// What a program printed and how it ended, in one text.
pub fn told(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !output.stderr.is_empty() {
        text += &format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    text
}

/// Runs a command to its end, which must come in time.
pub fn run(command: &mut Command) -> Result<Output> {
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

/// Why only root can run that program, on the kernel or under keyshim.
pub fn why_root(program: &str) -> Option<&'static str> {
    match program {
        "elsewhere" | "lastchance" => Some("it changes its root directory"),
        // The kernel gives quota back some time after a key has gone.
        "signals" | "threads" | "urgent" => {
            Some("it makes more keys than an ordinary user may have")
        }
        _ => None,
    }
}

/// A command without anything of keyshim in its environment.
pub fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("KEYSHIM_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("LD_PRELOAD");
    command
}
