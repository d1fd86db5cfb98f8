//! Sockets: made, connected, and talked over.
#![allow(unsafe_code)] // structures that the kernel fills

use core::ffi::c_int;
use core::mem::MaybeUninit;

use super::{Outcome, Refused, bare, outcome, segment};

/// A unix socket of that kind, close-on-exec.
pub(crate) fn socket(kind: c_int) -> Result<i32, Refused> {
    call!(libc::SYS_socket, libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0).map(|fd| fd as i32)
}

/// Two stream sockets, connected to each other, close-on-exec.
pub(crate) fn stream_pair() -> Result<[i32; 2], Refused> {
    let mut pair = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    call!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr())?;
    Ok(pair)
}

/// Connects to the address that the first `len` bytes hold.
pub(crate) fn connect(fd: i32, address: &libc::sockaddr_un, len: usize) -> Outcome {
    let len = len.min(size_of::<libc::sockaddr_un>());
    call!(libc::SYS_connect, fd, core::ptr::from_ref(address), len)
}

/// Bounds each wait of a socket, in both directions.
pub(crate) fn set_patience(fd: i32, wait_ms: u32) {
    let wait = libc::timeval {
        tv_sec: i64::from(wait_ms / 1000),
        tv_usec: i64::from(wait_ms % 1000) * 1000,
    };
    set_option(fd, libc::SO_RCVTIMEO, &wait);
    set_option(fd, libc::SO_SNDTIMEO, &wait);
}

/// Has the kernel stamp what is sent over a socket with the sender's credentials.
pub(crate) fn stamp_messages(fd: i32) {
    set_option(fd, libc::SO_PASSCRED, &1);
}

fn set_option<T>(fd: i32, option: c_int, value: &T) {
    let address = core::ptr::from_ref(value);
    let _ = call!(libc::SYS_setsockopt, fd, libc::SOL_SOCKET, option, address, size_of::<T>());
}

/// Ends one direction of a socket.
pub(crate) fn shutdown(fd: i32, direction: c_int) {
    let _ = call!(libc::SYS_shutdown, fd, direction);
}

/// Room for a control message with one descriptor.
#[repr(C, align(8))]
struct OneDescriptor {
    header: libc::cmsghdr,
    fd: i32,
    rest: i32,
}

/// Length of that message without its padding.
const ONE_DESCRIPTOR_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<i32>();

impl OneDescriptor {
    fn holding(fd: i32) -> OneDescriptor {
        // SAFETY: all zeroes is a value of this plain structure.
        let mut header: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.cmsg_len = ONE_DESCRIPTOR_LEN as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        OneDescriptor { header, fd, rest: 0 }
    }
}

fn message(segments: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeroes is a value of this plain structure: no address, no control.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = segments.as_mut_ptr();
    message.msg_iovlen = segments.len() as _;
    message
}

/// Sends two pieces, or as much of them as there is room for. No SIGPIPE.
pub(crate) fn send_pieces(fd: i32, pieces: [&[u8]; 2]) -> Outcome {
    let mut segments = pieces.map(segment);
    let message = message(&mut segments);
    call!(libc::SYS_sendmsg, fd, core::ptr::from_ref(&message), libc::MSG_NOSIGNAL)
}

/// Sends a datagram with a descriptor. EAGAIN when the socket's patience is at its end.
pub(crate) fn send_descriptor(fd: i32, bytes: &[u8], sent_fd: i32) -> Outcome {
    let mut segments = [segment(bytes)];
    let mut control = OneDescriptor::holding(sent_fd);
    let mut message = message(&mut segments);
    message.msg_control = core::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<OneDescriptor>() as _;
    call!(libc::SYS_sendmsg, fd, core::ptr::from_ref(&message), libc::MSG_NOSIGNAL)
}

/// Receives what there is, at most `into`; descriptors that come along are dropped.
pub(crate) fn receive(fd: i32, into: &mut [u8]) -> Outcome {
    call!(libc::SYS_recvfrom, fd, into.as_mut_ptr(), into.len(), 0, 0, 0)
}

/// Room for the credentials that come with every message, and one descriptor.
#[repr(C, align(8))]
struct Received([u8; 64]);

impl Received {
    /// The descriptor, when there is one.
    fn descriptor(&self, len: usize) -> Option<i32> {
        let mut rest = self.0.get(..len)?;
        loop {
            let header = rest.first_chunk::<{ size_of::<libc::cmsghdr>() }>()?;
            // SAFETY: any bytes are a value of this plain structure.
            let header: libc::cmsghdr = unsafe { core::mem::transmute(*header) };
            let message_len = header.cmsg_len as usize;
            if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
                let data = rest.get(size_of::<libc::cmsghdr>()..message_len)?;
                return data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
            }
            rest = rest.get(message_len.next_multiple_of(8).max(8)..)?;
        }
    }
}

/// Receives what there is, and a descriptor where one came along. Of several only
/// as many are received as there is room for, and a broker sends only one.
pub(crate) fn receive_descriptor(
    fd: i32,
    into: &mut [u8],
) -> Result<(usize, Option<i32>), Refused> {
    let mut segments = [segment(into)];
    let mut control = Received([0; 64]);
    let mut message = message(&mut segments);
    message.msg_control = core::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<Received>() as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    let len = call!(libc::SYS_recvmsg, fd, core::ptr::from_mut(&mut message), flags)?;
    #[allow(clippy::unnecessary_cast)] // a shorter type with musl
    let control_len = message.msg_controllen as usize;
    Ok((len, control.descriptor(control_len)))
}
