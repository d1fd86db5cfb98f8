//! A program of ours in the place of `/sbin/request-key`, for as long as its tests run.
//!
//! A process of its own puts it there and takes it away again, when the test process
//! closes a pipe or ends in whatever way. Should it be killed itself, the next one knows
//! what was left behind by a mark in it. Meanwhile a request that no test has made still
//! reaches the real program.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};

/// What the kernel starts.
pub const PROGRAM: &str = "/sbin/request-key";
/// Where the real program waits.
const SAVED: &str = "/sbin/request-key.keyshim-saved";
/// Held by the one who has put a program there.
const LOCK: &str = "/run/lock/keyshim-request-key";
/// Test processes wait for helpers at sockets of such names, with their ids in between.
const SOCKETS: &str = "/run/keyshim-tests-";
const SUFFIX: &str = ".socket";
/// Stands in ours and in no other.
const MARK: &str = "# keyshim-tests: stands in for the real program while its tests run";
/// What the keeper says when ours is in place.
pub const READY: &str = "ready\n";

/// Keeps ours in place until standard input ends.
pub fn keep(socket: &str, actor: &str) -> Result<()> {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    let file = std::fs::File::create(LOCK).context(LOCK)?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    restore()?;
    remove_forgotten_sockets()?;
    install(socket, actor)?;
    let mut out = std::io::stdout();
    // One who has gone meanwhile is not there to be told, and has ended our input too.
    let _ = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
    let waited = std::io::stdin().read_to_end(&mut Vec::new());
    restore()?;
    let _ = std::fs::remove_file(socket);
    waited.map(drop).map_err(Into::into)
}

/// The socket of a test process.
#[must_use]
pub fn socket_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("{SOCKETS}{pid}{SUFFIX}"))
}

/// Those of test processes that have been killed together with their keepers.
fn remove_forgotten_sockets() -> Result<()> {
    for entry in std::fs::read_dir("/run")?.flatten() {
        let path = entry.path();
        let name = path.to_string_lossy();
        let pid = name.strip_prefix(SOCKETS).and_then(|rest| rest.strip_suffix(SUFFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}

fn install(socket: &str, actor: &str) -> Result<()> {
    let text = format!(
        "#!/bin/sh\n{MARK}\n\
         [ -S '{socket}' ] && exec '{actor}' helper '{socket}' '{SAVED}' \"$@\"\n\
         [ -x '{SAVED}' ] && exec '{SAVED}' \"$@\"\nexit 1\n"
    );
    let new = format!("{PROGRAM}.keyshim-new");
    std::fs::write(&new, text).with_context(|| new.clone())?;
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    if Path::new(PROGRAM).exists() {
        std::fs::hard_link(PROGRAM, SAVED).context(SAVED)?;
    }
    std::fs::rename(&new, PROGRAM).context(PROGRAM)
}

/// Puts the real program back, if ours is in its place.
fn restore() -> Result<()> {
    let text = std::fs::read(PROGRAM).unwrap_or_default();
    let is_ours = String::from_utf8_lossy(&text).contains(MARK);
    match (is_ours, Path::new(SAVED).exists()) {
        (true, true) => std::fs::rename(SAVED, PROGRAM).context(PROGRAM),
        (true, false) => std::fs::remove_file(PROGRAM).context(PROGRAM),
        // Left by one that was killed between its two steps.
        (false, true) if Path::new(PROGRAM).exists() => std::fs::remove_file(SAVED).context(SAVED),
        (false, true) => bail!("{PROGRAM} is gone: {SAVED} is the real one"),
        (false, false) => Ok(()),
    }
}
