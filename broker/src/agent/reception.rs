//! Where runtimes call: takes one state with its descriptors from each connection.
//!
//! Nobody who calls can hold up the others: nothing here waits for one of them, each
//! has a time and a length, and of one user's too many the eldest goes. Silence is no
//! offence: `crun create` connects at once and speaks when the container is started,
//! which may be tomorrow.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{SockFlag, accept4, getsockopt};

use super::protocol::{self, Extent, Introduction, Refusal, STATE_LEN_MAX};
use crate::fault::Fault;
use crate::run::signals::Signals;
use crate::sys;

/// Callers that have not finished at any one time.
const CALLERS_MAX: usize = 2048;
/// Those of one user.
const CALLERS_PER_USER_MAX: usize = 512;
/// How long a caller may take once it has begun. Runtimes say all at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Callers let in before those who are in have their turn again.
const CALLERS_AT_ONCE: usize = 64;
/// Bytes taken at once.
const CHUNK_LEN: usize = 64 * 1024;
/// How long to wait for a free descriptor before the next caller is taken.
const BREATH: Duration = Duration::from_millis(100);

/// A container that was handed in.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// What its runtime says of it.
    pub(crate) introduction: Introduction,
    /// As whom the runtime connected.
    pub(crate) owner: u32,
    /// Its filter's listener.
    pub(crate) listener: OwnedFd,
}

/// A connection that has not said everything.
struct Caller {
    socket: OwnedFd,
    owner: u32,
    /// Since when it speaks, if it has begun.
    since: Option<Instant>,
    text: Vec<u8>,
    extent: Extent,
    descriptors: Vec<OwnedFd>,
}

/// The listening sockets and who calls at them.
pub(crate) struct Reception {
    doors: Vec<OwnedFd>,
    /// The eldest first.
    callers: VecDeque<Caller>,
    chunk: Vec<u8>,
    /// Not to take callers before then: there was no descriptor for one.
    closed_until: Option<Instant>,
}

/// What one look at the sockets has brought.
pub(crate) enum News {
    /// A container.
    Arrival(Arrival),
    /// Descriptors that nobody wants, to be closed where it may take its time.
    Unwanted(Vec<OwnedFd>),
}

impl Reception {
    /// Receives at these sockets.
    pub(crate) fn new(doors: Vec<OwnedFd>) -> Reception {
        let (callers, chunk) = (VecDeque::new(), vec![0; CHUNK_LEN]);
        Reception { doors, callers, chunk, closed_until: None }
    }

    /// Receives until a signal says stop.
    pub(crate) fn attend(
        &mut self,
        signals: &Signals,
        mut report: impl FnMut(News),
    ) -> Result<(), Fault> {
        loop {
            let ready = self.wait(signals)?;
            if ready.first() == Some(&true) && signals.ask_to_stop() {
                return Ok(());
            }
            let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            // The callers of before: taking new ones shifts them.
            let ready_callers = (0..self.callers.len()).map(|at| is_ready(1 + at)).collect();
            self.hear(ready_callers, &mut report);
            self.take_callers(&mut report);
        }
    }

    /// Waits until there is something to do: whether the signals are ready, then
    /// whether each caller is.
    fn wait(&self, signals: &Signals) -> Result<Vec<bool>, Fault> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let doors = if self.closed_until.is_none() { self.doors.as_slice() } else { &[] };
        let mut fds = vec![readable(signals.as_fd())];
        fds.extend(self.callers.iter().map(|caller| readable(caller.socket.as_fd())));
        fds.extend(doors.iter().map(|door| readable(door.as_fd())));
        let patience = self.callers.iter().filter_map(|caller| caller.since).map(|s| s + PATIENCE);
        let due = patience.chain(self.closed_until).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let rest = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(fds.iter().map(|fd| fd.any() == Some(true)).collect()),
            Err(errno) => Err(Fault::system("cannot wait for runtimes", "report this")(errno)),
        }
    }

    /// Listens to those callers who have said something, and parts with those who are
    /// through or have had their time.
    fn hear(&mut self, ready: Vec<bool>, report: &mut impl FnMut(News)) {
        for is_ready in ready {
            let Some(mut caller) = self.callers.pop_front() else { return };
            let heard = match is_ready {
                true => caller.hear(&mut self.chunk),
                false if caller.is_late() => Err(Refusal::Slow),
                false => Ok(None),
            };
            match heard {
                Ok(None) => self.callers.push_back(caller),
                Ok(Some(introduction)) => report_arrival(caller, introduction, report),
                Err(refusal) => caller.turn_away(refusal, report),
            }
        }
    }

    fn take_callers(&mut self, report: &mut impl FnMut(News)) {
        if self.closed_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.closed_until = None;
        for door in 0..self.doors.len() {
            for _ in 0..CALLERS_AT_ONCE {
                let Some(caller) = self.take_caller(door) else { break };
                if let Some(unlucky) = self.make_room(&caller) {
                    unlucky.turn_away(Refusal::Crowded, report);
                }
                self.callers.push_back(caller);
            }
        }
    }

    /// Whoever has to go when that caller is let in: the eldest of its user's, or of
    /// all.
    fn make_room(&mut self, newcomer: &Caller) -> Option<Caller> {
        let is_same = |caller: &&Caller| caller.owner == newcomer.owner;
        let count = self.callers.iter().filter(is_same).count();
        let at = match count >= CALLERS_PER_USER_MAX {
            true => self.callers.iter().position(|caller| is_same(&caller)),
            false => (self.callers.len() >= CALLERS_MAX).then_some(0),
        };
        at.and_then(|at| self.callers.remove(at))
    }

    fn take_caller(&mut self, door: usize) -> Option<Caller> {
        let door = self.doors.get(door)?;
        let mut fds = [PollFd::new(door.as_fd(), PollFlags::POLLIN)];
        // Blocking mode is the service manager's business; a caller may have left.
        if poll(&mut fds, PollTimeout::ZERO) != Ok(1) {
            return None;
        }
        match accept4(door.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(socket) => Caller::new(sys::adopt(socket)),
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                tracing::warn!("no descriptor is left for another runtime; it waits");
                self.closed_until = Some(Instant::now() + BREATH);
                None
            }
            Err(_) => None,
        }
    }
}

impl Caller {
    fn new(socket: OwnedFd) -> Option<Caller> {
        let owner = getsockopt(&socket, PeerCredentials).ok()?.uid();
        let (text, extent, descriptors) = (Vec::new(), Extent::default(), Vec::new());
        Some(Caller { socket, owner, since: None, text, extent, descriptors })
    }

    /// True when it has begun too long ago.
    fn is_late(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// Takes what has come; the introduction once it is complete.
    fn hear(&mut self, chunk: &mut [u8]) -> Result<Option<Introduction>, Refusal> {
        let received = sys::receive_with_descriptors(self.socket.as_fd(), chunk);
        let (len, descriptors) = match received {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(_) => (0, Vec::new()),
        };
        // With later pieces none may come.
        let is_first = self.text.is_empty();
        self.since = self.since.or_else(|| Some(Instant::now()));
        let is_misplaced = !is_first && !descriptors.is_empty();
        self.descriptors.extend(descriptors);
        let piece = chunk.get(..len).unwrap_or_default();
        match piece {
            [] if is_first => return Err(Refusal::Silent),
            [] => return Err(Refusal::Half),
            _ if is_misplaced => return Err(Refusal::Miscounted),
            _ if self.text.len() + len > STATE_LEN_MAX => return Err(Refusal::TooLong),
            _ => self.text.extend_from_slice(piece),
        }
        let Some(end) = self.extent.end_in(piece)? else { return Ok(None) };
        let end = self.text.len() - piece.len() + end;
        let (state, rest) = self.text.split_at(end);
        if !rest.trim_ascii().is_empty() {
            return Err(Refusal::NotAnObject);
        }
        let introduction = protocol::read(state, self.descriptors.len())?;
        let listener = self.descriptors.get(introduction.listener_at);
        match listener.is_some_and(protocol::is_listener) {
            true => Ok(Some(introduction)),
            false => Err(Refusal::NotAListener),
        }
    }

    fn turn_away(self, refusal: Refusal, report: &mut impl FnMut(News)) {
        match refusal {
            Refusal::Silent => tracing::debug!(uid = self.owner, "a runtime left: {refusal}"),
            _ => tracing::warn!(uid = self.owner, "no container comes of a connection: {refusal}"),
        }
        if !self.descriptors.is_empty() {
            report(News::Unwanted(self.descriptors));
        }
    }
}

fn report_arrival(mut caller: Caller, said: Introduction, report: &mut impl FnMut(News)) {
    let listener = caller.descriptors.swap_remove(said.listener_at);
    if !caller.descriptors.is_empty() {
        report(News::Unwanted(caller.descriptors));
    }
    report(News::Arrival(Arrival { introduction: said, owner: caller.owner, listener }));
}
