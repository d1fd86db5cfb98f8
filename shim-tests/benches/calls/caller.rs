//! A process that makes calls when it is told to: where its calls go is decided by
//! what it was started under. One line of commands, one of times.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bare;
use crate::fixture::PAYLOAD;
use crate::measure::timed;
use crate::road::Road;
use crate::role::Role;

/// Says which filter a caller is to put over itself.
const FILTER: &str = "KEYSHIM_BENCH_FILTER";
/// Threads that call at once in the rows for many.
pub(crate) const MANY: u8 = 8;
/// Getppid calls that are timed together.
pub(crate) const GETPPIDS: u32 = 1000;
/// How long one caller calls at a time; the kernel gives each of many about as much
/// before another has its turn.
const TURN: Duration = Duration::from_millis(1);
const TURN_OF_MANY: Duration = Duration::from_millis(16);

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Read = 1,
    Update = 2,
    Getppid = 3,
}

/// The filter that a caller puts over itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Traps the key calls, with a listener.
    Bare,
    /// Allows everything.
    Empty,
}

/// A caller at work.
pub(crate) struct Caller {
    process: Child,
    commands: ChildStdin,
    times: ChildStdout,
    /// What it calls its listener.
    pub(crate) listener: Option<i32>,
}

impl Caller {
    /// Starts one, by a command that is to end in this program's name.
    pub(crate) fn start(mut command: Command, filter: Option<Filter>) -> Result<Caller> {
        Role::Caller.give(&mut command);
        command.env_remove("LD_PRELOAD").env_remove("KEYSHIM_SOCKET").env_remove(FILTER);
        match filter {
            Some(Filter::Bare) => _ = command.env(FILTER, "bare"),
            Some(Filter::Empty) => _ = command.env(FILTER, "empty"),
            None => {}
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("starting a caller")?;
        let commands = process.stdin.take().context("no pipe")?;
        let mut times = process.stdout.take().context("no pipe")?;
        let mut listener = [0; 4];
        times.read_exact(&mut listener).context("a caller cannot begin")?;
        let listener = Some(i32::from_ne_bytes(listener)).filter(|&fd| fd >= 0);
        Ok(Caller { process, commands, times, listener })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has so many threads call for a turn: nanoseconds of every call.
    pub(crate) fn turn(&mut self, kind: Kind, threads: u8) -> Result<Vec<f64>> {
        self.commands.write_all(&[kind as u8, threads])?;
        let mut count = [0; 8];
        self.times.read_exact(&mut count).context("a caller has ended: see above")?;
        let mut bytes = vec![0; 8 * u64::from_ne_bytes(count) as usize];
        self.times.read_exact(&mut bytes)?;
        ensure!(!bytes.is_empty(), "a caller made no call");
        let times = bytes.chunks_exact(8).filter_map(|time| time.try_into().ok());
        Ok(times.map(f64::from_ne_bytes).collect())
    }

    /// Ends it and waits for that.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.commands);
        self.process.wait()?;
        Ok(())
    }
}

/// What a caller does until there are no more commands.
pub(crate) fn serve() -> Result<()> {
    let listener = match std::env::var(FILTER).ok().as_deref() {
        Some("bare") => bare::trap_key_calls()?,
        Some("empty") => bare::allow_everything().map(|()| -1)?,
        _ => -1,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&listener.to_ne_bytes())?;
    out.flush()?;
    let mut gang: Option<Gang> = None;
    let mut key = None;
    while let Some((kind, threads)) = next_command()? {
        let key = match (kind, key) {
            (Kind::Getppid, _) => 0,
            (_, Some(key)) => key,
            (_, None) => *key.insert(make_key()?),
        };
        let times = match threads {
            1 => turn(kind, key, TURN)?,
            _ => gang.get_or_insert_with(|| Gang::gather(key, threads)).turn(kind)?,
        };
        out.write_all(&(times.len() as u64).to_ne_bytes())?;
        out.write_all(&times.iter().flat_map(|time| time.to_ne_bytes()).collect::<Vec<u8>>())?;
        out.flush()?;
    }
    Ok(())
}

fn next_command() -> Result<Option<(Kind, u8)>> {
    let mut command = [0; 2];
    match std::io::stdin().read_exact(&mut command) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let kinds = [Kind::Read, Kind::Update, Kind::Getppid];
    let kind = kinds.into_iter().find(|&kind| kind as u8 == command[0]);
    Ok(Some((kind.context("no such command")?, command[1])))
}

/// A key in a session keyring of its own, which goes with this process.
fn make_key() -> Result<i64> {
    let session = Road::Keyshim.join_session_keyring();
    let key = Road::Keyshim.add_key(c"user", c"bench:trapped", PAYLOAD, session);
    ensure!(session > 0 && key > 0, "no key to call for: {session}, {key}");
    Ok(key)
}

fn turn(kind: Kind, key: i64, length: Duration) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < length {
        times.push(call(kind, key)? as f64);
    }
    Ok(times)
}

fn call(kind: Kind, key: i64) -> Result<u64> {
    let mut payload = [0; 64];
    let (value, took_ns) = match kind {
        Kind::Read => timed(|| Road::Keyshim.read(key, &mut payload)),
        Kind::Update => timed(|| Road::Keyshim.update(key, PAYLOAD)),
        Kind::Getppid => timed(|| (0..GETPPIDS).fold(0, |_, _| bare::getppid())),
    };
    let is_right = match kind {
        Kind::Read => value == PAYLOAD.len() as i64 && payload.starts_with(PAYLOAD),
        Kind::Update => value == 0,
        Kind::Getppid => value > 0,
    };
    if !is_right {
        bail!("{kind:?} returned {value}");
    }
    Ok(took_ns)
}

/// Threads that begin each turn together.
struct Gang {
    begin: Arc<Barrier>,
    order: Arc<Mutex<Kind>>,
    end: Arc<Barrier>,
    times: Arc<Mutex<Vec<Result<Vec<f64>>>>>,
}

impl Gang {
    fn gather(key: i64, threads: u8) -> Gang {
        let barrier = || Arc::new(Barrier::new(usize::from(threads) + 1));
        let (begin, end) = (barrier(), barrier());
        let (order, times) = (Arc::new(Mutex::new(Kind::Read)), Arc::default());
        let gang = Gang { begin, order, end, times };
        for _ in 0..threads {
            let Gang { begin, order, end, times } = &gang;
            let (begin, order) = (Arc::clone(begin), Arc::clone(order));
            let (end, times) = (Arc::clone(end), Arc::clone(times));
            // They end with the process.
            std::thread::spawn(move || {
                loop {
                    begin.wait();
                    let kind = *order.lock().unwrap_or_else(PoisonError::into_inner);
                    let done = turn(kind, key, TURN_OF_MANY);
                    times.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                    end.wait();
                }
            });
        }
        gang
    }

    fn turn(&self, kind: Kind) -> Result<Vec<f64>> {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = kind;
        self.begin.wait();
        self.end.wait();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times: Result<Vec<_>> = times.drain(..).collect();
        Ok(times?.into_iter().flatten().collect())
    }
}
