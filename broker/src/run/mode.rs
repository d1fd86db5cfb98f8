//! By which roads a program's calls come to us.
//!
//! `auto` takes both: the library serves, and the filter is the net below it. Where
//! there is no filter over us, nothing can be in its way but the kernel itself: then
//! the program's own start is the test, and it begins without a filter when it is
//! refused one. Where there is a filter already, a child finds out first.

use std::fmt;

use clap::ValueEnum;
use keyshim_abi::gate::GATES;
use seccompiler::BpfProgram;
use serde::Serialize;

use super::library::{self, Library};
use crate::fault::Fault;
use crate::supervisor::notify::Terms;
use crate::supervisor::{filter, handover, notify, probe};

/// How the calls of a program are to be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Both where that works, else preload: `keyshim doctor` says which
    Auto,
    /// By a preloaded library: fast, and only what goes through the C library
    Preload,
    /// By the kernel: every program, static ones too
    Seccomp,
    /// By the library, and by the kernel what passes it by
    Both,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Auto => "auto",
            Mode::Preload => "preload",
            Mode::Seccomp => "seccomp",
            Mode::Both => "both",
        })
    }
}

/// A filter that a program is to begin under.
pub(crate) struct Filter {
    /// For the kernel.
    pub(crate) program: BpfProgram,
    /// Without it, if it cannot be had, the program begins all the same.
    pub(crate) is_optional: bool,
    /// How it is installed.
    pub(crate) terms: Terms,
}

/// The roads that a program gets.
pub(crate) struct Roads {
    /// The library, to be preloaded.
    pub(crate) library: Option<Library>,
    /// The filter, to be put over it.
    pub(crate) filter: Option<Filter>,
}

impl Roads {
    /// The roads of a mode, for a program whose domain is in this process or is a
    /// shared one, which has a broker of its own.
    pub(crate) fn choose(mode: Mode, is_shared: bool, killable_only: bool) -> Result<Roads, Fault> {
        let chosen = match mode {
            Mode::Auto => choose_for_auto(is_shared),
            Mode::Seccomp | Mode::Both if is_shared && !handover::broker_may_look() => {
                return Err(no_filter_in_shared(mode));
            }
            Mode::Preload | Mode::Seccomp | Mode::Both => mode,
        };
        tracing::info!(asked = %mode, mode = %chosen, "how calls are caught");
        let (preload, trap) = (chosen != Mode::Seccomp, chosen != Mode::Preload);
        let is_optional = mode == Mode::Auto;
        let terms = Terms { killable_only, ..Terms::USUAL };
        let filter =
            || filter::program(GATES).map(|program| Filter { program, is_optional, terms });
        Ok(Roads {
            library: preload.then(library::find).transpose()?,
            filter: trap.then(filter).transpose()?,
        })
    }
}

fn choose_for_auto(is_shared: bool) -> Mode {
    if is_shared && !handover::broker_may_look() {
        tracing::info!("no filter: the domain's broker may not look into programs (Yama)");
        return Mode::Preload;
    }
    if !GATES.is_empty() && !notify::is_under_filter() {
        return Mode::Both;
    }
    match probe::try_native() {
        Ok(trial) => rung(&trial),
        Err(fault) => {
            tracing::info!("no filter: {fault}");
            Mode::Preload
        }
    }
}

/// What `auto` takes after that trial.
pub(crate) fn rung(trial: &probe::Trial) -> Mode {
    match trial.outcome {
        probe::Outcome::Caught => Mode::Both,
        outcome => {
            tracing::info!("no filter: {outcome}");
            Mode::Preload
        }
    }
}

fn no_filter_in_shared(mode: Mode) -> Fault {
    Fault::Told(format!(
        "--mode {mode} with --domain: /proc/sys/kernel/yama/ptrace_scope forbids the domain's \
         broker to look into the program; say --mode preload, or set it to 0"
    ))
}
