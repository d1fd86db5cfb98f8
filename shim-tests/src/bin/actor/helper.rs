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
    let requester = requester(key)?;
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
fn requester(key: i32) -> Result<i64> {
    let text = std::fs::read_to_string("/proc/keys")?;
    let mark = format!(" key:{key:x} pid:");
    let rest = text.lines().find_map(|line| line.split_once(&mark)).context("no authority")?.1;
    Ok(rest.split(' ').next().unwrap_or_default().parse()?)
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
