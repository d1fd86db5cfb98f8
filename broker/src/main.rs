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
mod agent;
mod autostart;
mod caller;
mod cli;
mod client;
mod connection;
mod connections;
mod delivery;
mod descent;
mod doctor;
mod domain;
mod door;
mod events;
mod execution;
mod fault;
mod hardening;
mod host;
mod housekeeping;
mod identity;
mod inheritance;
mod keyfs;
mod knobs;
mod lineage;
mod manual;
mod namespace;
mod orphans;
mod paths;
mod pool;
mod proc;
mod procfiles;
mod run;
mod server;
mod service;
mod show;
mod supervisor;
mod sys;
mod tasks;
mod upcall;
mod visitor;
mod waits;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use address::Address;
use cli::{AgentArguments, BrokerArguments, Cli, Command, RunArguments};
use domain::Beginning;
use fault::Fault;
use server::{Admission, Lifetime};

/// Exit status when it is we who failed: out of the way of what programs use.
const FAULT_STATUS: u8 = 125;

fn main() -> ExitCode {
    if let Some(is_answered) = doctor::answer_rehearsal() {
        return if is_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
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
    let Ok(directives) = std::env::var("KEYSHIM_LOG") else { return };
    match EnvFilter::try_new(&directives) {
        Ok(filter) => {
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        }
        Err(error) => anstream::eprintln!(
            "keyshim: KEYSHIM_LOG={directives}: {error}; say error, warn, info or debug"
        ),
    }
}

fn carry_out(cli: Cli) -> Result<ExitCode, Fault> {
    let done = match cli.command {
        Command::Run(arguments) => {
            let RunArguments { domain, seed, mode, proc, .. } = arguments;
            let profile = arguments.profile.profile();
            let killable_only = !arguments.interruptible;
            let (command, calling) = (arguments.command, arguments.upcalls.calling());
            let beginning = Beginning { seed, profile, calling };
            let plan = run::Plan { command, domain, mode, killable_only, proc, beginning };
            return run::run(&plan);
        }
        Command::Doctor { place, how } => return doctor::examine(&place, how),
        Command::Broker(arguments) => broker(arguments),
        Command::Agent(arguments) => agent(arguments),
        Command::Keys { place, how } => show::keys(&place, how),
        Command::Users { place, how } => show::users(&place, how),
        Command::Mount { directory, place } => keyfs::mount(&directory, &place),
        Command::KeepMount { mount, directory } => keyfs::keeper::keep(&directory, mount),
        Command::Tree { keyring, place, how } => show::tree(&place, keyring, how),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::manual(directory.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn broker(arguments: BrokerArguments) -> Result<(), Fault> {
    let (seed, profile) = (arguments.seed, arguments.profile.profile());
    let beginning = Beginning { seed, profile, calling: arguments.upcalls.calling() };
    if arguments.autostart {
        return autostart::serve_default();
    }
    if let Some(name) = &arguments.serve_domain {
        return autostart::serve_domain(name, beginning);
    }
    if let Some(name) = &arguments.start_domain {
        return autostart::start_domain(name, &beginning);
    }
    let address = match &arguments.socket {
        Some(socket) => Address::parse(socket),
        None => service::default_address()?,
    };
    let plan = service::Plan {
        address,
        mode: arguments.mode,
        admission: Admission::Anyone,
        lifetime: Lifetime::UntilStopped,
        has_name: false,
        beginning,
    };
    service::serve(&plan).map_err(|refusal| refusal.told(&plan.address))
}

fn agent(arguments: AgentArguments) -> Result<(), Fault> {
    let AgentArguments { socket, mode, domains, upcalls, profile } = arguments;
    let address = match &socket {
        Some(socket) => Address::parse(socket),
        None => service::default_agent_address()?,
    };
    let beginning =
        Beginning { seed: None, profile: profile.profile(), calling: upcalls.calling() };
    agent::serve(&agent::Plan { address, mode, domains, beginning })
}
