//! `keyshim doctor`: what works here, and what to do about what does not.

mod host;
mod rehearsal;

use std::process::ExitCode;

use serde::Serialize;

use crate::client::Client;
use crate::fault::Fault;
use crate::show::style::{BAD, GOOD, HEADING, QUIET, WARNING, paint, print};
use crate::show::{How, Where, print_json};

pub(crate) use rehearsal::answer as answer_rehearsal;

/// What a user must know whatever works.
const CAVEATS: [&str; 2] = [
    "Preload is cooperation and no security boundary: static programs, set-user-id programs and \
     those that make system calls by themselves are not caught, and none can be forced.",
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
    caveats: [&'static str; 2],
    works: bool,
}

/// Looks at everything; fails when something that is needed is broken.
pub(crate) fn examine(place: &Where, how: How) -> Result<ExitCode, Fault> {
    let mut findings = host::findings();
    findings.extend(rehearsal::findings());
    findings.push(broker(place));
    let works = findings.iter().all(|finding| finding.state != State::Broken);
    if how.json {
        print_json(&Report { findings: &findings, caveats: CAVEATS, works })?;
    } else {
        print(&text(&findings, works))?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(findings: &[Finding], works: bool) -> String {
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
    text.push('\n');
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
