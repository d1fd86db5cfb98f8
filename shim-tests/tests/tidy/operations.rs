//! The table of operations against everything that must follow it.

use keyshim_abi::ops::{OPERATIONS, Operation, Support};

use crate::tree;

/// An operation's word in scripts: `KEYCTL_SET_TIMEOUT` is `set_timeout`.
fn word(row: &Operation) -> String {
    row.name.trim_start_matches("KEYCTL_").to_lowercase()
}

fn is_absent(row: &Operation) -> bool {
    matches!(row.support, Support::Absent(_))
}

/// Operations whose file is not there or does not begin with what Linux checks.
pub(crate) fn without_file() -> Vec<String> {
    let mut missing = Vec::new();
    for row in OPERATIONS.iter().filter(|row| !is_absent(row)) {
        let path = format!("keys/src/ops/{}.rs", row.file);
        if !tree::root().join(&path).is_file() {
            missing.push(format!("{}: no {path}", row.name));
        } else if !tree::read(&path).starts_with("//!") {
            missing.push(format!("{path}: no head comment"));
        }
    }
    missing
}

/// Operations that no script in `shim-tests/scripts` carries out.
pub(crate) fn without_script() -> Vec<String> {
    let scripts = tree::files().into_iter().filter(|file| file.path.ends_with(".keys"));
    let text: String = scripts.map(|file| file.text() + "\n").collect();
    let lines = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let names = |row: &Operation| {
        let word = word(row);
        lines().any(|line| line.split_whitespace().any(|part| part == word))
    };
    let silent = OPERATIONS.iter().filter(|row| !is_absent(row) && !names(row));
    silent.map(|row| format!("{} (`{}`)", row.name, word(row))).collect()
}

/// Rows of the table in `docs/COMPATIBILITY.md` that are missing, or say something
/// else than `abi/src/ops.rs`.
pub(crate) fn wrong_rows() -> Vec<String> {
    let text = tree::read("docs/COMPATIBILITY.md");
    let mut wrong = Vec::new();
    for row in &OPERATIONS {
        let (level, why) = match row.support {
            Support::Full => ("full", ""),
            Support::Partial(what) => ("partial", what),
            Support::Absent(reason) => ("absent", reason),
        };
        let number = row.number.map_or("-".to_owned(), |number| number.to_string());
        let expected = format!("| {number} | `{}` | {level} | {why}", row.name);
        if !text.lines().any(|line| line.starts_with(expected.trim_end())) {
            wrong.push(format!("no row beginning: {expected}"));
        }
    }
    wrong
}

/// Lines of the list of keyutils' tests that are doubled or not understood.
pub(crate) fn wrong_expectations() -> Vec<String> {
    let text = tree::read("shim-tests/suites/keyutils.expected");
    let mut wrong = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let plain = line.trim_start_matches("user ");
        let (name, says) = plain.split_once(' ').unwrap_or((plain, ""));
        let known = says == "pass" || says.starts_with("fail: ") || says.starts_with("skip: ");
        let key = line[..line.len() - says.len()].to_owned();
        if !known || seen.contains(&key) {
            wrong.push(format!("{name}: `{says}`"));
        }
        seen.push(key);
    }
    if seen.len() < 83 {
        wrong.push(format!("{} lines, but keyutils has 83 tests", seen.len()));
    }
    wrong
}
