//! What a write to a tunable means (`proc_dointvec_minmax`, `proc_get_long`).

use keyshim_abi::Errno;
use keyshim_abi::procfs::Knob;

use crate::service::KeyService;

/// Bytes of a write that are looked at (`PAGE_SIZE - 1`); the others count as taken.
const SEEN_LEN_MAX: usize = 4095;
/// A number with its sign is shorter than this (`TMPBUFLEN - 1`), leading zeroes
/// included.
const NUMBER_LEN: usize = 21;

impl KeyService {
    /// Writes to a knob, as write(2) at the beginning of its file: how many bytes were
    /// taken. White space, one number as in C (decimal, `0x` or `0`), white space; what
    /// comes after that is not taken. EINVAL when there is no number, or it is out of
    /// range. Whether the writer may is the file's question.
    pub fn knob_write(&mut self, knob: Knob, written: &[u8]) -> Result<usize, Errno> {
        if written.is_empty() {
            return Ok(0);
        }
        let seen = written.get(..SEEN_LEN_MAX).unwrap_or(written);
        let (value, rest) = number(skip_spaces(seen)).ok_or(Errno::EINVAL)?;
        let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
        if value < knob.min() || i32::try_from(value).is_err() {
            return Err(Errno::EINVAL);
        }
        self.knobs.set(knob, value);
        Ok(written.len() - skip_spaces(rest).len())
    }
}

/// The number at the beginning of a text, and what follows it: nothing, or a space, tab
/// or newline first.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    let (is_negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (radix, digits) = match unsigned {
        [b'0', b'x' | b'X', first, ..] if first.is_ascii_hexdigit() => (16, &unsigned[2..]),
        [b'0', ..] => (8, unsigned),
        _ => (10, unsigned),
    };
    let is_digit = |&&byte: &&u8| char::from(byte).is_digit(radix);
    let count = digits.iter().take_while(is_digit).count();
    let (digits, rest) = digits.split_at(count);
    let is_apart = matches!(rest, [] | [b' ' | b'\t' | b'\n', ..]);
    if count == 0 || !is_apart || text.len() - rest.len() >= NUMBER_LEN {
        return None;
    }
    let text = core::str::from_utf8(digits).ok()?;
    let magnitude = i64::from_str_radix(text, radix).ok()?;
    Some((if is_negative { -magnitude } else { magnitude }, rest))
}

/// Passes over what the kernel's `isspace` counts, which is Latin-1.
fn skip_spaces(text: &[u8]) -> &[u8] {
    let is_space = |&&byte: &&u8| matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0);
    text.get(text.iter().take_while(is_space).count()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::{Config, SeededEntropy};

    /// The value after a write of these pieces, and what the write gave; 7 before.
    fn write(knob: Knob, pieces: &[&[u8]]) -> (u32, Result<usize, Errno>) {
        let entropy = Box::new(SeededEntropy::new(1));
        let (upcalls, profile) = (crate::Upcalls::Off, crate::Profile::LINUX_6);
        let mut service = KeyService::new(Config { entropy, upcalls, profile });
        service.knob_write(knob, b"7").unwrap();
        let taken = service.knob_write(knob, &pieces.concat());
        (service.knobs.get(knob), taken)
    }

    #[test]
    fn a_number_is_as_in_c_with_spaces_around() {
        let cases: [(&[u8], u32, usize); 13] = [
            (b"300", 300, 3),
            (b"300\n", 300, 4),
            (b"  300  \n", 300, 8),
            (b"\x0b\x0c\r\xa0300\n\x0b", 300, 9),
            (b"0x12c", 300, 5),
            (b"0X12C\n", 300, 6),
            (b"0454\n", 300, 5),
            (b"0\n", 0, 2),
            (b"-0", 0, 2),
            (b"2147483647", 0x7fff_ffff, 10),
            (b"300 7", 300, 4),
            (b"300\n5\n", 300, 4),
            (b"00000000000000000454", 300, 20),
        ];
        for (written, value, taken) in cases {
            assert_eq!(write(Knob::GcDelay, &[written]), (value, Ok(taken)), "{written:?}");
        }
    }

    #[test]
    fn what_is_no_number_in_range_changes_nothing() {
        let junk = b" |\n|x|-|--3|- 1|-1|+3|3x|3,|3\0|3\x0b|3\r\n|\x853|0x|0xg|0b1|08|2147483648|\
                     4294967596|18446744073709551616|999999999999999999999999999999|\
                     000000000000000000300|-00000000000000000000";
        for written in junk.split(|&byte| byte == b'|') {
            let gone = write(Knob::GcDelay, &[written]);
            assert_eq!(gone, (7, Err(Errno::EINVAL)), "{written:?}");
        }
        assert_eq!(write(Knob::Maxkeys, &[b"0"]), (7, Err(Errno::EINVAL)));
        assert_eq!(write(Knob::GcDelay, &[b""]), (7, Ok(0)));
    }

    #[test]
    fn only_the_first_page_but_one_byte_is_looked_at() {
        let spaces = |count: usize| -> Vec<u8> { vec![b' '; count] };
        let with = |pieces: &[&[u8]]| write(Knob::GcDelay, pieces);
        assert_eq!(with(&[&spaces(4094), b"300"]), (3, Ok(4097)));
        assert_eq!(with(&[&spaces(4095), b"300"]), (7, Err(Errno::EINVAL)));
        assert_eq!(with(&[b"300", &spaces(5000)]), (300, Ok(5003)));
        assert_eq!(with(&[b"300", &spaces(4090), b"77777"]), (300, Ok(4096)));
    }
}
