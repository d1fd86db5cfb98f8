//! The real clock and real randomness, which the core may not have.

use std::time::{SystemTime, UNIX_EPOCH};

use keyshim_keys::{Entropy, Now};

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

/// The same numbers for the same seed, so that a run can be repeated. `SplitMix64`
/// (Steele, Lea, Flood 2014): one addition and one mixing step a number. Not for
/// secrets; tokens always come from the kernel.
pub(crate) struct SeededEntropy(u64);

impl SeededEntropy {
    /// A generator at the beginning of that seed's sequence.
    pub(crate) const fn new(seed: u64) -> SeededEntropy {
        SeededEntropy(seed)
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
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
    fn a_seed_gives_the_published_sequence() {
        let mut entropy = SeededEntropy::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| entropy.next_u64()).collect();
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, published);
    }
}
