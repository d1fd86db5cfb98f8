//! Which users the actors of a history are.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::trace;

/// User ids that no other history of this run has, and of another run only one long
/// ago; seven digits each so that texts with ids in them are of one length everywhere.
pub(super) fn next_base() -> u32 {
    const IDS: u32 = trace::USERS_MAX + 1;
    const BASES: u32 = 9_000_000 / IDS;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    let first = std::process::id().wrapping_mul(0x9e37_79b9);
    1_000_000 + first.wrapping_add(turn) % BASES * IDS
}

/// The same, but for users whose keys the kernel still has: those of a history that was killed.
pub(super) fn unused_base() -> u32 {
    let users = std::fs::read_to_string("/proc/key-users").unwrap_or_default();
    let is_used = |base: &u32| {
        let ids = users.lines().filter_map(|line| line.split(':').next()?.trim().parse().ok());
        ids.into_iter().any(|id: u32| (*base..=*base + trace::USERS_MAX).contains(&id))
    };
    loop {
        let base = next_base();
        if !is_used(&base) {
            return base;
        }
    }
}
