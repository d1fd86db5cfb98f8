//! Bytes as text.

use crate::wire::{Report, UNTOUCHED};

/// Bytes longer than this are shown as a length and a hash.
const SHOWN_LEN_MAX: usize = 64;

/// So many letters, for payloads and descriptions whose length is what matters.
#[must_use]
pub fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|index| b'a' + (index % 23) as u8).collect()
}

/// The length, when these bytes are filler and longer than would be shown.
#[must_use]
pub fn filler_len(bytes: &[u8]) -> Option<usize> {
    (bytes.len() > SHOWN_LEN_MAX && bytes == filler(bytes.len())).then_some(bytes.len())
}

pub(super) fn bytes(bytes: &[u8]) -> String {
    if let Some(len) = filler_len(bytes) {
        return format!("filler:{len}");
    }
    if bytes.len() > SHOWN_LEN_MAX {
        return format!("{} bytes, hash {:x}", bytes.len(), hash(bytes));
    }
    format!("\"{}\"", bytes.escape_ascii())
}

/// An answer longer than its room: how long, and what was copied all the same.
pub(super) fn short(report: &Report) -> String {
    let touched = report.out.iter().rposition(|&byte| byte != UNTOUCHED).map_or(0, |at| at + 1);
    let copied = &report.out[..touched];
    match copied.is_empty() {
        true => format!("{} bytes", report.ret),
        false => format!("{} bytes, copied {}", report.ret, bytes(copied)),
    }
}

/// FNV-1a: equal in every world and every run.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
