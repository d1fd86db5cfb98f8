//! Tasks that make real calls: of the kernel, or, with the library preloaded or under
//! the supervisor, of keyshim.

use std::collections::HashMap;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use keyshim_abi::uapi::keyctl as op;
use keyshim_keys::Profile;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{Deed, ProcText, World, kernel};

use crate::model::Tasks;
use crate::step::Which;
use crate::trace;
use crate::wire::{self, Command, Register, Report};

mod clean;
mod ids;
mod waits;

/// How long a task may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Users that a history may have.
const USERS_MAX: u32 = 4;
/// How far into a second a wait ends: the coarse clock has ticked by then.
const INTO_SECOND: Duration = Duration::from_millis(20);

/// Where the actors' calls go.
#[derive(Debug, Clone)]
pub enum Road {
    /// To the kernel.
    Kernel,
    /// To a domain of its own, by this `keyshim` and its library.
    Preload(PathBuf),
    /// The same, by this `keyshim` and the kernel alone.
    Supervised(PathBuf),
}

impl Road {
    /// The road that begins at the library of this build.
    pub fn preload() -> Result<Road> {
        beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")?;
        Ok(Road::Preload(beside("keyshim").context("cargo build -p keyshim builds it")?))
    }

    /// The road through a filter to the `keyshim` of this build.
    pub fn supervised() -> Result<Road> {
        Ok(Road::Supervised(beside("keyshim").context("cargo build -p keyshim builds it")?))
    }

    fn program(&self, actor: &Path, profile: &Profile) -> Program {
        let (keyshim, mode) = match self {
            Road::Kernel => return Program::new(actor),
            Road::Preload(keyshim) => (keyshim, "preload"),
            Road::Supervised(keyshim) => (keyshim, "seccomp"),
        };
        let mut program = Program::new(keyshim);
        let quirky = Profile::named(profile.name, false) != Some(*profile);
        let quirks = if quirky { "on" } else { "off" };
        program.args(["run", "--mode", mode, "--profile", profile.name]);
        program.args(["--quirks", quirks, "--"]).arg(actor);
        program
    }
}

struct Line {
    socket: UnixStream,
    pid: i64,
    tid: i64,
}

impl Line {
    fn send(&mut self, command: &Command, descriptor: Option<&OwnedFd>) -> Result<()> {
        let frame = wire::encode(command)?;
        let Some(descriptor) = descriptor else { return Ok(self.socket.write_all(&frame)?) };
        let fds = [descriptor.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let fd = self.socket.as_raw_fd();
        let parts = [IoSlice::new(&frame)];
        let sent = sendmsg::<()>(fd, &parts, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(self.socket.write_all(&frame[sent..])?)
    }

    fn receive(&mut self) -> Result<Report> {
        wire::receive(&mut self.socket)
    }
}

/// The tasks of one history.
pub struct ActorWorld {
    road: Road,
    lines: HashMap<String, Line>,
    tasks: Tasks,
    program: Child,
    first: String,
    id_base: u32,
    /// The helper that the actor's call has brought, if it is not somebody else's that it
    /// waits for.
    waiting: HashMap<String, Option<String>>,
    /// The arguments of each helper.
    helpers: HashMap<String, Vec<String>>,
}

/// The broker looks for an execve that was announced after half a millisecond, and then
/// again and again; a second one, in silence, is only told from the first if it comes
/// after such a look (COMPATIBILITY.md). No history is about that.
const EXECVE_WAIT: Duration = Duration::from_millis(30);

/// Readings of `/proc/key-users` until two are the same.
const READINGS_MAX: usize = 20;

/// The program of the actors, which is built beside the present one.
pub fn actor_program() -> Result<PathBuf> {
    beside("keyshim-actor").context("cargo build -p keyshim-tests builds it")
}

/// A program or library of this build.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    for folder in folders {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("there is no {name} beside {}", own.display())
}

impl ActorWorld {
    /// A universe with one task of that name, root in every way.
    pub fn new(road: Road, actor: &Path, first: &str) -> Result<ActorWorld> {
        ActorWorld::profiled(road, actor, first, &Profile::default())
    }

    /// The same of another kernel than Linux 6, which the road must be able to be.
    pub fn profiled(
        road: Road,
        actor: &Path,
        first: &str,
        profile: &Profile,
    ) -> Result<ActorWorld> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut program = road.program(actor, profile);
        let spawned = program.stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
        // With it goes our copy of their end, which would hide that the program is gone.
        drop(program);
        let program = spawned.with_context(|| format!("starting {}", actor.display()))?;
        let mut line = Line { socket: ours, pid: 0, tid: 0 };
        line.tid = line.receive().context("the first actor does not answer")?.ret;
        line.pid = line.tid;
        let mut tasks = Tasks::default();
        tasks.begin(first);
        let lines = HashMap::from([(first.to_owned(), line)]);
        let id_base = match road {
            Road::Kernel => ids::unused_base(),
            Road::Preload(_) | Road::Supervised(_) => ids::next_base(),
        };
        let (first, waiting, helpers) = (first.to_owned(), HashMap::new(), HashMap::new());
        Ok(ActorWorld { road, lines, tasks, program, first, id_base, waiting, helpers })
    }

    fn line(&mut self, actor: &str) -> Result<&mut Line> {
        self.lines.get_mut(actor).with_context(|| format!("there is no actor {actor}"))
    }

    fn ask(&mut self, actor: &str, command: &Command) -> Result<Report> {
        let line = self.line(actor)?;
        line.send(command, None)?;
        line.receive().with_context(|| format!("actor {actor}"))
    }

    fn call(&mut self, actor: &str, entry: u8, registers: &[Register]) -> Result<Report> {
        let command = Command::Call { entry, args: registers.to_vec() };
        let report = self.call_or_wait(actor, &command, entry)?;
        let operation = Register::Value(u64::from(op::SESSION_TO_PARENT));
        if entry == 2 && report.ret == 0 && registers.first() == Some(&operation) {
            // The parent's session changes when it next returns from the kernel.
            if let Some(parent) = self.tasks.parent_of(actor).map(str::to_owned) {
                self.ask(&parent, &Command::Nothing)?;
            }
        }
        Ok(report)
    }

    fn start(&mut self, actor: &str, name: &str, process: bool) -> Result<Report> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let line = self.line(actor)?;
        let command = if process { Command::Fork } else { Command::Thread };
        line.send(&command, Some(&theirs))?;
        drop(theirs);
        let report = line.receive()?;
        let pid = line.pid;
        if report.ret < 0 {
            bail!("{actor} cannot start {name}: error {}", report.ret);
        }
        let mut new = Line { socket: ours, pid, tid: 0 };
        new.tid = new.receive().with_context(|| format!("new actor {name}"))?.ret;
        if process {
            new.pid = new.tid;
            self.tasks.fork(actor, name)?;
        } else {
            self.tasks.thread(actor, name)?;
        }
        self.lines.insert(name.to_owned(), new);
        Ok(Report { ret: 0, ..report })
    }

    fn exec(&mut self, actor: &str) -> Result<Report> {
        let report = self.ask(actor, &Command::Exec)?;
        if report.ret < 0 {
            bail!("{actor} cannot execute its program anew: error {}", report.ret);
        }
        let line = self.line(actor)?;
        line.tid = report.ret;
        self.tasks.exec(actor)?;
        self.forget_the_dead();
        if !matches!(self.road, Road::Kernel) {
            std::thread::sleep(EXECVE_WAIT);
        }
        Ok(Report { ret: 0, ..report })
    }

    fn exit(&mut self, actor: &str) -> Result<Report> {
        let process = self.tasks.ends_process(actor)?;
        let report = self.ask(actor, &Command::Exit { process })?;
        let line = self.line(actor)?;
        let (pid, tid) = (line.pid, line.tid);
        self.tasks.exit(actor)?;
        self.forget_the_dead();
        let trace = match process {
            true => format!("/proc/{pid}"),
            false => format!("/proc/{pid}/task/{tid}"),
        };
        let began = Instant::now();
        while Path::new(&trace).exists() {
            if began.elapsed() > END_PATIENCE {
                bail!("{actor} does not end");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.upcall_ended(actor)?;
        Ok(Report { second_after: now().as_secs() as i64, ..report })
    }

    /// The kernel lists its users page by page, and a user that comes or goes between
    /// two pages can hide or double another: what has been read twice is what is there.
    fn read_key_users(&mut self, actor: &str) -> Result<Report> {
        let read = Command::ReadFile("/proc/key-users".to_owned());
        let mut report = self.ask(actor, &read)?;
        if matches!(self.road, Road::Kernel) {
            for _ in 0..READINGS_MAX {
                let again = self.ask(actor, &read)?;
                if self.own_lines(&again.out) == self.own_lines(&report.out) {
                    break;
                }
                report = again;
            }
        }
        Ok(report)
    }

    /// The lines of the history's users.
    fn own_lines(&self, text: &[u8]) -> Vec<String> {
        let first = self.id_base;
        let is_own = |line: &&str| {
            let user = line.split(':').next().and_then(|user| user.trim().parse().ok());
            user.is_some_and(|user: u32| (first..=first + trace::USERS_MAX).contains(&user))
        };
        String::from_utf8_lossy(text).lines().filter(is_own).map(str::to_owned).collect()
    }

    fn forget_the_dead(&mut self) {
        let tasks = &self.tasks;
        self.lines.retain(|name, _| tasks.get(name).is_some());
    }

    fn set_ids(&mut self, actor: &str, which: Which, ids: [u32; 3]) -> Result<Report> {
        let number = match which {
            Which::Uids => libc::SYS_setresuid,
            Which::Gids => libc::SYS_setresgid,
            Which::FsUid => libc::SYS_setfsuid,
            Which::FsGid => libc::SYS_setfsgid,
        };
        let mut report = self.ask(actor, &Command::Plain { number, args: ids.map(u64::from) })?;
        if matches!(which, Which::FsUid | Which::FsGid) {
            report.ret = 0;
        }
        self.tasks.find_mut(actor)?.set_ids(which, ids);
        Ok(report)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn sleep_until(second: u64) {
    let goal = Duration::from_secs(second) + INTO_SECOND;
    std::thread::sleep(goal.saturating_sub(now()));
}

fn plain_report() -> Report {
    let second = now().as_secs() as i64;
    Report { second_before: second, second_after: second, ..Report::default() }
}

fn wait(seconds: u32) -> Report {
    let before = now().as_secs();
    sleep_until(before + u64::from(seconds));
    let second = now().as_secs() as i64;
    Report { second_before: second, second_after: second, ..Report::default() }
}

impl World for ActorWorld {
    fn act(&mut self, actor: &str, deed: &Deed) -> Result<Report> {
        match deed {
            Deed::Call(entry, registers) => self.call(actor, *entry, registers),
            Deed::Fork(name) => self.start(actor, name, true),
            Deed::Thread(name) => self.start(actor, name, false),
            Deed::Exec => self.exec(actor),
            Deed::Exit => self.exit(actor),
            Deed::SetIds(which, ids) => self.set_ids(actor, *which, *ids),
            Deed::SetGroups(groups) => {
                let report = self.ask(actor, &Command::SetGroups(groups.clone()))?;
                if report.ret == 0 {
                    self.tasks.find_mut(actor)?.groups.clone_from(groups);
                }
                Ok(report)
            }
            Deed::Open(ProcText::Keys) => {
                self.ask(actor, &Command::ReadFile("/proc/keys".to_owned()))
            }
            Deed::Open(ProcText::Status) => {
                self.ask(actor, &Command::ReadFile("/proc/thread-self/status".to_owned()))
            }
            Deed::Open(ProcText::KeyUsers) => self.read_key_users(actor),
            Deed::Answer => self.answer(actor),
            Deed::Interrupt => self.interrupt(actor),
            Deed::Arguments => self.arguments(actor),
            Deed::Wait(seconds) => Ok(wait(*seconds)),
        }
    }

    fn is_there(&self, actor: &str, waiting: bool) -> bool {
        self.tasks.get(actor).is_some() && self.waiting.contains_key(actor) == waiting
    }

    fn settle(&mut self) -> Result<()> {
        match self.road {
            Road::Kernel => kernel::settle(),
            Road::Preload(_) | Road::Supervised(_) => Ok(()),
        }
    }

    fn reach(&mut self, second: i64) -> Result<bool> {
        let present = now().as_secs() as i64;
        if present < second {
            sleep_until(second as u64);
        }
        Ok(present <= second)
    }

    fn id_base(&self) -> u32 {
        self.id_base
    }
}

impl Drop for ActorWorld {
    fn drop(&mut self) {
        self.end_upcalls();
        let cleaned = match self.road {
            Road::Kernel => self.clean(),
            Road::Preload(_) | Road::Supervised(_) => Ok(()),
        };
        if let Err(fault) = cleaned {
            eprintln!("user keyrings from id {} on stay behind: {fault:#}", self.id_base);
        }
        self.lines.clear();
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE {
            if !matches!(self.program.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        // Nothing more can be done for a program that outlives even this.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
