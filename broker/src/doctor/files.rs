//! Whether programs find their keys in `/proc` without the library.

use super::Finding;
use crate::procfiles;

/// Tries to put files of ours there.
pub(super) fn finding() -> Finding {
    const WHAT: &str = "files in /proc";
    match procfiles::rehearse() {
        Ok(()) => Finding::good(WHAT, "ours, for every program, in the modes seccomp and both"),
        Err(fault) => Finding::lacking(
            WHAT,
            "ours by the library only; the kernel's otherwise",
            fault.to_string(),
        ),
    }
}
