//! An actor: performs what it is told, by raw system calls of its own thread.
//!
//! Started without more it lives in the kernel's key universe; started with the
//! library preloaded or under the supervisor, in keyshim's. Descriptor 0 is its line to the orchestrator;
//! each process or thread that it starts serves a line of its own, whose
//! descriptor comes along with the command. The end of the line ends the actor.

#![allow(unsafe_code)] // its business: fork, and system calls with bad pointers

use std::ffi::CString;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use keyshim_tests::desk;
use keyshim_tests::wire::{self, BAD_ADDRESS, Command, Register, Report, UNTOUCHED};
use keyshim_tests::world::stand_in;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

#[path = "actor/helper.rs"]
mod helper;

/// Every line that this process holds: a forked child closes those of the others,
/// so that the end of an actor is seen as the end of its line.
static LINES: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["keep", socket, actor] = words[..] {
        return stand_in::keep(socket, actor);
    }
    let line: RawFd = match words[..] {
        ["helper", socket, real, ref arguments @ ..] => match helper::line(socket, arguments)? {
            Some(line) => line,
            None => bail!(std::process::Command::new(real).args(arguments).exec()),
        },
        [number] => number.parse().context("the descriptor of the line")?,
        _ => off_standard_input()?,
    };
    // Not before: the real program waits for its children.
    heed_signals()?;
    // SAFETY: the orchestrator, or this program before exec, gave us this descriptor.
    serve(unsafe { UnixStream::from_raw_fd(line) })
}

/// Moves the line away from descriptor 0, which must stay open in every child: a
/// program that starts without it opens `/dev/null` there, and an open file holds
/// the keyrings of whoever opened it.
fn off_standard_input() -> Result<RawFd> {
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: descriptor 0 is the line, and nobody else uses it yet.
    unsafe {
        let line = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 10);
        if line < 0 || libc::dup2(null.as_raw_fd(), 0) < 0 {
            return Err(std::io::Error::last_os_error()).context("moving the line");
        }
        Ok(line)
    }
}

/// Children are reaped at once, and a signal does no more than end a wait.
fn heed_signals() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing; ignored children are reaped by the kernel.
    unsafe {
        sigaction(Signal::SIGUSR1, &action)?;
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    Ok(())
}

fn hello(line: &mut UnixStream) -> Result<()> {
    // SAFETY: gettid has no arguments.
    let ret = unsafe { libc::syscall(libc::SYS_gettid) };
    let now = second();
    wire::send(line, &Report { ret, second_before: now, second_after: now, ..Report::default() })
}

/// Serves one line until it ends, or the actor does.
fn serve(mut line: UnixStream) -> Result<()> {
    register(line.as_raw_fd());
    hello(&mut line)?;
    loop {
        let Ok((command, descriptor)) = next(&mut line) else { return Ok(()) };
        let report = match command {
            Command::Fork => {
                let new = descriptor.context("fork without a line")?;
                // SAFETY: the child goes on with this thread alone; nobody else holds
                // a lock, because the orchestrator lets one actor act at a time.
                match unsafe { libc::fork() } {
                    0 => {
                        line = become_child(&line, new)?;
                        hello(&mut line)?;
                        continue;
                    }
                    pid => plain(i64::from(pid)),
                }
            }
            Command::Thread => {
                let new = UnixStream::from(descriptor.context("thread without a line")?);
                std::thread::Builder::new().spawn(move || serve(new))?;
                plain(0)
            }
            Command::Exec => plain(exec(&line)),
            Command::Exit { process } => {
                wire::send(&mut line, &plain(0))?;
                if process {
                    // SAFETY: nothing is left to be done at exit.
                    unsafe { libc::_exit(0) };
                }
                deregister(line.as_raw_fd());
                return Ok(());
            }
            other => perform(&other),
        };
        wire::send(&mut line, &report)?;
    }
}

fn register(line: RawFd) {
    if let Ok(mut lines) = LINES.lock() {
        lines.push(line);
    }
}

fn deregister(line: RawFd) {
    if let Ok(mut lines) = LINES.lock() {
        lines.retain(|&held| held != line);
    }
}

/// Closes the lines of the other actors; the maker's own is the caller's to close.
fn become_child(own: &UnixStream, new: OwnedFd) -> Result<UnixStream> {
    let held = match LINES.lock() {
        Ok(mut lines) => std::mem::take(&mut *lines),
        Err(_) => bail!("the list of lines is poisoned"),
    };
    for line in held.into_iter().filter(|line| *line != own.as_raw_fd()) {
        // SAFETY: lines of other actors, copied by fork; nothing here uses them.
        unsafe { libc::close(line) };
    }
    register(new.as_raw_fd());
    Ok(UnixStream::from(new))
}

/// The next command, with the descriptor that came along.
fn next(line: &mut UnixStream) -> Result<(Command, Option<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut descriptor = None;
    let got = {
        let mut parts = [IoSliceMut::new(&mut length)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL;
        let message = loop {
            match recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                // A signal that was meant for a wait.
                Err(Errno::EINTR) => {}
                message => break message?,
            }
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                descriptor = fds.first().map(|&fd| just_made(fd));
            }
        }
        message.bytes
    };
    if got != length.len() {
        bail!("the orchestrator is gone");
    }
    Ok((wire::receive_body(line, length)?, descriptor))
}

/// A descriptor that has come along with a message.
fn just_made(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it for us, and nobody else has its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Returns only when it fails.
fn exec(line: &UnixStream) -> i64 {
    let own = line.as_raw_fd();
    let name = CString::from(c"keyshim-actor");
    let Ok(number) = CString::new(own.to_string()) else { return -1 };
    // SAFETY: the strings and the list of pointers, ended by NULL, outlive the call;
    // `environ` is libc's own list.
    unsafe {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        libc::fcntl(own, libc::F_SETFD, 0);
        let args = [name.as_ptr(), number.as_ptr(), std::ptr::null()];
        libc::execve(c"/proc/self/exe".as_ptr(), args.as_ptr(), environ);
    }
    -i64::from(errno())
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn second() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    now.tv_sec
}

fn plain(ret: i64) -> Report {
    let now = second();
    Report { ret, second_before: now, second_after: now, ..Report::default() }
}

fn returned(ret: libc::c_long) -> i64 {
    if ret == -1 { -i64::from(errno()) } else { ret }
}

fn perform(command: &Command) -> Report {
    let second_before = second();
    let (ret, out) = match command {
        Command::Call { entry, args } => call(*entry, args),
        // SAFETY: the orchestrator only names calls that take plain numbers.
        Command::Plain { number, args } => unsafe {
            (returned(libc::syscall(*number, args[0], args[1], args[2])), Vec::new())
        },
        // SAFETY: address and length are those of the list.
        Command::SetGroups(groups) => unsafe {
            let ret = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
            (returned(ret), Vec::new())
        },
        Command::ReadFile(path) => read_file(path),
        _ => (0, Vec::new()),
    };
    Report { ret, out, second_before, second_after: second(), ..Report::default() }
}

fn read_file(path: &str) -> (i64, Vec<u8>) {
    match desk::read(path).unwrap_or_else(|| Ok(std::fs::read(path)?)) {
        Ok(text) => (0, text),
        Err(fault) => {
            let error = fault.downcast_ref::<std::io::Error>();
            let error = error.and_then(std::io::Error::raw_os_error);
            (-i64::from(error.unwrap_or(libc::EIO)), Vec::new())
        }
    }
}

/// Makes the call with every register where it should be.
fn call(entry: u8, args: &[Register]) -> (i64, Vec<u8>) {
    let mut buffers: Vec<Vec<u8>> = args
        .iter()
        .map(|register| match register {
            Register::In(bytes) => bytes.clone(),
            // The pointers in it are put right when it is known where it lies.
            Register::Scattered(pieces) => wire::scattered(pieces, 0),
            Register::Out(len) => vec![UNTOUCHED; *len as usize],
            Register::Value(_) | Register::Bad => Vec::new(),
        })
        .collect();
    let mut registers = [0u64; 5];
    for (index, register) in args.iter().enumerate().take(5) {
        registers[index] = match register {
            Register::Value(value) => *value,
            Register::Bad => BAD_ADDRESS,
            Register::In(_) | Register::Out(_) => buffers[index].as_mut_ptr() as u64,
            Register::Scattered(pieces) => {
                let address = buffers[index].as_mut_ptr() as u64;
                buffers[index].copy_from_slice(&wire::scattered(pieces, address));
                address
            }
        };
    }
    let number = [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl][usize::from(entry)];
    let [a, b, c, d, e] = registers;
    // SAFETY: what the kernel writes stays within the lengths that the caller gave,
    // which are those of the buffers; bad pointers are its business.
    let ret = returned(unsafe { libc::syscall(number, a, b, c, d, e) });
    let out = args.iter().position(|register| matches!(register, Register::Out(_)));
    (ret, out.map_or_else(Vec::new, |index| std::mem::take(&mut buffers[index])))
}
