//! `keyshim keys`: `/proc/keys` as a table.

use keyshim_abi::Perm;
use keyshim_abi::procfs::ProcFile;
use serde::Serialize;

use super::style::{BAD, Cell, KEY, KEYRING, QUIET, SERIAL, print, printable, table};
use super::{How, Where, broken, print_json};
use crate::client::Client;
use crate::fault::Fault;

/// Letters that say what holds of a key, in the kernels of today.
const FLAGS_LEN: usize = 7;

/// One line of `/proc/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    /// Its serial.
    pub(crate) serial: i32,
    /// `IRDQUNi`, a dash for each that does not hold.
    pub(crate) flags: String,
    /// How many things hold on to it.
    pub(crate) usage: u32,
    /// `perm`, `expd`, or the time that is left, such as `2d`.
    pub(crate) expiry: String,
    /// Its permission mask as in `keyctl setperm`.
    pub(crate) perm: String,
    /// Its owner in the viewer's namespace.
    pub(crate) uid: i64,
    /// Its group there.
    pub(crate) gid: i64,
    /// Its type, of which `/proc/keys` shows nine letters.
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// Description and what the type has to say.
    pub(crate) description: String,
}

/// The state that makes a key unusable, if there is one.
pub(crate) fn trouble(key: &Listed) -> Option<&'static str> {
    let has = |flag| key.flags.contains(flag);
    if has('i') {
        Some("invalidated")
    } else if has('R') {
        Some("revoked")
    } else if has('D') {
        Some("dead")
    } else if key.expiry == "expd" {
        Some("expired")
    } else if has('N') {
        Some("negative")
    } else if has('U') {
        Some("under construction")
    } else {
        None
    }
}

/// The description without what the type has to say after it: `: 3` bytes, `: empty`.
/// A key without payload shows its description only, but for old kernels, which have no
/// seventh flag.
pub(crate) fn bare_description(key: &Listed) -> &str {
    let is_positive = key.flags.starts_with('I') && !key.flags.contains('N');
    let is_summed_up = is_positive || key.flags.len() < FLAGS_LEN;
    match key.description.rsplit_once(": ") {
        Some((bare, rest)) if is_summed_up => {
            let size = rest.split([' ', '/']).next().unwrap_or_default();
            let is_size = size == "empty" || size.parse::<u64>().is_ok();
            if is_size { bare } else { &key.description }
        }
        _ => &key.description,
    }
}

/// Prints the keys that we may view.
pub(crate) fn keys(place: &Where, how: How) -> Result<(), Fault> {
    let listed = list(&mut place.connect()?)?;
    if how.json {
        return print_json(&listed);
    }
    if listed.is_empty() {
        return print("No keys here that you may view.\n");
    }
    let headings = ["SERIAL", "TYPE", "RIGHTS", "UID", "GID", "EXPIRES", "USE", "DESCRIPTION"];
    let rows: Vec<Vec<Cell>> = listed.iter().map(row).collect();
    print(&table(&headings, &[0, 3, 4, 5, 6], &rows))
}

/// The keys that we may view, in the order of serials.
pub(crate) fn list(client: &mut Client) -> Result<Vec<Listed>, Fault> {
    let text = client.open(ProcFile::Keys).map_err(broken)?;
    Ok(text.lines().filter_map(parse).collect())
}

fn row(key: &Listed) -> Vec<Cell> {
    let style = if key.type_name == "keyring" { KEYRING } else { KEY };
    let expiry = match key.expiry.as_str() {
        "perm" => ("never".to_owned(), QUIET),
        "expd" => ("expired".to_owned(), BAD),
        left => (format!("in {left}"), KEY),
    };
    let mut description = printable(&key.description);
    if let Some(trouble) = trouble(key) {
        description = format!("{description} ({trouble})");
    }
    let style_of_description = if trouble(key).is_some() { BAD } else { style };
    vec![
        (key.serial.to_string(), SERIAL),
        (key.type_name.clone(), style),
        (rights(&key.perm), QUIET),
        (key.uid.to_string(), KEY),
        (key.gid.to_string(), KEY),
        expiry,
        (key.usage.to_string(), QUIET),
        (description, style_of_description),
    ]
}

/// A mask in letters, as `keyctl show` has them: possessor, user, group, other.
pub(crate) fn rights(perm: &str) -> String {
    let perm = Perm(u32::from_str_radix(perm, 16).unwrap_or_default());
    let class = |byte: u8| -> String {
        let letters =
            [(0x20, 'a'), (0x10, 'l'), (0x08, 's'), (0x04, 'w'), (0x02, 'r'), (0x01, 'v')];
        letters.iter().map(|&(bit, letter)| if byte & bit != 0 { letter } else { '-' }).collect()
    };
    [perm.possessor_byte(), perm.user_byte(), perm.group_byte(), perm.other_byte()]
        .map(class)
        .join(" ")
}

/// Takes a line of `/proc/keys` apart.
fn parse(line: &str) -> Option<Listed> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(word)
    };
    let serial = u32::from_str_radix(word()?, 16).ok()? as i32;
    let (flags, usage) = (word()?.to_owned(), word()?.parse().ok()?);
    let (expiry, perm) = (word()?.to_owned(), word()?.to_owned());
    let (uid, gid) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let type_name = word()?.to_owned();
    let description = rest.trim_start().to_owned();
    Some(Listed { serial, flags, usage, expiry, perm, uid, gid, type_name, description })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1681fb96 I--Q---     1   2d 3f010000  1000 65534 user      a b: c: 1813";

    #[test]
    fn a_line_is_taken_apart() {
        let key = parse(LINE).unwrap();
        assert_eq!(key.serial, 0x1681_fb96);
        assert_eq!((key.usage, key.uid, key.gid), (1, 1000, 65534));
        assert_eq!((key.expiry.as_str(), key.type_name.as_str()), ("2d", "user"));
        assert_eq!(key.description, "a b: c: 1813");
        assert_eq!(trouble(&key), None);
        assert_eq!(bare_description(&key), "a b: c");
        let negative = Listed { flags: "I--Q-N-".into(), ..key };
        assert_eq!(bare_description(&negative), "a b: c: 1813");
    }

    #[test]
    fn a_line_of_an_old_kernel_is_taken_apart() {
        let line = "00000893 I--Q-N     1  35s 1f0000     0    -1 keyring   ring: 1/4";
        let key = parse(line).unwrap();
        assert_eq!((key.serial, key.gid, key.perm.as_str()), (0x893, -1, "1f0000"));
        assert_eq!(bare_description(&key), "ring");
        assert_eq!(rights(&key.perm), "------ -lswrv ------ ------");
    }

    #[test]
    fn every_line_of_the_real_file_is_taken_apart() {
        let Ok(text) = std::fs::read_to_string("/proc/keys") else { return };
        for line in text.lines() {
            assert!(parse(line).is_some(), "{line}");
        }
    }

    #[test]
    fn a_mask_is_shown_in_letters() {
        assert_eq!(rights("3f0b0001"), "alswrv --s-rv ------ -----v");
    }

    #[test]
    fn what_is_worst_is_named() {
        let mut key = parse(LINE).unwrap();
        key.flags = "IR-Q---".into();
        key.expiry = "expd".into();
        assert_eq!(trouble(&key), Some("revoked"));
        key.flags = "I--Q-N-".into();
        assert_eq!(trouble(&key), Some("expired"));
    }
}
