//! The texts under `/proc` straight from a broker, for an actor under the supervisor
//! alone where no files of keyshim's could be put over the kernel's.

use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, anyhow};
use keyshim_abi::frame::{
    KNOCK, LENGTH_LEN, Message, Origin, Token, decode_reply, encode_message, reply_len,
};
use keyshim_abi::limits::REQUEST_HEAD_LEN_MAX;
use keyshim_abi::procfs::ProcFile;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::unistd::gettid;

/// Names the broker's addresses.
const SOCKET: &str = "KEYSHIM_SOCKET";

/// That file as this thread may see it, if it is one of the broker's, a broker is named,
/// and neither a library nor a mount shows it.
#[must_use]
pub fn read(path: &str) -> Option<Result<Vec<u8>>> {
    let file = match path {
        "/proc/keys" => ProcFile::Keys,
        "/proc/key-users" => ProcFile::KeyUsers,
        _ => return None,
    };
    let is_mounted = statfs(path).is_ok_and(|system| system.filesystem_type() == FUSE_SUPER_MAGIC);
    if is_mounted || std::env::var_os("LD_PRELOAD").is_some() {
        return None;
    }
    let addresses = std::env::var(SOCKET).ok()?;
    let name = addresses.split(',').find_map(|address| address.strip_prefix('@'))?.to_owned();
    Some(ask(&name, file))
}

fn ask(name: &str, file: ProcFile) -> Result<Vec<u8>> {
    let mut line = knock(name).context("knocking at the broker's door")?;
    // A thread that has lost a conversation which the broker does not remember: so
    // nothing is said of its program.
    let origin = Origin::Same(Token([0; 16]));
    exchange(&mut line, &Message::Hello { tid: gettid().as_raw() as u32, origin })?;
    let frame = exchange(&mut line, &Message::Open(file))?;
    let reply = decode_reply(&frame).map_err(|_| anyhow!("no reply"))?;
    reply.answer.map_err(|errno| anyhow!("{errno:?}"))?;
    Ok(reply.data.to_vec())
}

fn knock(name: &str) -> Result<UnixStream> {
    let kind = SockType::Datagram;
    let door = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let (ours, theirs) = UnixStream::pair()?;
    // Before the knock: the first message is to be stamped already.
    setsockopt(&ours, sockopt::PassCred, &true)?;
    let address = UnixAddr::new_abstract(name.as_bytes())?;
    let descriptors = [theirs.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(KNOCK)];
    sendmsg(door.as_raw_fd(), &bytes, &control, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(ours)
}

fn exchange(line: &mut UnixStream, message: &Message<'_>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; REQUEST_HEAD_LEN_MAX];
    let encoded = encode_message(message, &mut buffer).map_err(|_| anyhow!("no room"))?;
    let head_len = encoded.head_len;
    line.write_all(&buffer[..head_len])?;
    let mut length = [0; LENGTH_LEN];
    line.read_exact(&mut length)?;
    let mut frame = vec![0; reply_len(length).map_err(|_| anyhow!("a length"))?];
    line.read_exact(&mut frame)?;
    Ok(frame)
}
