//! Completions and manual pages, made from the definition of the command line.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::fault::Fault;
use crate::show::style;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyshim", &mut script);
    style::print(&String::from_utf8_lossy(&script))
}

/// Prints the page of the program, or writes it and one for each command.
pub(crate) fn manual(directory: Option<&Path>) -> Result<(), Fault> {
    match directory {
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).map_err(cannot_make)?;
            style::print(&String::from_utf8_lossy(&page))
        }
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory).map_err(
            Fault::file("cannot write manual pages into", directory, "make the directory first"),
        ),
    }
}

fn cannot_make(error: io::Error) -> Fault {
    Fault::Told(format!("cannot make the manual page: {error}; report this"))
}
