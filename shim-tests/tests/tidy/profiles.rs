//! The points at which kernels part against the table that explains them.

use crate::tree;

/// The fields of the struct `Profile`, but for its name.
fn points(source: &str) -> Vec<String> {
    let body =
        source.split_once("pub struct Profile {").and_then(|(_, rest)| rest.split_once("\n}"));
    let lines = body.map_or("", |(body, _)| body).lines();
    let names = lines.filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    names.map(|(name, _)| name.to_owned()).filter(|name| name != "name").collect()
}

/// The points that have a row.
fn rows(document: &str) -> Vec<String> {
    let lines = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let is_point = |name: &&str| name.contains('_') || name.chars().all(char::is_lowercase);
    lines.map(|(name, _)| name).filter(is_point).map(str::to_owned).collect()
}

/// Points without a row in `docs/PROFILES.md`, and rows without a point.
pub(crate) fn wrong_rows() -> Vec<String> {
    let (points, document) =
        (points(&tree::read("keys/src/profile.rs")), tree::read("docs/PROFILES.md"));
    let rows = rows(&document);
    let silent = points.iter().filter(|point| !rows.contains(point));
    let stale = rows.iter().filter(|row| !points.contains(row));
    let mut wrong: Vec<String> = silent.map(|point| format!("no row for `{point}`")).collect();
    wrong.extend(stale.map(|row| format!("there is no point `{row}`")));
    if points.is_empty() {
        wrong.push("no points at all".to_owned());
    }
    wrong
}
