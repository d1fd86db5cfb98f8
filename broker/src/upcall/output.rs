//! What a helper prints: shown line by line in the log, never on anybody's terminal.

use std::io::{ErrorKind, Read};

use std::os::fd::{AsFd, BorrowedFd};

use keyshim_abi::Serial;

/// Bytes of a line that are shown.
const LINE_LEN_MAX: usize = 1024;
/// Bytes of one helper that are shown; the rest is read and forgotten.
const SHOWN_LEN_MAX: usize = 64 * 1024;
/// Bytes read at once.
const PIECE_LEN: usize = 4096;

/// The output of one helper.
pub(super) struct Output<R> {
    pipe: R,
    key: Serial,
    line: Vec<u8>,
    shown_len: usize,
}

impl<R: AsFd> AsFd for Output<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl<R: Read> Output<R> {
    /// Nothing yet; `pipe` never waits.
    pub(super) fn new(pipe: R, key: Serial) -> Output<R> {
        Output { pipe, key, line: Vec::new(), shown_len: 0 }
    }

    /// Takes what there is. False at its end.
    pub(super) fn take(&mut self) -> bool {
        let mut piece = [0; PIECE_LEN];
        loop {
            match self.pipe.read(&mut piece) {
                Ok(0) => return false,
                Ok(len) => piece[..len].iter().for_each(|&byte| self.add(byte)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn add(&mut self, byte: u8) {
        match byte {
            b'\n' => self.show(),
            _ if self.line.len() < LINE_LEN_MAX => self.line.push(byte),
            _ => {}
        }
    }

    fn show(&mut self) {
        if self.shown_len < SHOWN_LEN_MAX {
            self.shown_len += self.line.len() + 1;
            let text = String::from_utf8_lossy(&self.line);
            // Nothing that a terminal would obey.
            let text: String =
                text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            tracing::info!(key = %self.key, "helper: {text}");
        }
        self.line.clear();
    }

    /// Shows what has no end of line.
    pub(super) fn end(mut self) {
        self.take();
        if !self.line.is_empty() {
            self.show();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whatever_is_printed() {
        let text = vec![b'x'; 1 << 20];
        let mut output = Output::new(&text[..], Serial::new(7).unwrap());
        assert!(!output.take());
        assert_eq!(output.line.len(), LINE_LEN_MAX);
        output.end();
    }

    #[test]
    fn so_much_is_shown_and_no_more() {
        let text = "0123456789\n".repeat(20_000);
        let mut output = Output::new(text.as_bytes(), Serial::new(7).unwrap());
        assert!(!output.take());
        assert!((SHOWN_LEN_MAX..SHOWN_LEN_MAX + 11).contains(&output.shown_len));
        assert!(output.line.is_empty());
    }
}
