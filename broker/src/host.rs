//! The real clock and real randomness, which the core may not have.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use keyshim_keys::{Entropy, Now, SeededEntropy};

/// The present on `CLOCK_REALTIME`, in whole seconds.
pub(crate) fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Fills a buffer with the kernel's randomness. A broker without randomness must
/// not answer, since serials and tokens could then be foretold: it stops.
pub(crate) fn fill_random(buffer: &mut [u8]) {
    if let Err(error) = getrandom::fill(buffer) {
        tracing::error!(%error, "the kernel gives no randomness");
        std::process::abort();
    }
}

/// Sixteen hexadecimal digits, for names that nobody should guess or meet twice.
pub(crate) fn random_name() -> String {
    format!("{:016x}", SystemEntropy.next_u64())
}

/// The kernel's randomness.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// True when the running kernel is of that version or a later one.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname();
    let release =
        release.as_ref().map_or_else(|_| Cow::default(), |u| u.release().to_string_lossy());
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next()) >= (major, minor)
}

/// The generator that a run asked for.
pub(crate) fn entropy(seed: Option<u64>) -> Box<dyn Entropy> {
    match seed {
        Some(seed) => Box::new(SeededEntropy::new(seed)),
        None => Box::new(SystemEntropy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_neither_of_yesterday_nor_of_tomorrow() {
        assert!(kernel_is_at_least(5, 0));
        assert!(!kernel_is_at_least(1000, 0));
    }
}
