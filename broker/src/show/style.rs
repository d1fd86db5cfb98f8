//! Colours and columns. Colours go to a terminal only, and not if `NO_COLOR` says
//! so; in a pipe the same text is plain.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anstyle::{AnsiColor, Style};

use crate::fault::Fault;

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// A key's serial.
pub(crate) const SERIAL: Style = AnsiColor::Yellow.on_default();
/// A keyring.
pub(crate) const KEYRING: Style = AnsiColor::Blue.on_default().bold();
/// Any other key.
pub(crate) const KEY: Style = Style::new();
/// Less important: rights, owners, branches of the tree.
pub(crate) const QUIET: Style = Style::new().dimmed();
/// Something that does not work any more: revoked, expired, rejected.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Something that works.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Something to look at.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();

/// Text in a style.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints to standard output; a reader that has gone (`| head`) is no fault.
pub(crate) fn print(text: &str) -> Result<(), Fault> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::Told(format!("cannot write the output: {error}; make room for it")))
        }
        _ => Ok(()),
    }
}

/// One cell: its text and its style.
pub(crate) type Cell = (String, Style);

/// Lines of aligned cells below their headings; columns named in `right` are
/// aligned to the right.
pub(crate) fn table(headings: &[&str], right: &[usize], rows: &[Vec<Cell>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.as_str());
        let all = headings.get(column).copied().into_iter().chain(cells);
        all.map(|text| text.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let heading = headings.iter().map(|&text| (text.to_owned(), HEADING)).collect();
    let mut text = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        text.push_str(&line(row, &widths, right));
    }
    text
}

fn line(row: &[Cell], widths: &[usize], right: &[usize]) -> String {
    let mut line = String::new();
    for (column, ((text, style), &width)) in row.iter().zip(widths).enumerate() {
        let space = " ".repeat(width - text.chars().count());
        let is_last = column + 1 == row.len();
        let painted = paint(*style, text);
        let _ = match (right.contains(&column), is_last) {
            (true, _) => write!(line, "{space}{painted}"),
            (false, true) => write!(line, "{painted}"),
            (false, false) => write!(line, "{painted}{space}"),
        };
        line.push_str(if is_last { "\n" } else { "  " });
    }
    line
}

/// Bytes of a description as text that no terminal takes for a command.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let plain = |text: &str| (text.to_owned(), Style::new());
        let rows = [vec![plain("1"), plain("a")], vec![plain("1000"), plain("b")]];
        let text = anstream::adapter::strip_str(&table(&["id", "n"], &[0], &rows)).to_string();
        assert_eq!(text, "  id  n\n   1  a\n1000  b\n");
    }

    #[test]
    fn a_description_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
