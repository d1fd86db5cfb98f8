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
//! be kept: a version that is raised while it is under way sees to that.

use std::sync::{Arc, OnceLock};

use fuser::{FileAttr, FileType, INodeNo, Notifier};

/// The size inside.
const INNER_LEN: u64 = 1;
/// Beyond any size that a write to a knob can give it.
const FAR: u64 = 1 << 40;

/// Facts to keep, with the inner size.
pub(super) fn inner(facts: FileAttr) -> FileAttr {
    let is_file = facts.kind == FileType::RegularFile;
    FileAttr { size: if is_file { INNER_LEN } else { 0 }, ..facts }
}

/// Has the kernel not keep the facts of this file in the reply that is under way.
pub(super) fn pass_over(number: INodeNo, notifier: &Arc<OnceLock<Notifier>>) {
    // Storing nothing beyond the size raises the version and changes no size. (Storing
    // something would wait for the page, which may be waiting for us.)
    let stored = notifier.get().map(|notifier| notifier.store(number, FAR, &[]));
    if let Some(Err(error)) = stored {
        tracing::debug!(number = number.0, %error, "the kernel keeps what it is told of a file");
    }
}
