//! `/proc/keys` and `/proc/key-users`, reduced to what belongs to the history.

use core::ops::RangeInclusive;

use super::Naming;

/// Payloads of `big_key` in bytes for which `/proc/keys` says `[buff]` on one build of
/// the kernel and `[file]` on another: it goes by the size of two of its structures.
const FILE_ON_SOME_LEN: RangeInclusive<usize> = 640..=1200;

impl Naming {
    /// The lines of keys that the history has named or that its users own, sorted
    /// after renaming: serials are random, so their order means nothing. The usage
    /// count of keyrings is left out, because tasks' credentials hold them and the
    /// kernel copies credentials at will.
    pub(super) fn proc_keys(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let mut lines: Vec<String> = text.lines().filter_map(|line| self.key_line(line)).collect();
        lines.sort();
        lines.join(" | ")
    }

    fn key_line(&self, line: &str) -> Option<String> {
        let (serial, rest) = line.split_at_checked(8)?;
        let serial = i32::from_str_radix(serial, 16).ok()?;
        let mut columns = rest.split_ascii_whitespace();
        let (flags, usage) = (columns.next()?, columns.next()?);
        let uid: u32 = columns.nth(2)?.parse().ok()?;
        let type_name = columns.nth(1)?;
        let label = match self.label(serial) {
            Some(label) => label,
            None if self.is_own(uid) => "?",
            None => return None,
        };
        if type_name == "big_key" {
            return Some(self.users_back(&format!("{label}{}", without_place(rest))));
        }
        if type_name == ".request_" {
            return self.authority_line(label, flags, rest);
        }
        if type_name != "keyring" {
            return Some(self.users_back(&format!("{label}{rest}")));
        }
        let after_flags = &rest[rest.find(flags)? + flags.len()..];
        let after_usage = &after_flags[after_flags.find(usage)? + usage.len()..];
        Some(self.users_back(&format!("{label} {flags} *{after_usage}")))
    }

    /// The line of an authorisation key: credentials hold it, like a keyring, and it
    /// names a key and a thread by number.
    fn authority_line(&self, label: &str, flags: &str, rest: &str) -> Option<String> {
        let words: Vec<&str> = rest.split_ascii_whitespace().skip(2).collect();
        let mut text = format!("{label} {flags} *");
        for word in words {
            let shown = match word.split_once(':') {
                Some(("key", hex)) => {
                    let serial = i32::from_str_radix(hex, 16).ok()?;
                    format!("key:{}", self.label(serial).unwrap_or("?"))
                }
                Some(("pid", _)) => "pid:*".to_owned(),
                _ => word.to_owned(),
            };
            text.push(' ');
            text.push_str(&shown);
        }
        Some(self.users_back(&text))
    }

    /// Ids and groups, and whether any capability is effective: a test of the model of
    /// tasks, not of the key service.
    pub(super) fn status(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let mut words = Vec::new();
        for line in text.lines() {
            match line.split_once(':') {
                Some(("Uid" | "Gid", ids)) => words.extend(ids.split_whitespace()),
                Some(("Groups", groups)) => {
                    words.push("groups");
                    words.extend(groups.split_whitespace());
                }
                Some(("CapEff", caps)) => {
                    let none = caps.trim().bytes().all(|digit| digit == b'0');
                    words.push(if none { "no capability" } else { "capable" });
                }
                _ => {}
            }
        }
        self.users_back(&words.join(" "))
    }

    /// The lines of the history's users but for the first count, which is of
    /// references to the record itself.
    pub(super) fn key_users(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let mut lines: Vec<String> = text
            .lines()
            .filter_map(|line| {
                let (uid, counts) = line.split_once(':')?;
                let uid: u32 = uid.trim().parse().ok()?;
                let counts = counts.trim_start().split_once(' ')?.1;
                self.is_own(uid).then(|| format!("${}: {counts}", uid - self.base))
            })
            .collect();
        lines.sort();
        lines.join(" | ")
    }
}

/// The line of a `big_key` without where its payload lies, if builds differ in that.
fn without_place(line: &str) -> &str {
    let shown = line.strip_suffix(" [file]").or_else(|| line.strip_suffix(" [buff]"));
    let len = shown.and_then(|shown| shown.rsplit_once(": ")?.1.parse().ok());
    match (shown, len) {
        (Some(shown), Some(len)) if FILE_ON_SOME_LEN.contains(&len) => shown,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_builds_differ_the_place_of_a_big_key_is_left_out() {
        assert_eq!(without_place("x: 639 [buff]"), "x: 639 [buff]");
        assert_eq!(without_place("x: 640 [buff]"), "x: 640");
        assert_eq!(without_place("x: 1200 [file]"), "x: 1200");
        assert_eq!(without_place("x: 1201 [file]"), "x: 1201 [file]");
        assert_eq!(without_place("x: 800"), "x: 800");
    }
}
