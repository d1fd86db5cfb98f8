//! The command line. Help, completions and manual pages all come from here.

pub(crate) mod profile;
pub(crate) mod upcalls;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use keyshim_abi::KeyId;

use crate::paths::DomainName;
use crate::procfiles::Proc;
use crate::run::mode::Mode;
use crate::show::{How, Where, parse_keyring};
use profile::ProfileArguments;
use upcalls::{AgentUpcallArguments, UpcallArguments};

const AFTER_HELP: &str = "\
Environment:
  KEYSHIM_SOCKET   Addresses of the broker, in the order in which to try them,
                   separated by commas; @NAME is an abstract socket
  KEYSHIM_LIBRARY  The library that is preloaded, if it is not beside keyshim
  KEYSHIM_LOG      What to log to standard error: error, warn, info, debug
  NO_COLOR         No colours

These keys live in a process, not in the kernel: NFS, dm-crypt, fscrypt and other
parts of the kernel do not see them. The preloaded library alone is cooperation, not a
security boundary: who does not want to be caught by it is not caught.";

const RUN_HELP: &str = "\
Examples:
  keyshim run -- keyctl show
  keyshim run -- sh -c 'keyctl add user a b @u; keyctl print %user:a'
  keyshim run --domain build -- make test
  keyshim run --mode preload -- ./a-script-with-sudo-in-it

By default every call is caught, by the library or in the kernel, where that works
(keyshim doctor says whether). For an ordinary user this gives the program
no-new-privileges: sudo and its like need --mode preload.

The exit status is the program's: 128 and the number if a signal ended it, 127 if
there is no such program, 126 if it cannot be run, 125 if keyshim itself failed.
The run is over when the last process that the program started has ended.";

const BROKER_HELP: &str = "\
Examples:
  keyshim broker --socket /run/keyshim.sock --mode 0666
  LD_PRELOAD=libkeyshim.so KEYSHIM_SOCKET=/run/keyshim.sock keyctl show

A socket that a service manager hands over (LISTEN_FDS, ListenDatagram=) is used
instead of --socket. Readiness is told by NOTIFY_SOCKET, Type=notify.";

const MOUNT_HELP: &str = "\
Examples:
  keyshim run -- sh -c 'keyshim mount keys; echo secret >keys/@u/user:mail; ls -l keys/@u/'
  keyshim mount --domain build /mnt/keys

Each file operation is a key call of the process that makes it: a mount grants nothing.
keys/@s, @u, @us, @p and @t lead to the caller's own keyrings, keys/by-serial and
keys/by-uid to all that it may view. docs/KEYFS.md says which operation is which call.";

const AGENT_HELP: &str = "\
Examples:
  keyshim agent --socket /run/keyshim-agent.sock
  keyshim tree --socket /run/keyshim-agent.sock.d/CONTAINER-ID

A container is caught when its runtime's configuration says, under linux.seccomp,
  \"listenerPath\": \"/run/keyshim-agent.sock\"
and gives add_key, request_key and keyctl the action SCMP_ACT_NOTIFY. Each has a key
universe of its own, gone with its last program. Containers whose configurations
have the same \"listenerMetadata\" share one.

A socket that a service manager hands over (LISTEN_FDS, ListenStream=) is used
instead of --socket. Readiness is told by NOTIFY_SOCKET, Type=notify. When the agent
ends, the containers that it served see a kernel without keys.";

/// Linux's key retention service in user space: add_key, request_key and keyctl for
/// unmodified programs, in a key universe of their own.
#[derive(Debug, Parser)]
#[command(name = "keyshim", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program with keys of its own
    #[command(after_help = RUN_HELP)]
    Run(RunArguments),
    /// Serve a key universe at a socket
    #[command(after_help = BROKER_HELP)]
    Broker(BrokerArguments),
    /// Give each container a key universe of its own, as the seccomp agent of its runtime
    #[command(after_help = AGENT_HELP)]
    Agent(AgentArguments),
    /// List the keys that you may view
    Keys {
        /// Which universe.
        #[command(flatten)]
        place: Where,
        /// How to show it.
        #[command(flatten)]
        how: How,
    },
    /// Show how many keys each user has, and how many are allowed
    Users {
        /// Which universe.
        #[command(flatten)]
        place: Where,
        /// How to show it.
        #[command(flatten)]
        how: How,
    },
    /// Draw a keyring and all that is below it
    Tree {
        /// Serial of a keyring, or @s (session), @u (user), @us (user session), @p, @t
        #[arg(default_value = "@s", value_parser = parse_keyring, allow_hyphen_values = true)]
        keyring: KeyId,
        /// Which universe.
        #[command(flatten)]
        place: Where,
        /// How to show it.
        #[command(flatten)]
        how: How,
    },
    /// Mount the keys as directories and files, until umount or the end of their universe
    #[command(after_help = MOUNT_HELP)]
    Mount {
        /// Where; an empty directory
        directory: PathBuf,
        /// Which universe.
        #[command(flatten)]
        place: Where,
    },
    /// Unmount when nobody answers any more (for `mount`)
    #[command(hide = true)]
    KeepMount {
        /// The mount's number
        mount: u64,
        /// Where it is
        directory: PathBuf,
    },
    /// Say what works here, and what to do about what does not
    Doctor {
        /// Which universe.
        #[command(flatten)]
        place: Where,
        /// How to show it.
        #[command(flatten)]
        how: How,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them into a directory
    Man {
        /// Where to write keyshim.1, keyshim-run.1 and the others
        directory: Option<PathBuf>,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Share the keys with your other runs in the domain of this name; it ends with the last of
    /// their programs
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<DomainName>,
    /// Which kernel to behave like.
    #[command(flatten)]
    pub(crate) profile: ProfileArguments,
    /// Give the same serials in every run with this seed; of a shared domain, the first run's
    /// counts
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How to catch the program's calls
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub(crate) mode: Mode,
    /// Let any signal interrupt a trapped call, as kernels before 5.19 do (for tests)
    #[arg(long, hide = true)]
    pub(crate) interruptible: bool,
    /// Whether every program, static ones too, finds these keys in /proc/keys, /proc/key-users
    /// and /proc/sys/kernel/keys
    #[arg(long, value_enum, default_value_t = Proc::Auto)]
    pub(crate) proc: Proc,
    /// Who makes keys.
    #[command(flatten)]
    pub(crate) upcalls: UpcallArguments,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

/// Arguments of `broker`.
#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// Where to serve: a path, or @NAME for an abstract socket, which every user can reach
    /// [default: $XDG_RUNTIME_DIR/keyshim/default, else /tmp/keyshim-UID/default]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) socket: Option<OsString>,
    /// Who may connect to a path, as for chmod
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(crate) mode: u32,
    /// Which kernel to behave like.
    #[command(flatten)]
    pub(crate) profile: ProfileArguments,
    /// Give the same serials in every run with this seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Who makes keys.
    #[command(flatten)]
    pub(crate) upcalls: UpcallArguments,
    /// Serve the default socket in the background until nobody needs it (for the library)
    #[arg(long, hide = true, conflicts_with_all = ["socket", "serve_domain", "start_domain"])]
    pub(crate) autostart: bool,
    /// Serve a shared domain in the background (for `run --domain`)
    #[arg(long, hide = true, conflicts_with_all = ["socket", "start_domain"])]
    pub(crate) serve_domain: Option<DomainName>,
    /// Start a process that serves a shared domain, and end
    #[arg(long, hide = true, conflicts_with = "socket")]
    pub(crate) start_domain: Option<DomainName>,
}

/// Arguments of `agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// Where runtimes hand over containers: a path, or @NAME for an abstract socket
    /// [default: $XDG_RUNTIME_DIR/keyshim/agent, else /tmp/keyshim-UID/agent]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) socket: Option<OsString>,
    /// Who may connect to a path, as for chmod; the containers of different users never share
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(crate) mode: u32,
    /// Where each universe has a socket to look at it by, of the container's id (or @METADATA),
    /// while it lives [default: the path of --socket and .d]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) domains: Option<PathBuf>,
    /// Who makes keys.
    #[command(flatten)]
    pub(crate) upcalls: AgentUpcallArguments,
    /// Which kernel to behave like.
    #[command(flatten)]
    pub(crate) profile: ProfileArguments,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "give an octal number up to 0777".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let cli = Cli::try_parse_from(["keyshim", "run", "--seed", "7", "ls", "--seed", "x"]);
        let Command::Run(run) = cli.unwrap().command else { panic!("not run") };
        assert_eq!(run.seed, Some(7));
        assert_eq!(run.command, ["ls", "--seed", "x"]);
    }
}
