//! No signal handler runs while we talk to the broker.
//!
//! A handler that left by `siglongjmp`, or made key calls of its own, would find the
//! conversation in the middle of a frame. All signals are blocked for its time, as
//! they are while the kernel carries out a short call; a signal that the program
//! left to the kernel still ends or stops it when the broker is slow.

use crate::fault::Fault;
use crate::sys;

/// While it lives, every signal of this thread waits.
pub(crate) struct Quiet {
    previous: u64,
}

impl Quiet {
    /// Blocks every signal.
    pub(crate) fn begin() -> Quiet {
        Quiet { previous: sys::block_signals() }
    }

    /// Lets those waiting signals in that no handler takes: they end or stop the
    /// program, or do nothing, and so cannot disturb a conversation.
    pub(crate) fn admit_default_actions(&self) {
        let waiting = sys::pending_signals() & !self.previous;
        let defaults = (0..64)
            .filter(|bit| waiting & (1 << bit) != 0 && sys::is_default_action(bit + 1))
            .fold(0u64, |set, bit| set | 1 << bit);
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
