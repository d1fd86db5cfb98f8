//! The present, as an argument.

/// Seconds since 1970 on the clock that expiry is judged by (`CLOCK_REALTIME`).
/// Whole seconds, because the kernel compares no finer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub i64);

impl Now {
    /// That many seconds later.
    #[must_use]
    pub const fn plus(self, seconds: u32) -> Now {
        Now(self.0.saturating_add(seconds as i64))
    }
}
