//! Permission masks as file modes, and back. A mode has no room for VIEW, LINK, SETATTR and
//! the possessor: what it does not show it leaves as it is.

use keyshim_abi::{Need, Perm};

const READ: u8 = Need::Read as u8;
const WRITE: u8 = Need::Write as u8;
const SEARCH: u8 = Need::Search as u8;
const VIEW: u8 = Need::View as u8;

/// The nine bits that show a mask. What a possessor may is the owner's as well, since owners
/// usually possess.
pub(super) fn of(perm: Perm, is_keyring: bool) -> u16 {
    let class = |byte| class_mode(byte, is_keyring);
    class(perm.user_byte() | perm.possessor_byte()) << 6
        | class(perm.group_byte()) << 3
        | class(perm.other_byte())
}

fn class_mode(byte: u8, is_keyring: bool) -> u16 {
    let bit = |right: u8, bit: u16| if byte & right != 0 { bit } else { 0 };
    let search = if is_keyring { bit(SEARCH, 1) } else { 0 };
    bit(READ, 4) | bit(WRITE, 2) | search
}

/// The mask after a change of the mode that it is shown by.
pub(super) fn changed(perm: Perm, is_keyring: bool, mode: u32) -> Perm {
    let before = u32::from(of(perm, is_keyring));
    let class = |byte: u8, shift: u32| {
        let bits = |mode: u32| rights(mode >> shift, is_keyring);
        let (old, new) = (bits(before), bits(mode));
        (byte & !(old & !new)) | (new & !old)
    };
    let possessor = match perm.possessor_byte() {
        0 => 0,
        byte => class(byte, 6),
    };
    let bytes = [
        possessor,
        class(perm.user_byte(), 6),
        viewed(perm.group_byte(), class(perm.group_byte(), 3)),
        viewed(perm.other_byte(), class(perm.other_byte(), 0)),
    ];
    Perm(u32::from_be_bytes(bytes))
}

/// Three bits of a mode as rights. A key that is no keyring has no third.
fn rights(bits: u32, is_keyring: bool) -> u8 {
    let right = |bit: u32, right: u8| if bits & bit != 0 { right } else { 0 };
    right(4, READ) | right(2, WRITE) | if is_keyring { right(1, SEARCH) } else { 0 }
}

/// A class that has gained anything may look; one that has lost everything may not.
fn viewed(before: u8, after: u8) -> u8 {
    let shown = READ | WRITE | SEARCH;
    match (before & shown, after & shown) {
        (old, new) if old == new => after,
        (_, 0) => after & !VIEW,
        _ => after | VIEW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What add_key gives.
    const KEY: Perm = Perm(0x3f01_0000);

    #[test]
    fn a_new_key_is_its_owners() {
        assert_eq!((of(KEY, false), of(KEY, true)), (0o600, 0o700));
    }

    #[test]
    fn the_same_mode_changes_nothing() {
        for raw in [0x3f01_0000, 0x3f3f_0102, 0x0f0b_0301, 0, 0x3f3f_3f3f] {
            let perm = Perm(raw);
            for is_keyring in [false, true] {
                let mode = u32::from(of(perm, is_keyring));
                assert_eq!(changed(perm, is_keyring, mode), perm, "{perm:?}");
            }
        }
    }

    #[test]
    fn what_is_given_can_be_looked_at_and_what_is_taken_cannot() {
        let given = changed(KEY, false, 0o640);
        assert_eq!(given, Perm(0x3f01_0300));
        assert_eq!(changed(given, false, 0o600), KEY);
        assert_eq!(changed(KEY, true, 0o705), Perm(0x3f01_000b));
    }

    #[test]
    fn what_is_taken_from_the_owner_is_taken_from_the_possessor() {
        assert_eq!(changed(KEY, false, 0o400), Perm(0x3b01_0000));
        assert_eq!(changed(Perm(0x3b01_0000), false, 0o600), Perm(0x3f05_0000));
    }

    #[test]
    fn where_a_possessor_has_nothing_it_gets_nothing() {
        assert_eq!(changed(Perm(0x0001_0000), false, 0o600), Perm(0x0007_0000));
    }

    #[test]
    fn a_mode_is_shown_as_it_was_asked_for() {
        for mode in 0..=0o777 {
            let shown = |is_keyring| u32::from(of(changed(KEY, is_keyring, mode), is_keyring));
            assert_eq!(shown(true), mode, "{mode:o}");
            assert_eq!(shown(false), mode & 0o666, "{mode:o}");
        }
    }
}
