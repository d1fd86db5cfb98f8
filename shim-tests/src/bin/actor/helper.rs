//! An actor that the kernel has started in the place of `/sbin/request-key`.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use keyshim_tests::wire::{self, HelperHello};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Seconds after which a helper ends that nobody has ended: its requester cannot.
const LIFE_S: u32 = 300;

/// The line to the history that this helper belongs to; none when it belongs to no test.
pub(crate) fn line(socket: &str, arguments: &[&str]) -> Result<Option<RawFd>> {
    nix::unistd::alarm::set(LIFE_S);
    let Ok(mut socket) = UnixStream::connect(socket) else { return Ok(None) };
    let key: i32 = arguments.get(1).context("no key among the arguments")?.parse()?;
    let process = arguments.get(5).and_then(|ring| ring.parse().ok()).unwrap_or_default();
    let keys = std::fs::read_to_string("/proc/keys")?;
    let requester = requester(&keys, key).or_else(|| leader(&keys, process));
    let requester = requester.context("nobody has requested it")?;
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    wire::send(&mut socket, &HelperHello { requester, arguments })?;
    let Some([line, null]) = receive(&socket)? else { return Ok(None) };
    // What the runtime has opened there would hold the keyrings of the beginning.
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(Some(line.into_raw_fd()))
}

/// The thread that the authorisation key says requested a key.
fn requester(keys: &str, key: i32) -> Option<i64> {
    let mark = format!(" key:{key:x} pid:");
    let rest = keys.lines().find_map(|line| line.split_once(&mark))?.1;
    rest.split(' ').next()?.parse().ok()
}

/// The main thread of the process after which a process keyring is named, in old kernels,
/// which have no authorisation keys.
fn leader(keys: &str, ring: i32) -> Option<i64> {
    let mark = format!("{ring:08x} ");
    let line = keys.lines().find(|line| line.starts_with(&mark))?;
    line.split_once(" _pid.")?.1.split(':').next()?.parse().ok()
}

/// The descriptors that come with the word that this helper is expected.
fn receive(socket: &UnixStream) -> Result<Option<[OwnedFd; 2]>> {
    let mut word = [0];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut word)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            let [line, null] = fds[..] else { bail!("two descriptors were to come") };
            return Ok(Some([super::just_made(line), super::just_made(null)]));
        }
    }
    Ok(None)
}
