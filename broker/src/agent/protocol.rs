//! What a runtime says when it hands over a container's listener: one JSON object, the
//! *container process state* of the runtime specification (`config-linux.md`), with
//! descriptors beside it.
//!
//! It may come in pieces, the descriptors with the first. Runtimes are supposed to
//! close the connection behind it, and do not (`crun run` and `runc run` keep it for
//! as long as they wait for the container), so the end of the object is the end.

use std::os::fd::OwnedFd;

use serde::Deserialize;
use thiserror::Error;

/// Bytes of one state. Kubernetes allows 256 KiB of annotations, which are in it.
pub(crate) const STATE_LEN_MAX: usize = 1024 * 1024;
/// Bytes of a container's id, and of the metadata that names a shared domain.
const NAME_LEN_MAX: usize = 1024;
/// The name of the descriptor that we want (`specs.SeccompFdName`).
const SECCOMP_FD: &str = "seccompFd";

/// Why a connection ends without a container. The runtime is told nothing: the
/// protocol has no answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// Closed before it began: a runtime that connected early and then failed.
    #[error("nothing was said")]
    Silent,
    /// Closed in between.
    #[error("it ends in the middle")]
    Half,
    /// Not complete in time.
    #[error("it takes too long")]
    Slow,
    /// Cut off to make room for others.
    #[error("too many others wait")]
    Crowded,
    /// More bytes than a state may have.
    #[error("it is too long")]
    TooLong,
    /// Not one JSON object.
    #[error("it is no JSON object")]
    NotAnObject,
    /// An object without what a state must have.
    #[error("it is no container process state")]
    NotAState,
    /// An id or metadata that cannot name a domain.
    #[error("the name is empty or too long")]
    BadName,
    /// As many descriptors came as were not named.
    #[error("not as many descriptors as it names")]
    Miscounted,
    /// None of the descriptors is called `seccompFd`, or several are.
    #[error("no descriptor, or more than one, is called seccompFd")]
    Unnamed,
    /// It is called so, and is none.
    #[error("seccompFd is no listener of seccomp")]
    NotAListener,
}

/// Finds the end of a JSON object that comes in pieces, looking at each byte once.
/// Whether it is JSON is not its business.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Extent {
    /// Looks at the next piece. If the object ends in it: how many of its bytes are
    /// the object's.
    pub(crate) fn end_in(&mut self, piece: &[u8]) -> Result<Option<usize>, Refusal> {
        for (at, &byte) in piece.iter().enumerate() {
            if self.is_in_string {
                let was_escaped = std::mem::take(&mut self.is_escaped);
                self.is_escaped = byte == b'\\' && !was_escaped;
                self.is_in_string = byte != b'"' || was_escaped;
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                _ if self.depth == 0 && byte != b'{' => return Err(Refusal::NotAnObject),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                b'"' => self.is_in_string = true,
                _ => continue,
            }
            if self.depth == 0 {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }
}

/// The parts of a state that matter here. Everything else may be as it likes.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    fds: Vec<String>,
    pid: i64,
    metadata: Option<String>,
    state: Container,
}

#[derive(Debug, Deserialize)]
struct Container {
    id: String,
}

/// A container, as its runtime introduces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// Its id.
    pub(crate) container: String,
    /// What names the domain that it shares with others, if it does.
    pub(crate) shared: Option<String>,
    /// Its process, in the runtime's pid namespace; 0 for a number that is none.
    pub(crate) pid: u32,
    /// Which of the descriptors is the listener.
    pub(crate) listener_at: usize,
}

/// Reads a whole state that came with that many descriptors.
pub(crate) fn read(text: &[u8], descriptor_count: usize) -> Result<Introduction, Refusal> {
    let state: State = serde_json::from_slice(text).map_err(|error| match error.is_data() {
        true => Refusal::NotAState,
        false => Refusal::NotAnObject,
    })?;
    if state.fds.len() != descriptor_count {
        return Err(Refusal::Miscounted);
    }
    let mut named = state.fds.iter().enumerate().filter(|(_, name)| *name == SECCOMP_FD);
    let (Some((listener_at, _)), None) = (named.next(), named.next()) else {
        return Err(Refusal::Unnamed);
    };
    let shared = state.metadata.filter(|metadata| !metadata.is_empty());
    let is_name = |name: &String| (1..=NAME_LEN_MAX).contains(&name.len());
    if !is_name(&state.state.id) || shared.as_ref().is_some_and(|shared| !is_name(shared)) {
        return Err(Refusal::BadName);
    }
    let pid = u32::try_from(state.pid).unwrap_or(0);
    Ok(Introduction { container: state.state.id, shared, pid, listener_at })
}

/// Whether a descriptor is a filter's listener, by the name that the kernel gives it.
/// It may be anything, so it is not asked itself: a file of somebody's own file system
/// could keep us waiting.
pub(crate) fn is_listener(fd: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    // A path would begin with a slash: no file can be called so.
    link.is_ok_and(|name| name.as_os_str() == "anon_inode:seccomp notify")
}

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;
