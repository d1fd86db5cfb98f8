//! What the length of a serial changes: `_req.N` names a helper's session keyring by a
//! serial in decimal, and its name is charged, and counts in how much room it wants.

use crate::step::Action;

/// Bytes by which the charges of a user may differ: two for each keyring that is alive.
const BYTES_MAX: u32 = 16;

/// Bytes by which two descriptions of one such keyring may differ.
const DIGITS_MAX: u32 = 9;

/// True for two readings of `/proc/key-users`, or two lengths of a description that was
/// not copied, that differ in such bytes alone.
pub(super) fn excuses(action: &Action, kernel: &str, other: &str) -> bool {
    match action {
        Action::KeyUsers => same_but_for_charges(kernel, other),
        Action::Call(call) if call.verb.name.starts_with("describe") => {
            same_but_for_length(kernel, other)
        }
        _ => false,
    }
}

fn same_but_for_length(kernel: &str, other: &str) -> bool {
    let len = |text: &str| text.strip_suffix(" bytes")?.parse::<u32>().ok();
    let lens = len(kernel).zip(len(other));
    lens.is_some_and(|(one, two)| one.abs_diff(two) <= DIGITS_MAX)
}

fn same_but_for_charges(kernel: &str, other: &str) -> bool {
    let (kernel, other): (Vec<_>, Vec<_>) = (charges(kernel).collect(), charges(other).collect());
    kernel.len() == other.len()
        && kernel.iter().zip(&other).all(|(one, two)| match (one, two) {
            (Some((counts, len)), Some((others, other_len))) => {
                counts == others && len.abs_diff(*other_len) <= BYTES_MAX
            }
            _ => false,
        })
}

/// Of each user, what stands before the bytes, and the bytes.
fn charges(text: &str) -> impl Iterator<Item = Option<(&str, u32)>> {
    text.split(" | ").map(|line| {
        let (counts, bytes) = line.rsplit_once(' ')?;
        Some((counts, bytes.split('/').next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_and_only_a_few_are_excused() {
        let excuses = |one, two| excuses(&Action::KeyUsers, one, two);
        assert!(excuses(
            "$1: 5/5 5/200 57/20000 | $2: 1/1 0/200 0/20000",
            "$1: 5/5 5/200 59/20000 | $2: 1/1 0/200 0/20000"
        ));
        assert!(!excuses("$1: 5/5 5/200 57/20000", "$1: 5/5 5/200 77/20000"));
        assert!(!excuses("$1: 5/5 5/200 57/20000", "$1: 5/5 6/200 57/20000"));
        assert!(!excuses("$1: 5/5 5/200 57/20000", "$2: 5/5 5/200 57/20000"));
        assert!(!super::excuses(&Action::ProcKeys, "a 1/2", "a 2/2"));
        assert!(same_but_for_length("48 bytes", "49 bytes"));
        assert!(!same_but_for_length("48 bytes", "58 bytes"));
        assert!(!same_but_for_length("48 bytes", "EACCES"));
    }
}
