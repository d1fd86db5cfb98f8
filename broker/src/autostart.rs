//! Brokers that nobody started by hand: the user's own, which the preload library
//! starts (`keyshim broker --autostart`), and that of a shared domain, which
//! `keyshim run --domain` starts.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyshim_keys::Profile;
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::address::Address;
use crate::client::{Client, Trouble};
use crate::domain::Beginning;
use crate::fault::Fault;
use crate::paths::{self, DomainName};
use crate::run::library::PRELOAD;
use crate::server::{Admission, Lifetime};
use crate::service::{self, Plan, Refusal};
use crate::upcall::Calling;
use crate::{cli, sys};

/// How long a new broker has to open its door.
const START_MAX: Duration = Duration::from_secs(5);
/// How soon to start another when none answers.
const START_AGAIN: Duration = Duration::from_millis(500);
/// How often to look whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Serves the user's default socket, unless another broker does: then there is
/// nothing to do, and that is well.
pub(crate) fn serve_default() -> Result<(), Fault> {
    leave_the_terminal()?;
    let address = service::default_address()?;
    let plan = Plan {
        address,
        mode: 0o600,
        admission: Admission::Anyone,
        lifetime: Lifetime::WhileUsed,
        has_name: false,
        beginning: Beginning {
            seed: None,
            profile: Profile::default(),
            calling: Some(Calling::default()),
        },
    };
    serve_unless_taken(&plan)
}

/// Serves a shared domain, unless another broker does.
pub(crate) fn serve_domain(name: &DomainName, beginning: Beginning) -> Result<(), Fault> {
    leave_the_terminal()?;
    paths::make_user_directory(&paths::user_directory())?;
    let plan = Plan {
        address: Address::Path(paths::domain_socket(name)),
        mode: 0o600,
        admission: Admission::Family,
        lifetime: Lifetime::WithPrograms,
        has_name: true,
        beginning,
    };
    serve_unless_taken(&plan)
}

fn serve_unless_taken(plan: &Plan) -> Result<(), Fault> {
    match service::serve(plan) {
        Ok(()) | Err(Refusal::Taken) => Ok(()),
        Err(Refusal::Fault(fault)) => Err(fault),
    }
}

/// Holds on to nothing of whoever started us: no session, no terminal, no
/// directory, no pipe that somebody waits for the end of.
fn leave_the_terminal() -> Result<(), Fault> {
    let next = "report this";
    // Its name would be that of the link by which it was started.
    let _ = nix::sys::prctl::set_name(c"keyshim");
    sys::close_inherited().map_err(Fault::system("cannot close descriptors", next))?;
    // EPERM: whoever started us has done it.
    let _ = setsid();
    chdir("/").map_err(Fault::system("cannot go to /", next))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(Fault::file("cannot open", "/dev/null", next))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .map_err(Fault::system("cannot leave the terminal", next))
}

/// Starts the broker of a shared domain: through a process that ends at once, so
/// that the broker is nobody's child and no run waits for it.
pub(crate) fn start_domain(name: &DomainName, beginning: &Beginning) -> Result<(), Fault> {
    ourselves("--serve-domain", name, beginning).spawn().map(drop).map_err(cannot_start)
}

fn ourselves(what: &str, name: &DomainName, beginning: &Beginning) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("keyshim").args(["broker", what, &name.to_string()]);
    if let Some(seed) = beginning.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(cli::profile::as_arguments(&beginning.profile));
    command.args(cli::upcalls::as_arguments(beginning.calling.as_ref()));
    command.env_remove(PRELOAD).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn cannot_start(error: std::io::Error) -> Fault {
    Fault::Told(format!("cannot start a broker: {error}; look at the limit of processes"))
}

/// A connection to the broker of a shared domain, which lives for as long as the
/// connection, and the addresses of its door. Starts the broker if there is none.
pub(crate) fn lease(
    name: &DomainName,
    beginning: &Beginning,
) -> Result<(Client, Vec<Address>), Fault> {
    let path = paths::domain_socket(name);
    let address = Address::Path(path.clone());
    paths::make_user_directory(&paths::user_directory())?;
    let begun = Instant::now();
    let mut last_start: Option<Instant> = None;
    loop {
        match Client::connect(&address) {
            Ok(client) => {
                let addresses = service::name_of(&path).into_iter().chain([address]).collect();
                return Ok((client, addresses));
            }
            // One that is about to end hangs up.
            Err(Trouble::Nobody | Trouble::Silence(_)) if begun.elapsed() < START_MAX => (),
            Err(trouble) => {
                return Err(Fault::Told(format!(
                    "the broker of domain {name} at {address}: {trouble}; see why with \
                     `KEYSHIM_LOG=info keyshim broker --socket {address}`"
                )));
            }
        }
        // Again and again: the first to come may meet one that is about to end.
        if last_start.is_none_or(|start| start.elapsed() > START_AGAIN) {
            last_start = Some(Instant::now());
            ourselves("--start-domain", name, beginning).status().map_err(cannot_start)?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
