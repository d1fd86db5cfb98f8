//! Words and quoted strings.

use anyhow::{Result, bail};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Quoted(Vec<u8>),
}

/// The tokens of a line without its expectation.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (bytes, after) = quoted_bytes(quoted)?;
            found.push(Token::Quoted(bytes));
            rest = after;
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
        if rest.starts_with('#') {
            break;
        }
    }
    Ok(found)
}

/// The bytes up to the closing quote, and what follows it.
fn quoted_bytes(text: &str) -> Result<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((bytes, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => bytes.push(b'\n'),
                Some('r') => bytes.push(b'\r'),
                Some('t') => bytes.push(b'\t'),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    bytes.push(u8::from_str_radix(&hex, 16)?);
                }
                Some(c) if c.is_ascii() => bytes.push(c as u8),
                _ => bail!("the string ends in a backslash"),
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bail!("the string does not end")
}
