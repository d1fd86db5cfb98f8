//! By which roads a program's calls come to us.

use clap::ValueEnum;
use keyshim_abi::gate::GATES;
use seccompiler::BpfProgram;

use super::library::{self, Library};
use crate::fault::Fault;
use crate::supervisor::filter;

/// How the calls of a program are to be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Whatever works here, as `keyshim doctor` says
    Auto,
    /// By a preloaded library: fast, and only what goes through the C library
    Preload,
    /// By the kernel: every program, static ones too
    Seccomp,
    /// By the library, and by the kernel what passes it by
    Both,
}

/// The roads that a program gets.
pub(crate) struct Roads {
    /// The library, to be preloaded.
    pub(crate) library: Option<Library>,
    /// The filter, to be put over it.
    pub(crate) filter: Option<BpfProgram>,
}

impl Roads {
    /// The roads of a mode.
    pub(crate) fn choose(mode: Mode) -> Result<Roads, Fault> {
        let (preload, trap) = match mode {
            Mode::Preload | Mode::Auto => (true, false),
            Mode::Seccomp => (false, true),
            Mode::Both => (true, true),
        };
        Ok(Roads {
            library: preload.then(library::find).transpose()?,
            filter: trap.then(|| filter::program(GATES)).transpose()?,
        })
    }
}
