//! `keyshim users`: `/proc/key-users` as a table.

use keyshim_abi::procfs::ProcFile;
use serde::Serialize;

use super::style::{BAD, Cell, KEY, QUIET, WARNING, print, table};
use super::{How, Where, broken, print_json};
use crate::fault::Fault;

/// A share of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Share {
    used: u64,
    max: u64,
}

/// One line of `/proc/key-users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct User {
    uid: u32,
    usage: u64,
    keys: u64,
    instantiated: u64,
    quota_keys: Share,
    quota_bytes: Share,
}

/// Prints how much each user has.
pub(crate) fn users(place: &Where, how: How) -> Result<(), Fault> {
    let text = place.connect()?.open(ProcFile::KeyUsers).map_err(broken)?;
    let users: Vec<User> = text.lines().filter_map(parse).collect();
    if how.json {
        return print_json(&users);
    }
    if users.is_empty() {
        return print("No user has keys here.\n");
    }
    let rows: Vec<Vec<Cell>> = users.iter().map(row).collect();
    print(&table(&["UID", "KEYS", "READY", "QUOTA KEYS", "QUOTA BYTES"], &[0, 1, 2, 3, 4], &rows))
}

fn row(user: &User) -> Vec<Cell> {
    let share = |share: Share| {
        let style = match share.used.saturating_mul(100) / share.max.max(1) {
            100.. => BAD,
            80.. => WARNING,
            _ => QUIET,
        };
        (format!("{}/{}", share.used, share.max), style)
    };
    vec![
        (user.uid.to_string(), KEY),
        (user.keys.to_string(), KEY),
        (user.instantiated.to_string(), KEY),
        share(user.quota_keys),
        share(user.quota_bytes),
    ]
}

/// Takes a line of `/proc/key-users` apart.
fn parse(line: &str) -> Option<User> {
    let (uid, rest) = line.split_once(':')?;
    let mut words = rest.split_whitespace();
    let usage = words.next()?.parse().ok()?;
    let mut pair = || {
        let (used, max) = words.next()?.split_once('/')?;
        Some(Share { used: used.parse().ok()?, max: max.parse().ok()? })
    };
    let keys = pair()?;
    Some(User {
        uid: uid.trim().parse().ok()?,
        usage,
        keys: keys.used,
        instantiated: keys.max,
        quota_keys: pair()?,
        quota_bytes: pair()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let user = parse("    0:    44 43/42 36/1000000 833/25000000").unwrap();
        assert_eq!((user.uid, user.usage, user.keys, user.instantiated), (0, 44, 43, 42));
        assert_eq!(user.quota_bytes, Share { used: 833, max: 25_000_000 });
    }
}
