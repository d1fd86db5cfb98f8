//! Two sizes for each file: none for stat(2), as the kernel's own have, and one inside
//! the kernel.
//!
//! `sendfile` and `splice` (busybox's `cat`) go through the page cache since Linux 6.5,
//! also where a file is opened for direct reads. In a file without a size they find the
//! end at once, which looks like an empty file. In one with a size they ask us for a page,
//! are refused, and the program reads instead. (The page cache must stay empty: what one
//! opener may see, others may not.)
//!
//! So whatever tells of a file to keep tells the inner size, and a reply to stat must not
//! be kept: a version that is raised while it is under way sees to that. Only a seek to
//! the end asks in order to use what it hears.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use fuser::{FileAttr, INodeNo, Notifier};

/// The size inside: not a whole number of pages, or a store of its last byte would make
/// a page that counts as read.
const INNER_LEN: u64 = 2;
/// Beyond any size that a write to a knob can give it.
const FAR: u64 = 1 << 40;

/// Keeps the sizes apart.
pub(super) struct Sizes {
    /// The way to the kernel, once there is one.
    notifier: Arc<OnceLock<Notifier>>,
    /// The files, by their numbers, whose inner size the kernel has lost.
    lost: AtomicU64,
}

impl Sizes {
    /// No size is lost yet.
    pub(super) fn new(notifier: Arc<OnceLock<Notifier>>) -> Sizes {
        Sizes { notifier, lost: AtomicU64::new(0) }
    }

    /// Facts to keep, with the inner size.
    pub(super) fn inner(&self, facts: FileAttr) -> FileAttr {
        let is_file = facts.kind == fuser::FileType::RegularFile;
        FileAttr { size: if is_file { INNER_LEN } else { 0 }, ..facts }
    }

    /// Has the kernel not keep the facts of the reply that is under way.
    pub(super) fn pass_over(&self, number: INodeNo) {
        // Storing nothing beyond the size raises the version and changes no size.
        self.store(number, FAR, &[]);
    }

    /// Notes that the kernel was told that this file has no size, and has kept it.
    pub(super) fn lose(&self, number: INodeNo) {
        self.lost.fetch_or(1 << number.0, Ordering::Relaxed);
    }

    /// Gives this file its inner size again, if that was lost.
    pub(super) fn restore(&self, number: INodeNo) {
        let bit = 1 << number.0;
        if self.lost.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
            self.store(number, INNER_LEN - 1, &[0]);
        }
    }

    fn store(&self, number: INodeNo, offset: u64, data: &[u8]) {
        let stored = self.notifier.get().map(|notifier| notifier.store(number, offset, data));
        if let Some(Err(error)) = stored {
            tracing::debug!(number = number.0, %error, "the kernel keeps its own size");
        }
    }
}
