//! The command line. Help, completions and manual pages all come from here.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

/// Linux's key retention service in user space.
#[derive(Debug, Parser)]
#[command(name = "keyshim", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in a key universe of its own
    Run(RunArguments),
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// Give the same serials in every run with this seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}
