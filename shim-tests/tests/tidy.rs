//! The house rules, held by a test.
//!
//! Each rule gathers everything that breaks it and then fails once, so that one run
//! shows the whole list.

// The whole file is a test, its modules too: what cannot be read ends it.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/operations.rs"]
mod operations;
#[path = "tidy/profiles.rs"]
mod profiles;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use source::Source;

/// Lines of a file, of any language that people write here.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Half of all functions are no longer than this.
const FUNCTION_LINES_MEDIAN_MAX: usize = 13;

/// The only files with unsafe code; each says at its `allow(unsafe_code)` what for.
/// `abi` and `keys` forbid it altogether.
const UNSAFE_FILES: &[&str] = &[
    "broker/src/supervisor/notify.rs",
    "broker/src/supervisor/trial.rs",
    "broker/src/sys.rs",
    "broker/src/upcall/child.rs",
    "broker/src/upcall/spawn.rs",
    "preload/benches/guest.rs",
    "preload/src/autostart.rs",
    "preload/src/environment.rs",
    "preload/src/file_hooks.rs",
    "preload/src/files.rs",
    "preload/src/hook.rs",
    "preload/src/hooks.rs",
    "preload/src/memory.rs",
    "preload/src/process.rs",
    "preload/src/real.rs",
    "preload/src/scratch.rs",
    "preload/src/slots.rs",
    "preload/src/start.rs",
    "preload/src/sys.rs",
    "preload/src/sys/sockets.rs",
    "shim-tests/benches/calls/bare.rs",
    "shim-tests/benches/calls/road.rs",
    "shim-tests/src/bin/actor.rs",
    "shim-tests/src/world/kernel.rs",
];

#[track_caller]
fn nothing(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let long = tree::files().into_iter().filter(|file| file.is_code()).filter_map(|file| {
        let lines = file.text().lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", file.path))
    });
    nothing("files over 400 lines: split them by idea", long.collect());
}

#[test]
fn no_function_is_longer_than_70_lines_and_most_are_short() {
    let mut functions: Vec<_> = source::all().iter().flat_map(Source::functions).collect();
    functions.sort_by_key(|function| function.lines);
    let long = functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    nothing(
        "functions over 70 lines",
        long.map(|f| format!("{}:{} {}: {} lines", f.path, f.line, f.name, f.lines)).collect(),
    );
    let median = functions[functions.len() / 2].lines;
    println!("{} functions, median {median} lines", functions.len());
    assert!(median <= FUNCTION_LINES_MEDIAN_MAX, "the median function has {median} lines");
}

#[test]
fn unsafe_code_is_only_where_it_is_meant_to_be() {
    let mut broken = Vec::new();
    for source in source::all() {
        let listed = UNSAFE_FILES.contains(&source.path.as_str());
        if !source.unsafe_lines().is_empty() && !listed {
            broken.push(format!("{}:{}: not listed", source.path, source.unsafe_lines()[0]));
        }
        let parent = source.path.rsplit_once('/').map(|(folder, _)| format!("{folder}.rs"));
        let inherits = parent.is_some_and(|parent| UNSAFE_FILES.contains(&parent.as_str()));
        if listed && !inherits && !source.says_why_unsafe() {
            broken.push(format!("{}: `allow(unsafe_code)` without `// why`", source.path));
        }
        let silent = source.unsafe_blocks_without_reason();
        broken.extend(silent.map(|line| format!("{}:{line}: no `// SAFETY:` above", source.path)));
    }
    nothing("unsafe code", broken);
}

#[test]
fn the_list_of_unsafe_files_is_not_longer_than_need_be() {
    let sources = source::all();
    let idle = UNSAFE_FILES.iter().filter(|path| {
        !sources.iter().any(|source| source.path == **path && !source.unsafe_lines().is_empty())
    });
    nothing("listed files without unsafe code", idle.map(|path| (*path).to_owned()).collect());
}

#[test]
fn the_core_knows_no_std_and_forbids_unsafe() {
    let mut broken = Vec::new();
    for root in ["abi/src/lib.rs", "keys/src/lib.rs"] {
        let text = tree::read(root);
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !text.lines().any(|line| line == attribute) {
                broken.push(format!("{root}: lacks {attribute}"));
            }
        }
    }
    for source in source::all() {
        let core = source.path.starts_with("abi/src/") || source.path.starts_with("keys/src/");
        if core {
            let lines = source.std_outside_tests();
            broken.extend(lines.into_iter().map(|line| format!("{}:{line}: std", source.path)));
        }
    }
    nothing("the core is pure", broken);
}

#[test]
fn the_core_depends_on_nothing_that_touches_the_world() {
    let allowed = ["keyshim-abi", "hashbrown", "siphasher", "smallvec", "zeroize"];
    let mut broken = Vec::new();
    for manifest in ["abi/Cargo.toml", "keys/Cargo.toml"] {
        for name in tree::dependencies(&tree::read(manifest)) {
            if !allowed.contains(&name.as_str()) {
                broken.push(format!("{manifest}: {name}"));
            }
        }
    }
    nothing("dependencies of the core", broken);
}

#[test]
fn every_operation_has_its_file_with_a_head_comment() {
    nothing("files of operations (abi/src/ops.rs says which)", operations::without_file());
}

#[test]
fn every_operation_has_a_script() {
    nothing("operations that no script in shim-tests/scripts names", operations::without_script());
}

#[test]
fn every_operation_has_its_row_in_compatibility() {
    nothing("rows of docs/COMPATIBILITY.md", operations::wrong_rows());
}

#[test]
fn every_point_of_a_profile_is_explained() {
    nothing("rows of docs/PROFILES.md", profiles::wrong_rows());
}

#[test]
fn every_test_of_keyutils_has_one_expectation() {
    nothing("shim-tests/suites/keyutils.expected", operations::wrong_expectations());
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let documents = tree::files().into_iter().filter(|file| file.path.ends_with(".md"));
    nothing("links", documents.flat_map(|file| markdown::dead_links(&file)).collect());
}

#[test]
fn files_that_the_documents_name_exist() {
    let documents = tree::files().into_iter().filter(|file| file.path.ends_with(".md"));
    nothing("files", documents.flat_map(|file| markdown::missing_files(&file)).collect());
}

#[test]
fn nothing_is_said_of_the_machine_it_was_written_on() {
    // Put together from pieces, or this file would break its own rule.
    let places = [["/ro", "ot/"].concat(), ["/ho", "me/"].concat(), ["/wo", "rk/"].concat()];
    let begins_path = |line: &str, at: usize| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "})_".contains(before))
    };
    let mut broken = Vec::new();
    for file in tree::files() {
        for (index, line) in file.text().lines().enumerate() {
            let mut found = places.iter().flat_map(|place| line.match_indices(place.as_str()));
            if found.any(|(at, _)| begins_path(line, at)) {
                broken.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    nothing("paths of one machine", broken);
}
