//! Links and commands in the documents.

use std::path::Path;

use crate::tree::{self, File};

/// Links of a document to files or headings that are not there.
pub(crate) fn dead_links(file: &File) -> Vec<String> {
    let text = file.text();
    let mut dead = Vec::new();
    for target in links(&text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, heading) = target.split_once('#').unwrap_or((target.as_str(), ""));
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        let place = if path.is_empty() { file.path.clone().into() } else { folder.join(path) };
        let full = tree::root().join(&place);
        let fine = full.exists()
            && (heading.is_empty()
                || std::fs::read_to_string(&full).is_ok_and(|text| has_heading(&text, heading)));
        if !fine {
            dead.push(format!("{}: {target}", file.path));
        }
    }
    dead
}

/// The targets of `[text](target)`, outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in outside_code(text) {
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// A heading's anchor: lower case, spaces as hyphens, no punctuation.
fn has_heading(text: &str, anchor: &str) -> bool {
    outside_code(text).filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).eq(anchor.chars())
    })
}

/// Scripts that the text tells to run (`.dev/...`, `shim-tests/...`) and that do not
/// exist.
pub(crate) fn missing_scripts(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '`' | '(' | ')' | ','));
    words
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| [".dev/", ".ci/", "shim-tests/"].iter().any(|place| word.starts_with(place)))
        .filter(|word| !word.contains('*') && !tree::root().join(word).exists())
        .map(str::to_owned)
        .collect()
}
