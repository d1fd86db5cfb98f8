//! The rungs: by which roads calls can be caught here, each tried, and which one
//! `auto` takes.

use keyshim_abi::gate::{AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64, GATES, Gate};
use keyshim_abi::uapi;
use nix::errno::Errno;
use serde::Serialize;

use super::rehearsal::{self, Rehearsed};
use crate::fault::Fault;
use crate::run::library::Library;
use crate::run::mode::{self, Mode};
use crate::supervisor::probe::{self, Outcome, Trial};

/// One mode of `keyshim run`.
#[derive(Debug, Serialize)]
pub(super) struct Rung {
    pub(super) mode: Mode,
    /// A program's call was caught and answered this way.
    pub(super) works: bool,
    /// What was found.
    pub(super) found: String,
    /// What to do, or what it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

/// One way into the kernel.
#[derive(Debug, Serialize)]
pub(super) struct GateTried {
    pub(super) gate: &'static str,
    /// A call that entered by it came to us.
    pub(super) caught: bool,
    /// What became of it.
    pub(super) found: String,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Ladder {
    /// The rungs, the best first.
    pub(super) modes: [Rung; 3],
    /// The one that `auto` takes.
    pub(super) auto: Mode,
    /// What a filter of ours catches.
    pub(super) gates: Vec<GateTried>,
}

/// Tries everything.
pub(super) fn climb(library: Option<&Library>) -> Ladder {
    let native = probe::try_native();
    let kernel = match &native {
        Ok(trial) => in_kernel(trial),
        Err(fault) => no(Mode::Seccomp, fault.to_string(), "see the other findings"),
    };
    let library_alone = match library {
        Some(library) => by_library(library),
        None => no(Mode::Preload, "there is no library", "see `library` above"),
    };
    let both = match (library, kernel.works && library_alone.works) {
        (Some(library), true) => together(library, &kernel),
        _ => {
            let missing = if kernel.works { &library_alone } else { &kernel };
            no(Mode::Both, missing.found.clone(), missing.advice.clone().unwrap_or_default())
        }
    };
    let auto = native.map_or(Mode::Preload, |trial| mode::rung(&trial));
    let gates = GATES.iter().map(try_gate).collect();
    Ladder { modes: [both, kernel, library_alone], auto, gates }
}

fn no(mode: Mode, found: impl Into<String>, advice: impl Into<String>) -> Rung {
    Rung { mode, works: false, found: found.into(), advice: Some(advice.into()) }
}

fn by_library(library: &Library) -> Rung {
    match rehearsal::rehearse(Some(library), false) {
        Ok(Rehearsed::Caught) => {
            let advice = "static programs, Go and set-user-id programs pass it by";
            yes(Mode::Preload, "a call through the C library was caught", Some(advice))
        }
        other => missed(Mode::Preload, other),
    }
}

fn yes(mode: Mode, found: &str, advice: Option<&str>) -> Rung {
    Rung { mode, works: true, found: found.to_owned(), advice: advice.map(str::to_owned) }
}

fn missed(mode: Mode, what: Result<Rehearsed, Fault>) -> Rung {
    let found = match what {
        Ok(Rehearsed::Caught) => String::new(),
        Ok(Rehearsed::Missed(complaint)) => format!("a program's call was not caught{complaint}"),
        Err(fault) => fault.to_string(),
    };
    let advice = match mode {
        Mode::Seccomp => {
            "the supervisor must be allowed to look into programs: lower \
             /proc/sys/kernel/yama/ptrace_scope to 1, or allow process_vm_readv"
        }
        _ => {
            "check that library and programs are of the same architecture and libc, and that \
             LD_PRELOAD is not forbidden"
        }
    };
    no(mode, found, advice)
}

fn in_kernel(trial: &Trial) -> Rung {
    let Outcome::Caught = trial.outcome else {
        return no(Mode::Seccomp, trial.outcome.to_string(), remedy(trial.outcome));
    };
    match rehearsal::rehearse(None, true) {
        Ok(Rehearsed::Caught) if trial.has_renounced => {
            let found = "calls are caught in the kernel; programs have no-new-privileges";
            yes(Mode::Seccomp, found, Some(RENOUNCED))
        }
        Ok(Rehearsed::Caught) => yes(Mode::Seccomp, "calls are caught in the kernel", None),
        other => missed(Mode::Seccomp, other),
    }
}

/// What an ordinary user pays for a filter.
const RENOUNCED: &str = "sudo, su, fusermount and other set-user-id programs gain nothing in it; \
                         where they must, say --mode preload, or start keyshim as root";

fn together(library: &Library, kernel: &Rung) -> Rung {
    match rehearsal::rehearse(Some(library), true) {
        Ok(Rehearsed::Caught) => {
            let found = "the library serves, and the kernel catches what passes it by";
            yes(Mode::Both, found, kernel.advice.as_deref())
        }
        other => missed(Mode::Both, other),
    }
}

/// What to do about a filter that cannot be had, or is not asked.
fn remedy(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Caught => "",
        Outcome::Answered(_) => {
            "the library makes no such call and works; to catch static programs too, have the \
             outer profile allow add_key, request_key and keyctl"
        }
        Outcome::Refused(Errno::EBUSY) => {
            "`filters above` says whose; the library works without one; to catch static programs \
             too, end that interception, or have it pass its listener on"
        }
        Outcome::Refused(Errno::EPERM | Errno::EACCES) => {
            "the outer profile must allow seccomp(2), or keyshim be started outside of it"
        }
        Outcome::Refused(_) => {
            "Linux 5.0 or later is needed, with CONFIG_SECCOMP_FILTER, and no emulation of it"
        }
        Outcome::Killed(_) => {
            "the library makes no such call and works; a static program would be killed by the \
             outer profile: have it allow add_key, request_key and keyctl"
        }
        Outcome::NotTried => "run `keyshim doctor` outside the sandbox",
    }
}

fn try_gate(gate: &'static Gate) -> GateTried {
    let (caught, found) = match probe::try_gate(gate) {
        Ok(trial) => (trial.outcome == Outcome::Caught, trial.outcome.to_string()),
        Err(fault) => (false, fault.to_string()),
    };
    GateTried { gate: name(gate), caught, found }
}

fn name(gate: &Gate) -> &'static str {
    match gate.arch {
        AUDIT_X86_64 if gate.numbers == uapi::X32 => "x32",
        AUDIT_X86_64 => "x86-64",
        AUDIT_I386 => "i386",
        AUDIT_AARCH64 => "aarch64",
        AUDIT_ARM => "arm",
        _ => "another",
    }
}
