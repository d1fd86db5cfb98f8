//! Signals and children while a program runs.
//!
//! What the terminal sends (an interrupt, a hang-up) has reached the program
//! already, which is in the same process group; what somebody sends to us is meant
//! for the program, and is handed on. Stop and continue are left to the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::spawn::Outcome;
use crate::fault::Fault;
use crate::keyfs::keeper;
use crate::sys;

/// Signals that are handed on.
const HANDED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGIO,
    Signal::SIGPWR,
];
/// `si_code` of a signal that the kernel sent, as for a key at the terminal.
const SI_KERNEL: i32 = 0x80;

/// The signals of this process, taken one by one.
pub(crate) struct Signals {
    fd: SignalFd,
    /// The mask before we took them: what a program is to begin with.
    pub(crate) before: SigSet,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Signals {
    /// Takes the signals from here on; to be called before the first thread.
    pub(crate) fn take() -> Result<Signals, Fault> {
        let next = "report this";
        // A parent may have had us ignore it: then nobody could be waited for.
        sys::default_action(Signal::SIGCHLD)
            .map_err(Fault::system("cannot attend to children", next))?;
        let set: SigSet = HANDED_ON.into_iter().chain([Signal::SIGCHLD]).collect();
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let before = before.map_err(Fault::system("cannot block signals", next))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC);
        let fd = fd.map_err(Fault::system("cannot make a signalfd", next))?;
        Ok(Signals { fd, before })
    }

    /// Hands signals on to the program until its last process has gone: how the
    /// program itself ended. Once it has, a signal ends the waiting for the rest.
    pub(crate) fn attend(&self, program: u32) -> Result<Outcome, Fault> {
        let mut outcome = None;
        while reap(program, &mut outcome) {
            if outcome.is_some() {
                keeper::dismiss();
            }
            let Some(info) = self.next()? else { continue };
            let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { continue };
            if signal == Signal::SIGCHLD {
                continue;
            }
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if info.ssi_code != SI_KERNEL {
                let _ = kill(Pid::from_raw(program as i32), signal);
            }
        }
        outcome.ok_or_else(|| Fault::Told("the program vanished unseen; report this".into()))
    }

    /// Takes a signal that has come: true when it asks a service to stop.
    pub(crate) fn ask_to_stop(&self) -> bool {
        let stops = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];
        let signal = self.next().ok().flatten();
        let signal = signal.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok());
        signal.is_some_and(|signal| stops.contains(&signal))
    }

    fn next(&self) -> Result<Option<libc::signalfd_siginfo>, Fault> {
        match self.fd.read_signal() {
            Ok(info) => Ok(info),
            Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(Fault::system("cannot take a signal", "report this")(errno)),
        }
    }
}

/// Takes leave of the children that have ended; false when there are none left.
fn reap(program: u32, outcome: &mut Option<Outcome>) -> bool {
    loop {
        match sys::reap() {
            Ok(Some((pid, status))) if pid == program => *outcome = Some(Outcome::of(status)),
            Ok(Some(_)) | Err(Errno::EINTR) => (),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
