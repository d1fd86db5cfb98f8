//! Helpers of the kernel as actors: `/sbin/request-key` calls the test process, which
//! gives it a line, and from then on it does what the history says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, bail};
use keyshim_abi::uapi::NATIVE;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::stand_in::{self, READY};
use crate::wire::{self, HelperHello};

/// A helper that has come and waits for its line.
pub struct Arrival {
    socket: UnixStream,
    /// What the kernel gave it as arguments.
    pub arguments: Vec<String>,
}

impl Arrival {
    /// Gives the helper its line, and somewhere to have its standard streams: opened by
    /// itself they would hold its keyrings.
    pub fn give(self, line: OwnedFd) -> Result<()> {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        let fds = [line.as_raw_fd(), null.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let byte = [std::io::IoSlice::new(b"+")];
        sendmsg::<()>(self.socket.as_raw_fd(), &byte, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

#[derive(Default)]
struct Router {
    /// Thread ids of the tests' own requesters.
    requesters: HashSet<i64>,
    arrivals: HashMap<i64, VecDeque<Arrival>>,
}

fn router() -> &'static Mutex<Router> {
    static ROUTER: OnceLock<Mutex<Router>> = OnceLock::new();
    ROUTER.get_or_init(Mutex::default)
}

/// A request of that thread belongs to a test.
pub fn expect(tid: i64) {
    if let Ok(mut router) = router().lock() {
        router.requesters.insert(tid);
    }
}

/// A helper that acts for one of these threads, if one has come.
pub fn arrived(tids: impl Iterator<Item = i64>) -> Option<Arrival> {
    let mut router = router().lock().ok()?;
    tids.into_iter().find_map(|tid| router.arrivals.get_mut(&tid)?.pop_front())
}

/// The threads of a history have gone.
pub fn forget(tids: impl Iterator<Item = i64>) {
    if let Ok(mut router) = router().lock() {
        for tid in tids {
            router.requesters.remove(&tid);
            router.arrivals.remove(&tid);
        }
    }
}

/// While it lives, ours stands in the place of `/sbin/request-key`.
pub struct Stage {
    keeper: Child,
    socket: PathBuf,
}

impl Stage {
    /// Puts it there, if kernel tests are `wanted`; says what is skipped where it cannot.
    #[must_use]
    pub fn set_or_skip(wanted: bool, actor: &Path) -> Option<Stage> {
        match wanted.then(|| Stage::set(actor))? {
            Ok(stage) => Some(stage),
            Err(why) => {
                eprintln!("skipped: kernel: helpers in the place of /sbin/request-key: {why:#}");
                None
            }
        }
    }

    /// Puts it there. Waits while another test process has its own in place.
    pub fn set(actor: &Path) -> Result<Stage> {
        let socket = stand_in::socket_of(std::process::id());
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        std::thread::spawn(move || serve(&listener));
        let mut keeper = Command::new(actor)
            .arg("keep")
            .args([socket.as_path(), actor])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = vec![0; READY.len()];
        let out = keeper.stdout.as_mut().context("the keeper's output")?;
        out.read_exact(&mut said).context("the keeper of /sbin/request-key failed")?;
        Ok(Stage { keeper, socket })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if !self.keeper.wait().is_ok_and(|status| status.success()) {
            eprintln!("/sbin/request-key may not be the real one");
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(listener: &UnixListener) {
    for socket in listener.incoming().flatten() {
        // A helper that cannot say who it is goes on as the real program.
        let _ = sort(socket);
    }
}

fn sort(mut socket: UnixStream) -> Result<()> {
    let hello: HelperHello = wire::receive(&mut socket)?;
    let Ok(mut router) = router().lock() else { bail!("the router is poisoned") };
    if !router.requesters.contains(&hello.requester) {
        return Ok(socket.write_all(b"-")?);
    }
    let arrival = Arrival { socket, arguments: hello.arguments };
    router.arrivals.entry(hello.requester).or_default().push_back(arrival);
    Ok(())
}

/// How a call that waits looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// In the call itself; a signal could end that.
    InCall,
    /// In the library, which looks for a reply and for signals.
    InLibrary,
    /// In the call, before a filter that only a fatal signal gets it out of.
    BeforeFilter,
}

/// True for a process under a filter.
pub fn is_trapped(pid: i64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

/// How often a thread has gone to sleep, if it now waits in one of the three calls: the
/// same number again says that it has not woken meanwhile.
pub fn sleeps(sleep: Sleep, pid: i64, tid: i64) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/{file}")).ok();
    let call = read("syscall")?;
    let number: i64 = call.split(' ').next()?.parse().ok()?;
    let status = read("status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Before Linux 6.17 no signal wakes it from the first, later only the first one.
    let states: &[char] = if sleep == Sleep::BeforeFilter { &['S', 'D'] } else { &['S'] };
    let sleeps = field("State:")?.trim_start().starts_with(states);
    let is_there = match sleep {
        Sleep::InLibrary => number == libc::SYS_ppoll,
        _ => [NATIVE.add_key, NATIVE.request_key, NATIVE.keyctl].contains(&number),
    };
    let times = field("voluntary_ctxt_switches:")?.trim().parse().ok()?;
    (sleeps && is_there).then_some(times)
}
