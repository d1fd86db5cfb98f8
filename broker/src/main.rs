//! The key service as a program: a broker around the core `keyshim-keys`, a
//! command that runs programs with it, and commands that look at it.
//!
//! Read in this order: [`domain`] (a universe and its tasks), [`server`] and
//! [`worker`] (the threads), [`door`] and [`connection`] (a client's way in),
//! [`identity`], [`tasks`] and [`lineage`] (who it is), then the commands.
//!
//! Absent here on purpose: what the calls mean (that is `keyshim-keys`), and how
//! they are caught (that is the preload library).

mod address;
mod caller;
mod cli;
mod connection;
mod connections;
mod domain;
mod door;
mod fault;
mod hardening;
mod host;
mod housekeeping;
mod identity;
mod knobs;
mod lineage;
mod namespace;
mod paths;
mod proc;
mod run;
mod server;
mod sys;
mod tasks;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use fault::Fault;

/// Exit status when it is we who failed: out of the way of what programs use.
const FAULT_STATUS: u8 = 125;

fn main() -> ExitCode {
    log_as_asked();
    match carry_out(Cli::parse()) {
        Ok(code) => code,
        Err(fault) => {
            anstream::eprintln!("keyshim: {fault}");
            ExitCode::from(FAULT_STATUS)
        }
    }
}

/// To standard error, if `KEYSHIM_LOG` says what; otherwise nothing.
fn log_as_asked() {
    let Ok(filter) = EnvFilter::try_from_env("KEYSHIM_LOG") else { return };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn carry_out(cli: Cli) -> Result<ExitCode, Fault> {
    match cli.command {
        Command::Run(arguments) => {
            run::run(&run::Plan { command: arguments.command, seed: arguments.seed })
        }
    }
}
