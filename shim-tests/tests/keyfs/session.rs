//! A session with tools for files, and the same by `keyctl`: `suites/keyfs.session`.

use std::path::Path;

use super::{can_mount, session_with};

/// What one step does, on both sides.
struct Step {
    name: String,
    files: String,
    keyctl: String,
    /// The errors, where the two have different ones.
    errors: Option<(String, String)>,
}

/// Prints what a step has left: links, masks and owners, then payloads.
const STATE: &str = r#"
    walk() {
        local k about
        for k in $(keyctl rlist $1 2>/dev/null); do
            about=$(keyctl rdescribe $k 2>&1)
            case $about in
            keyring*) echo "$2$about"; walk $k "$2${about##*;} / " ;;
            *) echo "$2$about: $(keyctl pipe $k 2>&1 | cksum)" ;;
            esac
        done
    }
    told() {
        cat out
        if test $1 != 0; then echo "error: $(tail -n1 err | sed 's/.*: //')"; fi
        echo 'left:'; walk @u | sort
    }
    cd "$1"; u=$d/@u"#;

/// Makes a negative key of whatever is asked for.
const HELPER: &str = "#!/bin/sh\nkeyctl negate $2 60 $7\n";

fn read() -> Vec<Step> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/keyfs.session");
    let text = std::fs::read_to_string(path).unwrap();
    let steps = text.split("\n= ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').unwrap();
        let side = |mark: &str| {
            let lines = rest.lines().filter_map(|line| line.strip_prefix(mark));
            lines.collect::<Vec<_>>().join("\n")
        };
        let errors = side("! ");
        let errors = errors.split_once(" | ");
        Step {
            name: name.to_owned(),
            files: side("f "),
            keyctl: side("k "),
            errors: errors.map(|(files, keyctl)| (files.to_owned(), keyctl.to_owned())),
        }
    });
    steps.collect()
}

/// What each step of one side printed and left.
fn perform(steps: &[Step], commands: impl Fn(&Step) -> &str) -> Vec<String> {
    let mut script = STATE.to_owned();
    for step in steps {
        let command = commands(step);
        script += &format!("\necho '## {}'; (\n{command}\n) >out 2>err; told $?", step.name);
    }
    let text = session_with(Some(HELPER), &script);
    let parts: Vec<String> = text.split("## ").skip(1).map(str::to_owned).collect();
    assert_eq!(parts.len(), steps.len(), "{text}");
    parts
}

#[test]
fn what_tools_do_is_what_keyctl_does() {
    if !can_mount() {
        return;
    }
    let steps = read();
    let by_files = perform(&steps, |step| &step.files);
    let by_keyctl = perform(&steps, |step| &step.keyctl);
    let mut differences = String::new();
    for ((step, files), keyctl) in steps.iter().zip(by_files).zip(by_keyctl) {
        let expected = match &step.errors {
            Some((own, theirs)) => {
                let told = format!("error: {theirs}\n");
                assert!(keyctl.contains(&told), "{keyctl}");
                keyctl.replace(&told, &format!("error: {own}\n"))
            }
            None => keyctl,
        };
        if files != expected {
            differences += &format!("by files: {files}\nby keyctl: {expected}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
