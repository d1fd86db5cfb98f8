//! The way in to the broker.
//!
//! The door is a datagram socket of the broker's. We knock with one end of a stream
//! pair and talk over the other. A descriptor that is connected to the door is made
//! at the first key call and kept, or before it when the program gives up the road:
//! through it forks and threads still get in after a chroot, or in a network namespace
//! where the address means nothing.

use core::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use keyshim_abi::frame::{
    KNOCK, LENGTH_LEN, Message, Origin, Token, WELCOME_LEN, decode_welcome, encode_message,
    reply_len,
};

use crate::autostart;
use crate::environment::{self, ADDRESSES};
use crate::fault::Fault;
use crate::quiet::{Patience, Quiet, SLICE_MS};
use crate::socket::Socket;
use crate::sys::{self, Refused};
use crate::text::Text;

/// How long a new client waits to be let in.
const ATTACH_WAIT_MS: u32 = 10_000;
/// Bytes of a hello frame, and more.
const HELLO_LEN_MAX: usize = 64;
/// Permission bits by which others could put a socket of theirs in our place.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// How long a broker is waited for that has kept us waiting in vain before.
const DISTRUST_WAIT_MS: u32 = 250;

/// True since a wait was in vain, until an attaching succeeds. A program that makes
/// a thousand calls must not wait for each as long as for the first.
static IS_DISTRUSTED: AtomicBool = AtomicBool::new(false);
/// The kept descriptor, a packed [`Socket`].
static DOOR: AtomicU64 = AtomicU64::new(0);
/// True once there has been a door: then there is a key service, and calls may be
/// refused without asking it.
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// True when a broker has been seen.
pub(crate) fn is_known() -> bool {
    IS_KNOWN.load(Relaxed)
}

/// Connects the kept descriptor, if a broker is there and none is kept yet.
pub(crate) fn open_early() {
    if DOOR.load(Relaxed) == 0 {
        let _ = connect().map(keep);
    }
}

/// Gets in: a connection, and the token by which its thread is known from now on.
/// Waits for at most ten seconds; a quarter of one where that was in vain before.
pub(crate) fn attach(
    origin: Origin,
    is_home: bool,
    quiet: &Quiet,
) -> Result<(Socket, Token), Fault> {
    let wait_ms = if IS_DISTRUSTED.load(Relaxed) { DISTRUST_WAIT_MS } else { ATTACH_WAIT_MS };
    let outcome = enter(origin, is_home, &mut Patience::new(quiet, wait_ms));
    match outcome {
        Ok(_) => IS_DISTRUSTED.store(false, Relaxed),
        Err(Fault::Silent) => distrust(),
        Err(_) => {}
    }
    outcome
}

/// Takes note that a broker kept us waiting in vain.
pub(crate) fn distrust() {
    IS_DISTRUSTED.store(true, Relaxed);
}

fn enter(
    origin: Origin,
    is_home: bool,
    patience: &mut Patience<'_>,
) -> Result<(Socket, Token), Fault> {
    if let Some(door) = Socket::unpacked(DOOR.load(Acquire)).filter(|door| door.is_ours()) {
        match knock(door, origin, patience) {
            Err(Fault::Unheard) => {}
            outcome => return outcome,
        }
    }
    let door = connect().or_else(|fault| autostart::start(patience, connect).ok_or(fault))?;
    let outcome = knock(door, origin, patience);
    if is_home {
        keep(door);
    } else {
        IS_KNOWN.store(true, Relaxed);
        door.close();
    }
    outcome.map_err(|fault| if fault == Fault::Unheard { Fault::NoBroker } else { fault })
}

/// Puts a door in the place of the former one, which is closed if it is still ours.
fn keep(door: Socket) {
    IS_KNOWN.store(true, Relaxed);
    let former = DOOR.swap(door.packed(), AcqRel);
    Socket::unpacked(former).into_iter().for_each(Socket::close);
}

/// A descriptor connected to the first address at which somebody listens.
fn connect() -> Result<Socket, Fault> {
    let noted = ADDRESSES.get();
    if noted.is_empty() {
        return Err(Fault::NoBroker);
    }
    match environment::default_of() {
        Some(user) if is_own_directory(noted, user) => connect_to(noted),
        Some(_) => Err(Fault::NoBroker),
        None => {
            let mut listed = noted.split(|&byte| byte == b',');
            listed.find_map(|address| connect_to(address).ok()).ok_or(Fault::NoBroker)
        }
    }
}

/// True when the directory of that path is the user's, and nobody else's to change.
fn is_own_directory(path: &[u8], user: u32) -> bool {
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    let mut room = [0; 108];
    let Some(directory) = Text::within(&mut room).with(&path[..end]).finish() else {
        return false;
    };
    sys::lstat(directory).is_ok_and(|facts| {
        facts.mode & libc::S_IFMT == libc::S_IFDIR
            && facts.owner == user
            && facts.mode & OTHERS_MAY_WRITE == 0
    })
}

fn connect_to(address: &[u8]) -> Result<Socket, Fault> {
    let (unix, len) = unix_address(address).ok_or(Fault::NoBroker)?;
    let fd = sys::socket(libc::SOCK_DGRAM).map_err(|_| Fault::NoRoom)?;
    match sys::connect(fd, &unix, len) {
        Ok(_) => {
            // Its queue is short, and the kernel lets in those who wait one by one.
            sys::set_patience(fd, SLICE_MS);
            Socket::settle(fd)
        }
        Err(_) => {
            sys::close(fd);
            Err(Fault::NoBroker)
        }
    }
}

/// `@name` is an abstract name, anything else a path.
fn unix_address(address: &[u8]) -> Option<(libc::sockaddr_un, usize)> {
    let mut unix = libc::sockaddr_un { sun_family: libc::AF_UNIX as _, sun_path: [0; 108] };
    let (name, from) = match address.strip_prefix(b"@") {
        Some(name) => (name, 1),
        None => (address, 0),
    };
    if name.is_empty() || from + name.len() >= unix.sun_path.len() {
        return None;
    }
    for (to, &byte) in unix.sun_path[from..].iter_mut().zip(name) {
        *to = byte as _;
    }
    let family_len = size_of::<libc::sa_family_t>();
    Some((unix, family_len + from + name.len() + usize::from(from == 0)))
}

/// Hands one end of a new pair in and introduces itself over the other.
fn knock(
    door: Socket,
    origin: Origin,
    patience: &mut Patience<'_>,
) -> Result<(Socket, Token), Fault> {
    let [own, given] = sys::stream_pair().map_err(|_| Fault::NoRoom)?;
    // Before the knock, or the hello may go out before the broker asks for stamps.
    sys::stamp_messages(own);
    let settled = Socket::settle(own);
    let sent = settled.and_then(|_| hand_in(door, given, patience));
    sys::close(given);
    let socket = settled?;
    let welcomed = sent.and_then(|()| introduce(socket, origin, patience));
    if welcomed.is_err() {
        socket.close();
    }
    welcomed.map(|token| (socket, token))
}

/// Unheard when nobody is behind the door any more.
fn hand_in(door: Socket, fd: i32, patience: &mut Patience<'_>) -> Result<(), Fault> {
    loop {
        match sys::send_descriptor(door.fd(), KNOCK, fd) {
            Ok(_) => return Ok(()),
            Err(Refused(libc::EAGAIN)) => patience.spent(SLICE_MS)?,
            Err(Refused(libc::EINTR)) => {}
            Err(Refused(libc::ETOOMANYREFS | libc::ENOMEM | libc::ENOBUFS)) => {
                return Err(Fault::NoRoom);
            }
            Err(_) => return Err(Fault::Unheard),
        }
    }
}

fn introduce(socket: Socket, origin: Origin, patience: &mut Patience<'_>) -> Result<Token, Fault> {
    sys::set_patience(socket.fd(), SLICE_MS);
    let mut hello = [0; HELLO_LEN_MAX];
    let message = Message::Hello { tid: sys::gettid(), origin };
    let encoded = encode_message(&message, &mut hello).map_err(|_| Fault::Garbled)?;
    let head_len = encoded.head_len;
    socket.send([&hello[..head_len], &[]], patience)?;
    let mut welcome = [0; WELCOME_LEN];
    let mut filled = 0;
    while filled < WELCOME_LEN {
        filled += socket.receive(&mut welcome[filled..], patience)?;
    }
    let (length, body) = welcome.split_at(LENGTH_LEN);
    let length = length.try_into().map_err(|_| Fault::Garbled)?;
    if reply_len(length).ok() != Some(body.len()) {
        return Err(Fault::Garbled);
    }
    decode_welcome(body).map(|welcome| welcome.token).map_err(|_| Fault::Garbled)
}
