//! `/proc/keys` and `/proc/key-users`, reduced to what belongs to the history.

use super::Naming;

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
        if type_name != "keyring" {
            return Some(self.users_back(&format!("{label}{rest}")));
        }
        let after_flags = &rest[rest.find(flags)? + flags.len()..];
        let after_usage = &after_flags[after_flags.find(usage)? + usage.len()..];
        Some(self.users_back(&format!("{label} {flags} *{after_usage}")))
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
