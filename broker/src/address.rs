//! Addresses of brokers, as `KEYSHIM_SOCKET` and `--socket` write them: `@name` for
//! an abstract socket, anything else for a path.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};

/// Where a broker's door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A name in the network namespace, gone with the last descriptor.
    Abstract(Vec<u8>),
    /// A file.
    Path(PathBuf),
}

impl Address {
    /// Reads one address.
    pub(crate) fn parse(text: &OsStr) -> Address {
        match text.as_bytes().strip_prefix(b"@") {
            Some(name) => Address::Abstract(name.to_vec()),
            None => Address::Path(PathBuf::from(text)),
        }
    }

    /// Reads a comma-separated list, in the order in which to try.
    pub(crate) fn parse_list(text: &OsStr) -> Vec<Address> {
        let parts = text.as_bytes().split(|&byte| byte == b',');
        parts
            .filter(|part| !part.is_empty())
            .map(|part| Address::parse(OsStr::from_bytes(part)))
            .collect()
    }

    /// The path, for an address that is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Address::Abstract(_) => None,
            Address::Path(path) => Some(path),
        }
    }

    fn unix(&self) -> Result<UnixAddr, Errno> {
        match self {
            Address::Abstract(name) => UnixAddr::new_abstract(name),
            Address::Path(path) => UnixAddr::new(path),
        }
    }

    /// A datagram socket bound here. EADDRINUSE when something is there.
    pub(crate) fn bind(&self) -> Result<OwnedFd, Errno> {
        self.bind_as(SockType::Datagram)
    }

    /// A stream socket that listens here. EADDRINUSE when something is there.
    pub(crate) fn listen(&self) -> Result<OwnedFd, Errno> {
        let socket = self.bind_as(SockType::Stream)?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(socket)
    }

    fn bind_as(&self, kind: SockType) -> Result<OwnedFd, Errno> {
        let socket = new_socket(kind)?;
        bind(socket.as_raw_fd(), &self.unix()?)?;
        Ok(socket)
    }

    /// A datagram socket connected to the door here. ECONNREFUSED when only its
    /// file is left.
    pub(crate) fn connect(&self) -> Result<OwnedFd, Errno> {
        let socket = new_socket(SockType::Datagram)?;
        connect(socket.as_raw_fd(), &self.unix()?)?;
        Ok(socket)
    }
}

fn new_socket(kind: SockType) -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Address::Path(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order() {
        let list = Address::parse_list(OsStr::new("@one,/run/two,"));
        assert_eq!(
            list,
            [Address::Abstract(b"one".to_vec()), Address::Path(PathBuf::from("/run/two"))]
        );
        assert_eq!(list[0].to_string(), "@one");
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let long = Address::Path(PathBuf::from("/".repeat(200)));
        assert_eq!(long.bind().unwrap_err(), Errno::ENAMETOOLONG);
    }
}
