//! What comes back of a call.

use crate::errno::Errno;

/// The value that the call returns, or its error.
pub type Answer = Result<u32, Errno>;

/// An answer, and the bytes for the caller's buffer: never more than the room
/// that the request offered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What the call returns.
    pub answer: Answer,
    /// What goes into the caller's buffer.
    pub data: &'a [u8],
}

impl Reply<'_> {
    /// A reply without data.
    #[must_use]
    pub const fn bare(answer: Answer) -> Reply<'static> {
        Reply { answer, data: &[] }
    }
}

/// Data may be somebody's secret: only its length is shown.
impl core::fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} with {} bytes", self.answer, self.data.len())
    }
}
