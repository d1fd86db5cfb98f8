//! No signal handler runs while we talk to the broker.
//!
//! A handler that left by `siglongjmp`, or made key calls of its own, would find the
//! conversation in the middle of a frame. All signals are blocked for its time, as
//! they are while the kernel carries out a short call; a signal that the program
//! left to the kernel still ends or stops it when the broker is slow. A call that waits
//! for a key under construction ends when there is a signal for a handler, which then
//! runs, and begins anew if the handler wants that: so it is for any slow call.

use core::cell::Cell;

use crate::fault::Fault;
use crate::sys::{self, Action};

/// While it lives, every signal of this thread waits.
pub(crate) struct Quiet {
    previous: u64,
    is_broken: Cell<bool>,
}

impl Quiet {
    /// Blocks every signal.
    pub(crate) fn begin() -> Quiet {
        Quiet { previous: sys::block_signals(), is_broken: Cell::new(false) }
    }

    /// The signals that the program does not block itself.
    pub(crate) const fn awaited(&self) -> u64 {
        !self.previous
    }

    /// The first of those waiting signals that a handler takes, by what it does to a call
    /// that it interrupts.
    fn first_handler(&self) -> Option<Action> {
        let waiting = sys::pending_signals() & self.awaited();
        let mut actions = numbers(waiting).map(sys::action_of);
        actions.find(|&action| action != Action::Kernel)
    }

    /// Takes note that the call is to end if a handler is to run, and says so.
    pub(crate) fn is_to_end(&self) -> bool {
        self.admit_default_actions();
        let is_to_end = self.first_handler().is_some();
        self.is_broken.set(self.is_broken.get() || is_to_end);
        is_to_end
    }

    /// True when a signal has ended the call, and it is to begin anew once the handlers
    /// have run: also when another thread has taken the signal meanwhile.
    pub(crate) fn begins_anew(&self) -> bool {
        let restarts = |action| action == Action::Handler { restarts: true };
        self.is_broken.get() && self.first_handler().is_none_or(restarts)
    }

    /// Lets those waiting signals in that no handler takes: they end or stop the
    /// program, or do nothing, and so cannot disturb a conversation.
    pub(crate) fn admit_default_actions(&self) {
        let waiting = sys::pending_signals() & self.awaited();
        let defaults = numbers(waiting)
            .filter(|&signal| sys::action_of(signal) == Action::Kernel)
            .fold(0u64, |set, signal| set | 1 << (signal - 1));
        if defaults != 0 {
            sys::set_signal_mask(!defaults);
            sys::block_signals();
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        sys::set_signal_mask(self.previous);
    }
}

/// The signals of a set, lowest first, as the kernel deals with them.
fn numbers(set: u64) -> impl Iterator<Item = u32> {
    (1..=64).filter(move |signal| set & (1 << (signal - 1)) != 0)
}

/// How long a single wait of a socket lasts before we look after signals.
pub(crate) const SLICE_MS: u32 = 250;

/// The rest of a bounded wait.
pub(crate) struct Patience<'q> {
    quiet: &'q Quiet,
    rest_ms: u32,
}

impl<'q> Patience<'q> {
    /// Waits no longer than that in all.
    pub(crate) const fn new(quiet: &'q Quiet, wait_ms: u32) -> Patience<'q> {
        Patience { quiet, rest_ms: wait_ms }
    }

    /// Who keeps the signals away meanwhile.
    pub(crate) const fn quiet(&self) -> &'q Quiet {
        self.quiet
    }

    /// Takes note that a slice of time went by in vain. Silent when it was the last.
    pub(crate) fn spent(&mut self, slice_ms: u32) -> Result<(), Fault> {
        self.quiet.admit_default_actions();
        self.rest_ms = self.rest_ms.checked_sub(slice_ms).ok_or(Fault::Silent)?;
        Ok(())
    }

    /// Sleeps for a slice.
    pub(crate) fn sleep(&mut self, slice_ms: u32) -> Result<(), Fault> {
        sys::sleep(slice_ms);
        self.spent(slice_ms)
    }
}
