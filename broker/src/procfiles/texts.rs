//! The texts of open files: each as it was when its file was opened.

use std::collections::HashMap;

use keyshim_abi::limits::{OPEN_TEXTS_LEN_MAX, OPEN_TEXTS_MAX};

/// The texts, by number.
#[derive(Default)]
pub(super) struct Texts {
    open: HashMap<u64, Text>,
    held: HashMap<u32, Held>,
    last: u64,
}

struct Text {
    owner: u32,
    bytes: Vec<u8>,
}

/// What one user holds.
#[derive(Default)]
struct Held {
    count: usize,
    len: usize,
}

impl Texts {
    /// True while that user may open one more. A text of any length may be the last.
    pub(super) fn has_room(&self, owner: u32) -> bool {
        let held = self.held.get(&owner);
        held.is_none_or(|held| held.count < OPEN_TEXTS_MAX && held.len < OPEN_TEXTS_LEN_MAX)
    }

    /// Keeps a text of that user: its number.
    pub(super) fn add(&mut self, owner: u32, bytes: Vec<u8>) -> u64 {
        let held = self.held.entry(owner).or_default();
        held.count += 1;
        held.len += bytes.len();
        self.last += 1;
        self.open.insert(self.last, Text { owner, bytes });
        self.last
    }

    /// A piece of a text; less than `len` bytes only at its end.
    pub(super) fn piece(&self, number: u64, offset: u64, len: usize) -> &[u8] {
        let bytes = self.open.get(&number).map_or(&[][..], |text| &text.bytes);
        let begin = usize::try_from(offset).map_or(bytes.len(), |begin| begin.min(bytes.len()));
        let end = begin.saturating_add(len).min(bytes.len());
        bytes.get(begin..end).unwrap_or_default()
    }

    /// Forgets a text; false when there is none of that number.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some(Text { owner, bytes }) = self.open.remove(&number) else { return false };
        let Some(held) = self.held.get_mut(&owner) else { return true };
        held.count -= 1;
        held.len -= bytes.len();
        if held.count == 0 {
            self.held.remove(&owner);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_in_pieces_and_ends() {
        let mut texts = Texts::default();
        let number = texts.add(7, b"0123456789".to_vec());
        assert_eq!(texts.piece(number, 0, 4), b"0123");
        assert_eq!(texts.piece(number, 8, 4), b"89");
        for beyond in [10, 11, u64::MAX] {
            assert_eq!(texts.piece(number, beyond, usize::MAX), b"");
        }
        texts.remove(number);
        assert_eq!(texts.piece(number, 0, 4), b"");
    }

    #[test]
    fn one_user_can_hold_so_many_and_no_other_is_in_the_way() {
        let mut texts = Texts::default();
        let numbers: Vec<u64> = (0..OPEN_TEXTS_MAX).map(|_| texts.add(7, Vec::new())).collect();
        assert!(!texts.has_room(7) && texts.has_room(8));
        assert!(texts.remove(numbers[0]) && !texts.remove(numbers[0]));
        assert!(texts.has_room(7));
        texts.add(8, vec![0; OPEN_TEXTS_LEN_MAX]);
        assert!(!texts.has_room(8) && texts.has_room(7));
        for number in numbers {
            texts.remove(number);
        }
        assert!(texts.held.len() == 1 && texts.open.len() == 1);
    }
}
