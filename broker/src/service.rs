//! `keyshim broker`: a domain for whoever reaches its socket, until it is told to
//! stop or, for the brokers that commands and programs start for themselves, until
//! nobody needs it any more.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use sd_notify::NotifyState;

use crate::address::Address;
use crate::connections::Limits;
use crate::domain::{Beginning, Domain};
use crate::fault::Fault;
use crate::run::signals::Signals;
use crate::server::{Admission, Lifetime, Rules, Server};
use crate::upcall::Surroundings;
use crate::{hardening, host, paths, sys};

/// What a broker does, and for how long.
pub(crate) struct Plan {
    /// Where its door is.
    pub(crate) address: Address,
    /// Who may use the socket's file, as in chmod(2).
    pub(crate) mode: u32,
    /// Who is let in.
    pub(crate) admission: Admission,
    /// When it ends by itself.
    pub(crate) lifetime: Lifetime,
    /// True to serve at a random abstract name as well, written beside the socket
    /// for those who may read it: programs that change root or user need it.
    pub(crate) has_name: bool,
    /// How its domain begins.
    pub(crate) beginning: Beginning,
}

/// Why there is no broker of ours at an address.
pub(crate) enum Refusal {
    /// Another one serves there.
    Taken,
    /// Something does not work.
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::Fault(fault)
    }
}

impl Refusal {
    /// As a fault, for whoever wanted to be the broker there.
    pub(crate) fn told(self, address: &Address) -> Fault {
        match self {
            Refusal::Fault(fault) => fault,
            Refusal::Taken => Fault::Told(format!(
                "a broker serves at {address} already; use that one, stop it, or choose another \
                 --socket"
            )),
        }
    }
}

/// A door with its file, if it has one.
pub(crate) struct Post {
    /// The sockets.
    pub(crate) doors: Vec<OwnedFd>,
    file: Option<SocketFile>,
}

/// A socket's file, ours for as long as the lock beside it is held.
struct SocketFile {
    path: PathBuf,
    inode: u64,
    _lock: Flock<File>,
}

impl Post {
    /// The sockets of that kind that the service manager made, else one at the
    /// address: a bound one for datagrams, a listening one for streams.
    pub(crate) fn open(address: &Address, mode: u32, kind: SockType) -> Result<Post, Refusal> {
        match activated(kind)? {
            Some(doors) => Ok(Post { doors, file: None }),
            None => bind(address, mode, kind),
        }
    }

    /// Where the socket's file is, if it is one of ours.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    fn add_name(&mut self) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Ok(()) };
        let name = format!("@keyshim-{}", host::random_name());
        let next = "run `keyshim doctor`";
        let door = Address::parse(name.as_ref()).bind();
        self.doors.push(door.map_err(Fault::system("cannot bind a name", next))?);
        let path = beside(&file.path, NAME);
        fs::write(&path, name).map_err(Fault::file("cannot write", path, next))
    }
}

/// Serves until the end.
pub(crate) fn serve(plan: &Plan) -> Result<(), Refusal> {
    let signals = Signals::take()?;
    let mut post = Post::open(&plan.address, plan.mode, SockType::Datagram)?;
    if plan.has_name {
        post.add_name()?;
    }
    hardening::conceal();
    hardening::raise_descriptors();
    hardening::lock_memory();
    let limits = Limits::for_descriptors(hardening::descriptor_limit());
    let over = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
        .map_err(Fault::system("cannot make an eventfd", "raise the limit of open files"))?;
    let over = Arc::new(over);
    let domain = Domain::new(&plan.beginning)?;
    let doors = std::mem::take(&mut post.doors);
    let rules = Rules {
        admission: plan.admission,
        limits,
        lifetime: plan.lifetime,
        over: Some(Arc::clone(&over)),
        helpers: plan
            .beginning
            .calling
            .clone()
            .map(|calling| (calling, Surroundings::of(vec![plan.address.clone()]))),
    };
    let running = Server::start(domain, doors, rules)?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    wait_for_the_end(&signals, &over);
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    drop(post);
    running.stop();
    Ok(())
}

/// Until somebody says stop, or nobody needs us.
fn wait_for_the_end(signals: &Signals, over: &EventFd) {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(over.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let is_over = fds[1].any().unwrap_or(true);
        if is_over || signals.ask_to_stop() {
            return;
        }
    }
}

/// The doors that a service manager made for us (`LISTEN_FDS`).
fn activated(wanted: SockType) -> Result<Option<Vec<OwnedFd>>, Fault> {
    let next = match wanted {
        SockType::Stream => "make it ListenStream= in the socket unit",
        _ => "make it ListenDatagram= in the socket unit",
    };
    let numbers = sd_notify::listen_fds()
        .map_err(|error| Fault::Told(format!("LISTEN_FDS: {error}; {next}")))?;
    let doors: Vec<OwnedFd> = numbers.map(sys::adopt).collect();
    for door in &doors {
        let kind = getsockopt(door, sockopt::SockType);
        let kind = kind.map_err(Fault::system("no socket from the service manager", next))?;
        if kind != wanted {
            return Err(Fault::Told(format!("the socket in LISTEN_FDS is {kind:?}; {next}")));
        }
    }
    Ok(Some(doors).filter(|doors| !doors.is_empty()))
}

fn bind(address: &Address, mode: u32, kind: SockType) -> Result<Post, Refusal> {
    let open = || if kind == SockType::Stream { address.listen() } else { address.bind() };
    let Some(path) = address.path() else {
        return match open() {
            Ok(door) => Ok(Post { doors: vec![door], file: None }),
            Err(Errno::EADDRINUSE) => Err(Refusal::Taken),
            Err(errno) => {
                Err(Fault::system("cannot bind the socket", "choose another name")(errno).into())
            }
        };
    };
    let lock = lock_beside(path)?;
    clear_stale(path, address)?;
    let next = "choose another --socket";
    let door = open().map_err(Fault::system("cannot bind the socket", next))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Fault::file(
        "cannot set the mode of",
        path,
        next,
    ))?;
    let metadata = fs::symlink_metadata(path).map_err(Fault::file("cannot look at", path, next))?;
    let file = SocketFile { path: path.to_owned(), inode: metadata.ino(), _lock: lock };
    Ok(Post { doors: vec![door], file: Some(file) })
}

/// The lock of whoever serves at this path.
fn lock_beside(path: &Path) -> Result<Flock<File>, Refusal> {
    let lock_path = beside(path, LOCK);
    let next = "make the directory, or choose another --socket";
    loop {
        let file = File::options().create(true).append(true).open(&lock_path);
        let file = file.map_err(Fault::file("cannot make", &lock_path, next))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(Refusal::Taken),
            Err((_, errno)) => return Err(Fault::system("cannot lock", next)(errno).into()),
        };
        // Its last holder may have removed it between our opening and locking it.
        let inode = |metadata: fs::Metadata| metadata.ino();
        if fs::symlink_metadata(&lock_path).map(inode).ok() == lock.metadata().map(inode).ok() {
            return Ok(lock);
        }
    }
}

/// Extension of the lock beside a socket.
const LOCK: &str = ".lock";
/// Extension of the file that holds the abstract name.
const NAME: &str = ".name";

/// A path with something appended.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(extension);
    PathBuf::from(name)
}

/// The abstract name of the broker at this path, if it has one.
pub(crate) fn name_of(path: &Path) -> Option<Address> {
    let name = fs::read_to_string(beside(path, NAME)).ok()?;
    Some(Address::parse(name.as_ref())).filter(|address| address.path().is_none())
}

/// Removes a socket that a killed broker left. Anything else is left alone.
fn clear_stale(path: &Path, address: &Address) -> Result<(), Refusal> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        let text = format!("{} is no socket; choose another --socket", path.display());
        return Err(Fault::Told(text).into());
    }
    match address.connect() {
        // Of a datagram socket that is served, or of any other kind.
        Ok(_) | Err(Errno::EPROTOTYPE) => Err(Refusal::Taken),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path)
            .map_err(Fault::file("cannot remove the stale socket", path, "remove it"))
            .map_err(Refusal::Fault),
        Err(errno) => {
            Err(Fault::system("cannot try the socket", "choose another --socket")(errno).into())
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(beside(&self.path, NAME));
        // Last, while we still hold it: whoever comes after makes a new one.
        let _ = fs::remove_file(beside(&self.path, LOCK));
    }
}

/// Where the broker is when nobody says.
pub(crate) fn default_address() -> Result<Address, Fault> {
    paths::make_user_directory(&paths::user_directory())?;
    Ok(Address::Path(paths::default_socket()))
}

/// Where the agent is when nobody says.
pub(crate) fn default_agent_address() -> Result<Address, Fault> {
    let directory = paths::user_directory();
    paths::make_user_directory(&directory)?;
    Ok(Address::Path(directory.join("agent")))
}
