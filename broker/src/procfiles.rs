//! Files of ours over `/proc/keys`, `/proc/key-users` and `/proc/sys/kernel/keys`, for
//! programs that no library is preloaded into: a FUSE file system, mounted in a mount
//! namespace that only these programs share. Nothing of it is in any other namespace,
//! and it is gone with the last of them.
//!
//! A thread of ours enters the namespace, mounts, starts the program there and ends.
//! The thread that answers for the files stays outside: it, and every other thread of
//! the broker, must never open what it would have to answer for itself.

mod files;
mod filesystem;
pub(crate) mod mount;
mod rights;
mod sizes;
mod texts;
mod tree;
pub(crate) mod userns;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use crossbeam::channel::{Sender, bounded};
use fuser::{Config, Session, SessionACL};
use nix::sched::{CloneFlags, setns, unshare};

use crate::address::Address;
use crate::fault::Fault;
use crate::proc;
use crate::server::{self, Server};
use crate::supervisor::handover;
use files::Files;

/// The device of a file system, as the kernel names a descriptor of it.
pub(crate) const DEVICE: &str = "/dev/fuse";

/// Whether a program finds files of ours under `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proc {
    /// With --mode seccomp or both, if we have CAP_SYS_ADMIN and it can be done
    Auto,
    /// No: only the preloaded library shows them
    Off,
    /// Yes, in a user namespace, where nobody is root and set-uid programs gain nothing
    Userns,
}

/// Who answers for the files of a domain.
#[derive(Clone, Copy)]
pub(crate) enum Answerer<'a> {
    /// We do.
    Here(&'a Arc<Server>),
    /// The broker at one of these addresses.
    There(&'a [Address]),
}

/// Where a program is started that is to find the files of a domain.
pub(crate) struct Stage<'a> {
    answerer: Answerer<'a>,
    /// It is started all the same when they cannot be put.
    is_optional: bool,
}

impl Stage<'_> {
    /// What was asked for, if anything: with `Auto`, only for a program whose calls are
    /// trapped, and only if we may mount.
    pub(crate) fn for_program(
        answerer: Answerer<'_>,
        proc: Proc,
        is_trapped: bool,
    ) -> Option<Stage<'_>> {
        match proc {
            Proc::Auto if is_trapped && may_mount() => Some(Stage { answerer, is_optional: true }),
            Proc::Auto | Proc::Off => None,
            Proc::Userns => Some(Stage { answerer, is_optional: false }),
        }
    }

    /// For something that is not to start without the files of that domain.
    pub(crate) const fn of_server(server: &Arc<Server>) -> Stage<'_> {
        Stage { answerer: Answerer::Here(server), is_optional: false }
    }

    /// Starts something from a thread in a mount namespace of its own, with the files in
    /// it.
    pub(crate) fn start<T: Send>(self, start: impl FnOnce() -> T + Send) -> Result<T, Fault> {
        let entered = std::thread::scope(|scope| {
            let enter = || match enter_own(self.answerer) {
                Ok(()) => Ok(start()),
                Err(fault) => Err((fault, start)),
            };
            scope.spawn(enter).join()
        });
        match entered {
            Ok(Ok(started)) => Ok(started),
            Ok(Err((fault, start))) if self.is_optional => {
                tracing::info!("/proc shows the real kernel's keys: {fault}");
                Ok(start())
            }
            Ok(Err((fault, _))) => Err(fault),
            // A panic has ended the process.
            Err(_) => Err(Fault::Told("a thread has panicked".into())),
        }
    }
}

/// `CAP_SYS_ADMIN`: mounts.
const CAP_SYS_ADMIN: u32 = 21;

/// True if we may mount.
pub(crate) fn may_mount() -> bool {
    let pid = std::process::id();
    let status = proc::status(pid, pid);
    status.is_some_and(|status| status.effective >> CAP_SYS_ADMIN & 1 == 1)
}

/// Moves this thread into a mount namespace of its own, with the files in it.
fn enter_own(answerer: Answerer<'_>) -> Result<(), Fault> {
    let device = open_device()?;
    let is_bare = mount::is_bare(std::process::id());
    match answerer {
        Answerer::Here(server) => {
            let devices = attendant(server)?;
            unshare(CloneFlags::CLONE_NEWNS).map_err(no_namespace())?;
            mount::put(device, is_bare, |device| hand_over(&devices, device))
        }
        Answerer::There(addresses) => {
            unshare(CloneFlags::CLONE_NEWNS).map_err(no_namespace())?;
            mount::put(device, is_bare, |device| handover::hand_over_device(addresses, &device))
        }
    }
}

/// File systems that were handed over.
static HANDED_OVER: AtomicUsize = AtomicUsize::new(0);

/// Answers for the files of a device that somebody else has mounted; `None` when there are
/// too many.
pub(crate) fn answer_for(server: &Arc<Server>, device: OwnedFd) -> Option<Result<(), Fault>> {
    if HANDED_OVER.fetch_add(1, Ordering::Relaxed) >= handover::LISTENERS_MAX {
        HANDED_OVER.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let server = Arc::clone(server);
    let attendant = server::spawn("proc files".into(), move || {
        attend_aloud(server, device);
        HANDED_OVER.fetch_sub(1, Ordering::Relaxed);
    });
    if attendant.is_err() {
        HANDED_OVER.fetch_sub(1, Ordering::Relaxed);
    }
    Some(attendant.map(drop))
}

/// Puts the files of a domain into the mount namespace of that process, unless it is ours,
/// or some are there already. Whoever calls has reason to believe that number; looking
/// into a namespace may take as long as whoever made it likes.
pub(crate) fn put_once(server: &Arc<Server>, pid: u32) -> Result<(), Fault> {
    let namespace = |task: &str| std::fs::read_link(format!("/proc/{task}/ns/mnt")).ok();
    let (theirs, ours) = (namespace(&pid.to_string()), namespace("self"));
    if theirs.is_none() || theirs == ours {
        return Err(Fault::Told(format!("process {pid} has no mount namespace of its own")));
    }
    if mount::has_files(pid) { Ok(()) } else { put_into(server, pid) }
}

/// Puts the files into the mount namespace of that process, below its root directory.
fn put_into(server: &Arc<Server>, pid: u32) -> Result<(), Fault> {
    let device = open_device()?;
    let is_bare = mount::is_bare(pid);
    let devices = attendant(server)?;
    in_thread(|| {
        enter_that_of(pid)?;
        mount::put(device, is_bare, |device| hand_over(&devices, device))
    })
}

/// Moves this thread into the mount namespace of that process, to its root directory.
fn enter_that_of(pid: u32) -> Result<(), Fault> {
    let open = |name: &str, flags: i32| {
        let path = format!("/proc/{pid}/{name}");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        file.map_err(Fault::file("cannot enter", path, "is that process alive?"))
    };
    let (namespace, root) = (open("ns/mnt", 0)?, open("root", libc::O_PATH)?);
    unshare(CloneFlags::CLONE_FS).map_err(no_namespace())?;
    setns(namespace, CloneFlags::CLONE_NEWNS).map_err(no_namespace())?;
    let enter = || nix::unistd::fchdir(&root).and_then(|()| nix::unistd::chroot("."));
    enter().map_err(Fault::system("cannot enter the root directory", "run it as root"))
}

/// Tries all of it that can be tried without programs; says what is in the way.
pub(crate) fn rehearse() -> Result<(), Fault> {
    let device = open_device()?;
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS).map_err(no_namespace())?;
        mount::rehearse(&device)
    })
}

/// Runs something in a thread, whose namespaces end with it.
fn in_thread(act: impl FnOnce() -> Result<(), Fault> + Send) -> Result<(), Fault> {
    let done = std::thread::scope(|scope| scope.spawn(act).join());
    done.unwrap_or_else(|_| Err(Fault::Told("a thread has panicked".into())))
}

fn no_namespace() -> impl FnOnce(nix::errno::Errno) -> Fault {
    Fault::system("cannot enter a mount namespace", "run it as root, or say --proc userns")
}

/// Opens the device.
pub(crate) fn open_device() -> Result<OwnedFd, Fault> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let next = "load the module fuse, and allow this user to open it";
    device.map(File::into).map_err(Fault::file("cannot open", DEVICE, next))
}

/// A thread outside of every namespace that we mount in, which answers for the files of
/// the device that it is sent.
fn attendant(server: &Arc<Server>) -> Result<Sender<OwnedFd>, Fault> {
    let (sender, devices) = bounded::<OwnedFd>(1);
    let server = Arc::clone(server);
    server::spawn("proc files".into(), move || {
        if let Ok(device) = devices.recv() {
            attend_aloud(server, device);
        }
    })?;
    Ok(sender)
}

fn attend_aloud(server: Arc<Server>, device: OwnedFd) {
    if let Err(error) = attend(server, device) {
        tracing::warn!(%error, "/proc is not answered for any more");
    }
}

/// Returns when the last namespace with the files has gone.
fn attend(server: Arc<Server>, device: OwnedFd) -> io::Result<()> {
    let config = Config::default();
    let notifier = Arc::new(OnceLock::new());
    let files = Files::new(server, Arc::clone(&notifier));
    let session = Session::from_fd(files, device, SessionACL::All, config)?;
    let _ = notifier.set(session.notifier());
    session.run()
}

fn hand_over(devices: &Sender<OwnedFd>, device: OwnedFd) -> Result<(), Fault> {
    // Refused only when the thread is no more, and the connection ends with the device.
    let _ = devices.send(device);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::connections::Limits;
    use crate::domain::Domain;
    use crate::server::{Admission, Lifetime, Rules, Running};

    fn running() -> Running {
        let rules = Rules {
            admission: Admission::Family,
            limits: Limits::for_descriptors(1024),
            lifetime: Lifetime::UntilStopped,
            over: None,
            helpers: None,
        };
        Server::start(Domain::plain(Some(1)).unwrap(), Vec::new(), rules).unwrap()
    }

    fn can_mount() -> bool {
        let can = may_mount() && open_device().is_ok();
        if !can {
            eprintln!("skipped: mounts FUSE, which needs root and /dev/fuse");
        }
        can
    }

    #[test]
    fn what_can_be_put_is_told_beforehand_and_leaves_nothing() {
        if !can_mount() {
            return;
        }
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        rehearse().unwrap();
        assert_eq!(mounts(), before);
    }

    /// As a runtime would have made it: a namespace with a root directory of its own.
    #[test]
    fn files_are_put_into_the_namespace_of_another_process() {
        if !can_mount() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let script = "set -e; mount --rbind / \"$0\"; mount -t proc proc \"$0/proc\"
            cd \"$0\"; exec chroot . sh -c 'echo ready; read go
            cat /proc/key-users; echo 12 >/proc/sys/kernel/keys/maxkeys; read stop'";
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", script])
            .arg(root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            told.read_line(&mut line).unwrap();
            line
        };
        assert_eq!(line(), "ready\n");
        let running = running();
        put_into(&running.server, child.id()).unwrap();
        let mut go = child.stdin.take().unwrap();
        go.write_all(b"go\n").unwrap();
        assert_eq!(line(), "    0:     3 2/2 0/1000000 0/25000000\n");
        let path = format!("/proc/{}/root/proc/sys/kernel/keys/maxkeys", child.id());
        while std::fs::read_to_string(&path).unwrap() != "12\n" {
            std::thread::yield_now();
        }
        go.write_all(b"stop\n").unwrap();
        assert!(child.wait().unwrap().success());
        running.stop();
    }

    /// As that of a container without root.
    #[test]
    fn files_are_put_into_a_namespace_of_less_privilege() {
        if !can_mount() {
            return;
        }
        let script = "echo ready; read go; cat /proc/key-users; stat -c %u /proc/keys
            (echo 1 >/proc/sys/kernel/keys/maxkeys) 2>/dev/null || echo refused";
        let mut child = Command::new("setpriv")
            .args(["--reuid=1234", "--regid=1234", "--clear-groups"])
            .args(["unshare", "-Urmpf", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        let running = running();
        put_into(&running.server, child.id()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        told.read_to_string(&mut line).unwrap();
        assert_eq!(line, "ready\n65534\nrefused\n");
        assert!(child.wait().unwrap().success());
        running.stop();
    }

    #[test]
    fn nothing_is_put_where_nobody_is() {
        if !can_mount() {
            return;
        }
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let running = running();
        let fault = put_into(&running.server, child.id()).unwrap_err();
        assert!(fault.to_string().contains("is that process alive?"), "{fault}");
        running.stop();
    }
}
