//! A text built in place, since nothing may be allocated.

use core::ffi::CStr;

/// A text in somebody's buffer, at most as long as that, its NUL included.
pub(crate) struct Text<'b> {
    bytes: &'b mut [u8],
    len: usize,
    is_whole: bool,
}

impl<'b> Text<'b> {
    /// An empty one.
    pub(crate) const fn within(bytes: &'b mut [u8]) -> Text<'b> {
        Text { bytes, len: 0, is_whole: true }
    }

    /// Adds bytes; what does not fit makes the whole text void.
    pub(crate) fn with(mut self, bytes: &[u8]) -> Text<'b> {
        let end = self.len + bytes.len();
        if end < self.bytes.len() && !bytes.contains(&0) {
            self.bytes[self.len..end].copy_from_slice(bytes);
            self.len = end;
        } else {
            self.is_whole = false;
        }
        self
    }

    /// Adds a number in decimals.
    pub(crate) fn with_number(self, number: u32) -> Text<'b> {
        let mut digits = [0; 10];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.with(&digits[at..]);
            }
        }
    }

    /// The text with its NUL, unless something did not fit.
    pub(crate) fn finish(self) -> Option<&'b CStr> {
        if !self.is_whole {
            return None;
        }
        *self.bytes.get_mut(self.len)? = 0;
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn numbers_are_written_in_decimals() {
        for number in [0, 7, 10, 1000, u32::MAX] {
            let mut room = [1; 16];
            let text = Text::within(&mut room).with_number(number).finish();
            assert_eq!(text.unwrap().to_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_text_that_does_not_fit_is_void() {
        let mut room = [1; 4];
        assert_eq!(Text::within(&mut room).with(b"abc").finish(), Some(c"abc"));
        assert_eq!(Text::within(&mut room).with(b"abc").with(b"d").finish(), None);
        assert_eq!(Text::within(&mut room).with(b"a\0").finish(), None);
        assert_eq!(Text::within(&mut []).finish(), None);
    }
}
