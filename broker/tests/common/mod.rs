//! A broker to talk to, and a client that can say anything.
#![allow(dead_code)] // Each test file uses its own part.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyshim_abi::frame::{
    KNOCK, LENGTH_LEN, Message, Origin, Token, decode_reply, decode_welcome, encode_message,
};
use keyshim_abi::limits::REQUEST_HEAD_LEN_MAX;
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Request};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect, recvmsg, sendmsg, setsockopt, socket, socketpair, sockopt,
};
use tempfile::TempDir;

/// The program under test.
pub(crate) const KEYSHIM: &str = env!("CARGO_BIN_EXE_keyshim");
/// An answer that does not depend on any key.
pub(crate) const UNKNOWN: Message<'static> = Message::Call(Request::Other { operation: 99 });
/// Has a broker infer whose child a task is, although the kernel tells.
pub(crate) const INFER: &str = "KEYSHIM_INFER_LINEAGE";
/// What is logged of tasks.
pub(crate) const LOG: (&str, &str) = ("KEYSHIM_LOG", "keyshim::domain=debug,keyshim::events=info");
/// Longer than any broker needs, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// True for root; says why a test is skipped otherwise.
pub(crate) fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: changes user ids, which needs root");
    }
    is_root
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that ends with the value, also when a test fails.
pub(crate) struct Started(pub(crate) Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same for everything in the process group that a program of [`keyshim`]
/// leads.
pub(crate) struct Group(pub(crate) Child);

impl Drop for Group {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        // A leader that has been waited for may have left others.
        let _ = killpg(nix::unistd::Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A broker of its own, ended with the value.
pub(crate) struct Broker {
    pub(crate) child: Started,
    pub(crate) directory: TempDir,
}

impl Broker {
    /// Serves at a path in a fresh directory.
    pub(crate) fn start() -> Broker {
        Broker::start_by(Command::new(KEYSHIM))
    }

    /// The same with few file descriptors, and so few connections.
    pub(crate) fn start_with_descriptors(count: u32) -> Broker {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\""), KEYSHIM]);
        Broker::start_by(command)
    }

    /// The same, and what happens to tasks is written down as the broker infers it.
    pub(crate) fn start_with_log() -> Broker {
        let mut command = Command::new(KEYSHIM);
        command.env(LOG.0, LOG.1).env("NO_COLOR", "1").env(INFER, "1");
        Broker::start_by(command)
    }

    /// The same, as the kernel tells it. `None` where it does not; says so.
    pub(crate) fn start_told() -> Option<Broker> {
        let mut command = Command::new(KEYSHIM);
        command.env(LOG.0, LOG.1).env("NO_COLOR", "1");
        let broker = Broker::start_by(command);
        let log = std::fs::read_to_string(broker.directory.path().join("log")).unwrap();
        let is_told = !log.contains("the kernel tells nothing");
        if !is_told {
            eprintln!("skipped: the kernel tells nothing of tasks here");
        }
        is_told.then_some(broker)
    }

    /// Events of tasks so far, as `Forked 1 2`.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        events(&text)
    }

    fn start_by(mut command: Command) -> Broker {
        let directory = TempDir::new().unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        command.stderr(log);
        // Other users' clients are to reach it as well.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let path = directory.path().join("door");
        command.args(["broker", "--mode", "0666", "--socket"]).arg(&path);
        let child = Started(command.spawn().unwrap());
        let broker = Broker { child, directory };
        eventually("the broker answers", || Client::try_connect(&path).is_some());
        broker
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("door")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.path())
    }

    /// Open descriptors of the broker, which it shows to root only.
    pub(crate) fn descriptor_count(&self) -> Option<usize> {
        let directory = std::fs::read_dir(format!("/proc/{}/fd", self.child.0.id()));
        let count = directory.ok().map(Iterator::count);
        if count.is_none() {
            eprintln!("skipped in part: a broker's descriptors are shown to root only");
        }
        count
    }
}

/// Events of tasks in a log: the name of each with the numbers of its tasks.
pub(crate) fn events(log: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let event = line.split_once("event=")?.1;
        let name = event.split_whitespace().next()?;
        let numbers = event.split("TaskId(").skip(1).map(|rest| rest.split(')').next());
        Some(numbers.fold(name.to_owned(), |text, n| text + " " + n.unwrap_or_default()))
    };
    log.lines().filter_map(of_line).collect()
}

/// A datagram socket at the door.
pub(crate) fn door(path: &Path) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let door = socket(AddressFamily::Unix, SockType::Datagram, flags, None).unwrap();
    connect(door.as_raw_fd(), &UnixAddr::new(path).unwrap()).ok()?;
    Some(door)
}

/// Sends a datagram with descriptors.
pub(crate) fn knock(door: &OwnedFd, bytes: &[u8], descriptors: &[RawFd]) {
    let control = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &control[..] };
    let bytes = [IoSlice::new(bytes)];
    sendmsg::<()>(door.as_raw_fd(), &bytes, control, MsgFlags::empty(), None).unwrap();
}

/// A pair whose first end is ours and stamps what is sent.
pub(crate) fn stamped_pair() -> (UnixStream, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
    setsockopt(&pair.0, sockopt::PassCred, &true).unwrap();
    (UnixStream::from(pair.0), pair.1)
}

/// A frame as bytes.
pub(crate) fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut buffer = vec![0; REQUEST_HEAD_LEN_MAX];
    let encoded = encode_message(message, &mut buffer).unwrap();
    let (head_len, trailing) = (encoded.head_len, encoded.trailing.to_vec());
    buffer.truncate(head_len);
    [buffer, trailing].concat()
}

/// Hello of the calling thread.
pub(crate) fn hello() -> Vec<u8> {
    hello_of(nix::unistd::gettid().as_raw() as u32, Origin::Fresh)
}

/// Hello of any thread.
pub(crate) fn hello_of(tid: u32, origin: Origin) -> Vec<u8> {
    frame(&Message::Hello { tid, origin })
}

/// One conversation.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) token: Option<Token>,
}

impl Client {
    /// Knocks; nothing is said yet.
    pub(crate) fn knocked(path: &Path) -> Client {
        Client::try_knocked(path).unwrap()
    }

    fn try_knocked(path: &Path) -> Option<Client> {
        let (stream, theirs) = stamped_pair();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        knock(&door(path)?, KNOCK, &[theirs.as_raw_fd()]);
        Some(Client { stream, token: None })
    }

    /// Knocks and says hello.
    pub(crate) fn connect(path: &Path) -> Client {
        Client::try_connect(path).unwrap()
    }

    /// The same, `None` when nobody answers.
    pub(crate) fn try_connect(path: &Path) -> Option<Client> {
        let mut client = Client::try_knocked(path)?;
        client.stream.write_all(&hello()).ok()?;
        client.token = Some(decode_welcome(&client.receive()?).unwrap().token);
        Some(client)
    }

    /// Sends bytes, whatever they are.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        // The other side may have hung up already.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame, `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; LENGTH_LEN];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Asks and waits for the reply.
    pub(crate) fn ask(&mut self, message: &Message<'_>) -> Option<(Answer, Vec<u8>)> {
        self.stream.write_all(&frame(message)).ok()?;
        let frame = self.receive()?;
        let reply = decode_reply(&frame).unwrap();
        Some((reply.answer, reply.data.to_vec()))
    }

    /// Asks for something whose reply brings a descriptor, as its number.
    pub(crate) fn ask_descriptor(&mut self, message: &Message<'_>) -> (Answer, Option<RawFd>) {
        self.stream.write_all(&frame(message)).unwrap();
        let mut bytes = [0; 64];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        // Room for the stamp as well: our end asks for stamps.
        let mut control = nix::cmsg_space!(RawFd, nix::sys::socket::UnixCredentials);
        let fd = self.stream.as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(fd, &mut buffers, Some(&mut control), flags).unwrap();
        let mut descriptor = None;
        for one in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = one {
                descriptor = raw.first().copied();
            }
        }
        let len = message.bytes;
        (decode_reply(&bytes[LENGTH_LEN..len]).unwrap().answer, descriptor)
    }

    /// True when a call is answered.
    pub(crate) fn is_served(&mut self) -> bool {
        self.ask(&UNKNOWN).is_some_and(|(answer, _)| answer == Err(Errno::EOPNOTSUPP))
    }

    /// True when the broker has hung up.
    pub(crate) fn is_cut_off(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// A library that any program can load, in place of ours.
pub(crate) fn harmless_library() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .find_map(|line| Some(&line[line.find('/')?..]).filter(|p| p.contains("/libc")));
    path.unwrap().to_owned()
}

/// `keyshim` with a directory of its own for its sockets.
pub(crate) fn keyshim(runtime: &Path) -> Command {
    let mut command = Command::new(KEYSHIM);
    command.env("XDG_RUNTIME_DIR", runtime).env("KEYSHIM_LIBRARY", harmless_library());
    command.env_remove("KEYSHIM_SOCKET").env_remove("KEYSHIM_LOG").stdin(Stdio::null());
    command.process_group(0);
    command
}
