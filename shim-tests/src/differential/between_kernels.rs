//! Where Linux 6.12.117 does otherwise than 6.18.44, whose way is ours
//! (COMPATIBILITY.md). An answer of the one for an answer of the other is no
//! difference; neither changes what comes after it.

use crate::step::Action;

/// True when `kernel` is what 6.12.117 says to this step, and `other` what 6.18.44 says.
pub(super) fn excuses(action: &Action, kernel: &str, other: &str) -> bool {
    match action {
        Action::Call(call) if matches!(call.verb.name, "read" | "read_null") => {
            state_before_type(kernel, other)
        }
        Action::ProcKeys => persistent_expires(kernel, other),
        _ => false,
    }
}

/// READ of a key that is no longer valid, of a type that cannot be read: the one says
/// so of the key, the other of the type.
fn state_before_type(kernel: &str, other: &str) -> bool {
    matches!(kernel, "EKEYREVOKED" | "EKEYEXPIRED" | "ENOKEY") && other == "EOPNOTSUPP"
}

/// `/proc/keys` where GET_PERSISTENT has made a keyring and then could not link it: the
/// one lets it live for `persistent_keyring_expiry` seconds, the other for ever.
fn persistent_expires(kernel: &str, other: &str) -> bool {
    let (kernel, other) = (lives(kernel), lives(other));
    kernel.len() == other.len()
        && kernel.iter().zip(&other).all(|((one, expiring), (two, lasting))| {
            one == two && (expiring == lasting || *lasting == Some("perm"))
        })
}

/// The lines, sorted, those of persistent keyrings with what is left of their life apart.
fn lives(text: &str) -> Vec<(Vec<&str>, Option<&str>)> {
    let mut lines: Vec<_> = Vec::new();
    for line in text.split(" | ") {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let is_persistent = words.iter().any(|word| word.starts_with("_persistent."));
        let life = (is_persistent && words.len() > 3).then(|| words.remove(3));
        lines.push((words, life));
    }
    lines.sort_unstable();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script;

    fn excused(line: &str, kernel: &str, other: &str) -> bool {
        let history = script::parse(line).unwrap();
        excuses(&history.steps[0].action, kernel, other)
    }

    #[test]
    fn only_the_state_may_come_before_the_type_and_only_in_read() {
        assert!(excused("read @s", "EKEYREVOKED", "EOPNOTSUPP"));
        assert!(excused("read_null @s 0 0", "EKEYEXPIRED", "EOPNOTSUPP"));
        assert!(!excused("read @s", "EOPNOTSUPP", "EKEYREVOKED"));
        assert!(!excused("read @s", "EACCES", "EOPNOTSUPP"));
        assert!(!excused("update @s x", "EKEYREVOKED", "EOPNOTSUPP"));
    }

    #[test]
    fn only_persistent_keyrings_may_live_longer() {
        let line = |life: &str, name: &str| {
            format!(
                "s I--Q--- * perm 3f030000 $1 $1 keyring   _ses: 2 | ? I------ * {life} 1f030000 $1 65534 keyring   {name}: empty"
            )
        };
        let (short, long) = (line("  3d", "_persistent.$1"), line("perm", "_persistent.$1"));
        assert!(excused("proc_keys", &short, &long));
        assert!(!excused("proc_keys", &long, &short));
        assert!(!excused("proc_keys", &line("  3d", "ring"), &line("perm", "ring")));
        assert!(!excused("proc_keys", &short, &long.replace("empty", "1")));
    }
}
