//! Whether key calls can be caught in the kernel here: found out by a child that is
//! thrown away, before any program depends on it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use keyshim_abi::gate::{GATES, Gate};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::channel::{self, Listener, Word};
use super::{filter, notify, trial};
use crate::fault::Fault;
use crate::{server, sys};

/// What the child's call is to return, so that it is known for our answer.
const OUR_ANSWER: i64 = 0x6b73;
/// How long the child is waited for, in milliseconds; it makes three system calls.
const PATIENCE_MS: u16 = 5_000;

/// What became of a call under a filter of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It came to us.
    Caught,
    /// It returned something that we had not said: somebody above us answers first,
    /// or nobody asks our filter.
    Answered(i64),
    /// There is no filter to be had.
    Refused(Errno),
    /// It was its caller's death, by the signal of this number.
    Killed(i32),
    /// This machine has such a gate, and we no way to try it.
    NotTried,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trial {
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// The child had to give up for it what execve could gain.
    pub(crate) has_renounced: bool,
}

/// Tries the machine's own gate.
pub(crate) fn try_native() -> Result<Trial, Fault> {
    let gate = GATES.first().ok_or_else(|| {
        Fault::Told("no way into this machine's kernel is known; say --mode preload".to_owned())
    })?;
    try_gate(gate)
}

/// Tries one gate of this machine.
pub(crate) fn try_gate(gate: &'static Gate) -> Result<Trial, Fault> {
    // A parent may have had us ignore it: then nobody could be waited for.
    sys::default_action(Signal::SIGCHLD)
        .map_err(Fault::system("cannot attend to children", "report this"))?;
    let (ours, theirs) = channel::pair()?;
    let program = filter::program(GATES)?;
    // Starting the child does not return before it has ended, and somebody must
    // answer it meanwhile.
    let child = server::spawn("trial".to_owned(), move || {
        let mut command = Command::new("/proc/self/exe");
        trial::begin(&mut command, program, theirs, gate);
        command.spawn().and_then(|mut child| child.wait()).ok()
    })?;
    let seen = attend(&ours);
    let ended = if seen.has_ended { child.join().ok().flatten() } else { None };
    Ok(Trial { outcome: seen.outcome(ended), has_renounced: seen.has_renounced })
}

/// What is seen of a child.
#[derive(Default)]
struct Seen {
    has_called: bool,
    has_renounced: bool,
    has_ended: bool,
    refused: Option<Errno>,
    returned: Option<i64>,
}

impl Seen {
    fn outcome(&self, ended: Option<ExitStatus>) -> Outcome {
        let signal = ended.and_then(|status| status.signal());
        match (self.refused, self.returned, signal) {
            (Some(errno), ..) => Outcome::Refused(errno),
            (_, Some(OUR_ANSWER), _) if self.has_called => Outcome::Caught,
            (_, Some(value), _) => Outcome::Answered(value),
            (_, _, Some(signal)) => Outcome::Killed(signal),
            _ => Outcome::NotTried,
        }
    }
}

/// Listens to the child, and answers its call, until it has ended.
fn attend(channel: &OwnedFd) -> Seen {
    let mut seen = Seen::default();
    let mut listener: Option<Listener> = None;
    loop {
        let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        fds.extend(listener.iter().map(|one| PollFd::new(one.fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            _ => return seen,
        }
        let events =
            |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (word, call) = (events(0), events(1));
        if call.contains(PollFlags::POLLIN) {
            seen.has_called |= listener.as_ref().is_some_and(answer);
        } else if !call.is_empty() {
            // Nobody is left under the filter.
            listener = None;
        }
        if word.is_empty() {
            continue;
        }
        match channel::next(channel) {
            Some(Word::Installed(new)) => {
                seen.has_renounced = new.installed.has_renounced;
                listener = Some(new);
            }
            Some(Word::Refused(errno)) => seen.refused = Some(errno),
            Some(Word::Returned(value)) => seen.returned = Some(value),
            None => {
                seen.has_ended = true;
                return seen;
            }
        }
    }
}

fn answer(listener: &Listener) -> bool {
    let call = notify::receive(listener.fd.as_fd());
    call.and_then(|call| notify::answer(listener.fd.as_fd(), call.id, OUR_ANSWER)).is_ok()
}

/// What it means, for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Outcome::Caught => f.write_str("a call was caught in the kernel"),
            Outcome::Answered(value) => match i32::try_from(value).ok().filter(|v| *v < 0) {
                Some(errno) if errno == -libc::EOPNOTSUPP => {
                    f.write_str("a filter was accepted, and a call reached the kernel all the same")
                }
                Some(errno) => write!(
                    f,
                    "a filter above us answers {} before ours is asked",
                    name(Errno::from_raw(-errno))
                ),
                None => write!(f, "somebody above us answers {value} before our filter is asked"),
            },
            Outcome::Refused(Errno::EBUSY) => {
                f.write_str("a filter above us has a listener, and there can be only one (EBUSY)")
            }
            Outcome::Refused(errno @ (Errno::EPERM | Errno::EACCES)) => {
                write!(f, "we may not put a program under a filter ({})", name(errno))
            }
            Outcome::Refused(errno) => {
                write!(f, "this kernel has no filters with a listener ({})", name(errno))
            }
            Outcome::Killed(libc::SIGSYS) => {
                f.write_str("a filter above us kills whoever makes a key call")
            }
            Outcome::Killed(libc::SIGSEGV) => f.write_str("this kernel has no such entry"),
            Outcome::Killed(signal) => write!(f, "signal {signal} ends whoever makes a key call"),
            Outcome::NotTried => f.write_str("could not be tried from here"),
        }
    }
}

/// The symbol of an error number.
fn name(errno: Errno) -> String {
    format!("{errno:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(returned: Option<i64>) -> Seen {
        Seen { has_called: true, returned, ..Seen::default() }
    }

    #[test]
    fn an_answer_counts_as_ours_only_when_we_gave_it() {
        assert_eq!(seen(Some(OUR_ANSWER)).outcome(None), Outcome::Caught);
        let unasked = Seen { has_called: false, ..seen(Some(OUR_ANSWER)) };
        assert_eq!(unasked.outcome(None), Outcome::Answered(OUR_ANSWER));
        assert_eq!(seen(Some(-1)).outcome(None), Outcome::Answered(-1));
        assert_eq!(seen(None).outcome(None), Outcome::NotTried);
        let killed = Some(ExitStatus::from_raw(libc::SIGSYS));
        assert_eq!(seen(None).outcome(killed), Outcome::Killed(libc::SIGSYS));
    }

    #[test]
    fn every_gate_can_be_tried_to_an_end() {
        for gate in GATES {
            let outcome = try_gate(gate).unwrap().outcome;
            let is_narrow = gate.width == keyshim_abi::marshal::Width::Bits32;
            assert!(outcome != Outcome::NotTried || is_narrow, "{gate:?}");
        }
    }

    #[test]
    fn every_outcome_says_what_it_means() {
        let told = |outcome: Outcome| outcome.to_string();
        assert!(told(Outcome::Answered(-1)).contains("answers EPERM"));
        assert!(told(Outcome::Answered(-i64::from(libc::EOPNOTSUPP))).contains("all the same"));
        assert!(told(Outcome::Refused(Errno::EBUSY)).contains("EBUSY"));
        assert!(told(Outcome::Refused(Errno::EINVAL)).contains("no filters"));
        assert!(told(Outcome::Killed(libc::SIGSYS)).contains("kills"));
        assert!(told(Outcome::Answered(7)).contains('7'));
    }
}
