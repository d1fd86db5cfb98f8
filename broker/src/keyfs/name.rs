//! What a key is called in a directory: `type:description`, each byte that a name cannot
//! have, or that would be ambiguous, as `%` and two digits. Each key has one name, and each
//! name one key.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use keyshim_abi::Serial;

/// Bytes of a name, at most: what programs have room for.
const NAME_LEN_MAX: usize = 255;

/// What a name in a keyring stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The key of that serial.
    Number(Serial),
    /// The key of that type and description.
    Key(KeyName),
    /// No key, but what an editor writes beside one.
    Draft(Vec<u8>),
    /// Nothing: no key is written so.
    Unfit,
}

/// Type and description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyName {
    /// The type's name.
    pub(super) type_name: Vec<u8>,
    /// The description.
    pub(super) description: Vec<u8>,
}

impl Name {
    /// Reads a name.
    pub(super) fn parse(name: &OsStr) -> Name {
        let bytes = name.as_bytes();
        if let Some(serial) = number(bytes) {
            return Name::Number(serial);
        }
        let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
            return Name::Draft(bytes.to_vec());
        };
        if bytes.starts_with(b".") {
            return Name::Draft(bytes.to_vec());
        }
        let (type_name, description) = (&bytes[..colon], &bytes[colon + 1..]);
        let parts = unescape(type_name).zip(unescape(description));
        let Some((type_name, description)) = parts else { return Name::Unfit };
        match written(&type_name, &description) {
            Some(canonical) if canonical == bytes => Name::Key(KeyName { type_name, description }),
            _ => Name::Unfit,
        }
    }
}

/// The name of a key; `None` for one that can only be called by its serial.
pub(super) fn written(type_name: &[u8], description: &[u8]) -> Option<Vec<u8>> {
    let is_hidden = type_name.is_empty() || type_name.starts_with(b".");
    let mut name = Vec::new();
    escape(type_name, b":", &mut name);
    name.push(b':');
    escape(description, b"", &mut name);
    (!is_hidden && name.len() <= NAME_LEN_MAX).then_some(name)
}

fn escape(bytes: &[u8], also: &[u8], name: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_control() || b"%/".contains(&byte) || also.contains(&byte) {
            name.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            name.push(byte);
        }
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

/// A serial as it is printed.
fn number(bytes: &[u8]) -> Option<Serial> {
    let is_plain = bytes.iter().all(u8::is_ascii_digit) && !bytes.starts_with(b"0");
    let text = std::str::from_utf8(bytes).ok().filter(|_| is_plain)?;
    Serial::new(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(name: &[u8]) -> Name {
        Name::parse(OsStr::from_bytes(name))
    }

    fn key(type_name: &[u8], description: &[u8]) -> Name {
        Name::Key(KeyName { type_name: type_name.to_vec(), description: description.to_vec() })
    }

    #[test]
    fn what_cannot_be_in_a_name_is_escaped() {
        let name = written(b"us:er", b"a/b:c%\n\xff").unwrap();
        assert_eq!(name, b"us%3Aer:a%2Fb:c%25%0A\xff");
        assert_eq!(parse(&name), key(b"us:er", b"a/b:c%\n\xff"));
    }

    #[test]
    fn a_key_has_no_second_name() {
        for other in [&b"user:a%62"[..], b"user:%2f", b"user:a\n", b"user:%", b"user:%4", b":a"] {
            assert_eq!(parse(other), Name::Unfit, "{other:?}");
        }
    }

    #[test]
    fn numbers_and_drafts_are_told_apart() {
        assert_eq!(parse(b"17"), Name::Number(Serial::new(17).unwrap()));
        for draft in [&b"017"[..], b"0", b"-3", b"2147483648", b"sedAbC", b".user:a.swp"] {
            assert_eq!(parse(draft), Name::Draft(draft.to_vec()), "{draft:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_hidden_goes_by_its_serial() {
        assert_eq!(written(b"user", &[b'a'; 250]).map(|name| name.len()), Some(255));
        assert_eq!(written(b"user", &[b'a'; 251]), None);
        assert_eq!(written(b".request_key_auth", b"7"), None);
    }

    proptest! {
        #[test]
        fn every_name_is_read_as_it_was_written(
            type_name in proptest::collection::vec(1u8..=255, 1..31),
            description in proptest::collection::vec(1u8..=255, 0..120),
        ) {
            if let Some(name) = written(&type_name, &description) {
                prop_assert_eq!(parse(&name), key(&type_name, &description));
                prop_assert!(!name.contains(&b'/') && !name.contains(&0));
            }
        }
    }
}
