//! The bench is one program that starts itself several times more.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use keyshim_tests::world::actor::beside;

const VARIABLE: &str = "KEYSHIM_BENCH_ROLE";

/// What this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Builds what is measured and starts the next one under it.
    Outer,
    /// Measures, with the library preloaded.
    Measurer,
    /// Sends back what it is sent.
    Echo,
    /// Makes calls when it is told to.
    Caller,
}

impl Role {
    /// This process's.
    pub(crate) fn own() -> Result<Role> {
        let Some(role) = std::env::var_os(VARIABLE) else { return Ok(Role::Outer) };
        match role.to_str() {
            Some("measurer") => Ok(Role::Measurer),
            Some("echo") => Ok(Role::Echo),
            Some("caller") => Ok(Role::Caller),
            _ => bail!("{VARIABLE} is the bench's own variable: unset it"),
        }
    }

    /// Gives a program that is about to be started its role.
    pub(crate) fn give(self, command: &mut Command) {
        match self {
            Role::Outer => command.env_remove(VARIABLE),
            Role::Measurer => command.env(VARIABLE, "measurer"),
            Role::Echo => command.env(VARIABLE, "echo"),
            Role::Caller => command.env(VARIABLE, "caller"),
        };
    }
}

/// Runs this program again under `keyshim run`, with the same arguments; without a
/// filter, so that it also has a way to the kernel.
pub(crate) fn run_under_keyshim() -> Result<ExitCode> {
    build()?;
    let mut command = Command::new(beside("keyshim").context("run it by cargo bench")?);
    command
        .args(["run", "--mode", "preload", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    Role::Measurer.give(&mut command);
    let status = command.status().context("starting keyshim")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Command and library as users get them; a bench does not make cargo build them.
fn build() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--release", "--workspace", "--lib", "--bin", "keyshim"])
        .current_dir(root);
    if !cargo.status().context("starting cargo")?.success() {
        bail!("keyshim does not build: see above");
    }
    Ok(())
}
