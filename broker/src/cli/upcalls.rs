//! Options that say who makes the keys that are requested and not found.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::upcall::{AT_ONCE_MAX, Calling, REQUEST_KEY, TIME_MAX_S};

/// Arguments of `run` and `broker`.
#[derive(Debug, Args)]
pub(crate) struct UpcallArguments {
    /// Program that makes keys which are requested and not found, called as the kernel calls
    /// /sbin/request-key
    #[arg(long, value_name = "PROGRAM", default_value = REQUEST_KEY, value_parser = parse_program)]
    pub(crate) request_key: PathBuf,
    /// Call no program: what is requested and not found is ENOKEY
    #[arg(long)]
    pub(crate) no_upcall: bool,
    #[command(flatten)]
    bounds: Bounds,
}

/// Arguments of `agent`, whose containers get no helper unless somebody says.
#[derive(Debug, Args)]
pub(crate) struct AgentUpcallArguments {
    /// Program that makes keys which are requested and not found, called as the kernel calls
    /// /sbin/request-key [default: none]
    #[arg(long, value_name = "PROGRAM", value_parser = parse_program)]
    pub(crate) request_key: Option<PathBuf>,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
struct Bounds {
    /// Rules that come before the program: which key is made of what, by which program, or
    /// refused (TOML; see docs/HANDLERS.md)
    #[arg(long, value_name = "FILE")]
    handlers: Option<PathBuf>,

    /// How long that program may take, after which it is killed; 0 for as long as it likes
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_MAX_S)]
    upcall_timeout: u64,
    /// How many of them run at once; further requests wait for their turn
    #[arg(long, value_name = "N", default_value_t = AT_ONCE_MAX, value_parser = parse_count)]
    upcalls_at_once: usize,
}

impl Bounds {
    fn calling(self, program: Option<PathBuf>) -> Option<Calling> {
        if program.is_none() && self.handlers.is_none() {
            return None;
        }
        // A broker that is started for others begins in another directory.
        let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let time_max = Some(self.upcall_timeout).filter(|&time_s| time_s != 0);
        let time_max = time_max.map(Duration::from_secs);
        let handlers = self.handlers.map(whole);
        Some(Calling { program, handlers, time_max, at_once_max: self.upcalls_at_once })
    }
}

impl UpcallArguments {
    /// How helpers are called, if they are.
    pub(crate) fn calling(self) -> Option<Calling> {
        self.bounds.calling(Some(self.request_key).filter(|_| !self.no_upcall))
    }
}

impl AgentUpcallArguments {
    /// How helpers are called, if they are.
    pub(crate) fn calling(self) -> Option<Calling> {
        self.bounds.calling(self.request_key)
    }
}

/// The same as arguments of `broker`; none for what it does anyway.
pub(crate) fn as_arguments(calling: Option<&Calling>) -> Vec<OsString> {
    let Some(calling) = calling else { return vec!["--no-upcall".into()] };
    if *calling == Calling::default() {
        return Vec::new();
    }
    let time_s = calling.time_max.map_or(0, |time| time.as_secs());
    let mut arguments: Vec<OsString> = match &calling.program {
        Some(program) => vec!["--request-key".into(), program.into()],
        None => vec!["--no-upcall".into()],
    };
    if let Some(handlers) = &calling.handlers {
        arguments.extend(["--handlers".into(), handlers.into()]);
    }
    let bounds = [
        ("--upcall-timeout", time_s.to_string()),
        ("--upcalls-at-once", calling.at_once_max.to_string()),
    ];
    arguments.extend(bounds.into_iter().flat_map(|(name, value)| [name.into(), value.into()]));
    arguments
}

/// A helper begins in the directory /.
fn parse_program(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let relative = || "give an absolute path, which starts with a slash".to_owned();
    path.is_absolute().then_some(path).ok_or_else(relative)
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=4096).contains(count));
    count.ok_or_else(|| "give a number from 1 to 4096".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn calling(arguments: &[&str]) -> Option<Calling> {
        let all = ["keyshim", "broker"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Broker(broker) => broker.upcalls.calling(),
            _ => panic!("not a broker"),
        }
    }

    #[test]
    fn what_is_handed_on_is_what_was_said() {
        let told = calling(&["--request-key", "/x", "--upcall-timeout", "0"]);
        assert_eq!(told.as_ref().unwrap().time_max, None);
        let again: Vec<OsString> = as_arguments(told.as_ref());
        let again: Vec<&str> = again.iter().map(|text| text.to_str().unwrap()).collect();
        assert_eq!(calling(&again), told);
        assert_eq!(calling(&["--no-upcall"]), None);
        assert_eq!(as_arguments(None), ["--no-upcall"]);
        assert!(as_arguments(calling(&[]).as_ref()).is_empty());
    }

    #[test]
    fn a_program_is_named_by_its_whole_path() {
        let refused = Cli::try_parse_from(["keyshim", "broker", "--request-key", "helper"]);
        assert!(refused.unwrap_err().to_string().contains("absolute"));
        let refused = Cli::try_parse_from(["keyshim", "broker", "--upcalls-at-once", "0"]);
        assert!(refused.is_err());
    }
}
