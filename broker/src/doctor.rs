//! `keyshim doctor`: what works here, and what to do about what does not.

mod files;
mod filters;
mod host;
mod modes;
mod rehearsal;

use std::process::ExitCode;

use serde::Serialize;

use crate::client::Client;
use crate::fault::Fault;
use crate::run::library;
use crate::show::style::{BAD, GOOD, HEADING, QUIET, WARNING, paint, print};
use crate::show::{How, Where, print_json};

use modes::{GateTried, Ladder, Rung};
pub(crate) use rehearsal::answer as answer_rehearsal;

/// What a user must know whatever works.
const CAVEATS: [&str; 2] = [
    "Preload alone is cooperation and no security boundary: static programs, set-user-id programs and those that make \
     system calls by themselves are caught only in the modes seccomp and both.",
    "The kernel's own consumers of keys (NFS, CIFS, dm-crypt, fscrypt, kTLS) do not see these \
     keys: they read the real kernel's.",
];

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It works.
    Good,
    /// Something is missing that can be done without.
    Lacking,
    /// Something is missing that is needed.
    Broken,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do, or what it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, state: State::Good, found: found.into(), advice: None }
    }

    fn lacking(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        let advice = Some(advice.into());
        Finding { what, state: State::Lacking, found: found.into(), advice }
    }

    fn broken(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { state: State::Broken, ..Finding::lacking(what, found, advice) }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
    #[serde(flatten)]
    ladder: &'a Ladder,
    caveats: [&'static str; 2],
    works: bool,
}

/// Looks at everything; fails when something that is needed is broken.
pub(crate) fn examine(place: &Where, how: How) -> Result<ExitCode, Fault> {
    let mut findings = host::findings();
    let library = library::find();
    findings.push(match &library {
        Ok(library) => Finding::good("library", library.0.display().to_string()),
        Err(fault) => Finding::broken("library", "not found", fault.to_string()),
    });
    findings.push(broker(place));
    findings.push(filters::finding());
    findings.push(files::finding());
    let ladder = modes::climb(library.as_ref().ok());
    let taken = ladder.modes.iter().find(|rung| rung.mode == ladder.auto);
    let works = findings.iter().all(|finding| finding.state != State::Broken)
        && taken.is_some_and(|rung| rung.works);
    if how.json {
        print_json(&Report { findings: &findings, ladder: &ladder, caveats: CAVEATS, works })?;
    } else {
        print(&text(&findings, &ladder, works))?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(findings: &[Finding], ladder: &Ladder, works: bool) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { what, state, found, advice } in findings {
        let mark = match state {
            State::Good => paint(GOOD, "ok  "),
            State::Lacking => paint(WARNING, "note"),
            State::Broken => paint(BAD, "FAIL"),
        };
        text.push_str(&format!("{mark}  {what:width$}  {found}\n"));
        if let Some(advice) = advice {
            text.push_str(&format!("      {:width$}  {}\n", "", paint(QUIET, advice)));
        }
    }
    text.push_str(&rungs(ladder));
    for caveat in CAVEATS {
        text.push_str(&format!("{caveat}\n"));
    }
    let verdict = match works {
        true => "Everything that is needed works: try `keyshim run -- keyctl show`.",
        false => "Something that is needed does not work: see FAIL above.",
    };
    text.push_str(&format!("\n{}\n", paint(HEADING, verdict)));
    text
}

/// How calls can be caught, and which way `auto` takes.
fn rungs(ladder: &Ladder) -> String {
    const NAME_WIDTH: usize = 8;
    let mut text = format!("\n{}\n", paint(HEADING, "Modes of `keyshim run`"));
    for Rung { mode, works, found, advice } in &ladder.modes {
        let is_taken = *mode == ladder.auto;
        let mark = match (works, is_taken) {
            (true, _) => paint(GOOD, "yes "),
            (false, false) => paint(WARNING, "no  "),
            (false, true) => paint(BAD, "FAIL"),
        };
        let taken = if is_taken { paint(HEADING, "  <- auto") } else { String::new() };
        text.push_str(&format!("{mark}  {mode:NAME_WIDTH$}  {found}{taken}\n"));
        if let Some(advice) = advice {
            text.push_str(&format!("      {:NAME_WIDTH$}  {}\n", "", paint(QUIET, advice)));
        }
    }
    text.push('\n');
    for GateTried { gate, caught, found } in &ladder.gates {
        let mark = if *caught { paint(GOOD, "yes ") } else { paint(QUIET, "no  ") };
        text.push_str(&format!("{mark}  {gate:NAME_WIDTH$}  {found}\n"));
    }
    text.push('\n');
    text
}

/// Whether a broker answers where programs would look for it.
fn broker(place: &Where) -> Finding {
    const WHAT: &str = "broker";
    let addresses = place.addresses();
    for address in &addresses {
        if Client::connect(address).is_ok() {
            return Finding::good(WHAT, format!("one answers at {address}"));
        }
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Finding::lacking(
        WHAT,
        format!("none answers at {}", addresses.join(", ")),
        "none is needed for `keyshim run`; for a service, start `keyshim broker`",
    )
}
