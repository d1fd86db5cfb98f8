//! Options that say which kernel to behave like.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use keyshim_keys::Profile;

/// Arguments of whatever begins a universe.
#[derive(Debug, Args)]
pub(crate) struct ProfileArguments {
    /// Which kernel to behave like: linux-6, or linux-2.6.10, the first with keys
    /// (docs/PROFILES.md)
    #[arg(long, value_name = "PROFILE", default_value = Profile::LINUX_6.name,
          value_parser = parse_profile)]
    profile: &'static str,
    /// Whether to have the bugs of that kernel's code where its document says otherwise
    #[arg(long, value_enum, default_value_t = Quirks::Off)]
    quirks: Quirks,
}

/// Whether a kernel's bugs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Quirks {
    /// What was documented
    Off,
    /// What was done
    On,
}

impl ProfileArguments {
    /// The profile that is meant.
    pub(crate) fn profile(&self) -> Profile {
        Profile::named(self.profile, self.quirks == Quirks::On).unwrap_or_default()
    }
}

/// The same as arguments of `broker`; none for what it is anyway.
pub(crate) fn as_arguments(profile: &Profile) -> Vec<OsString> {
    if *profile == Profile::default() {
        return Vec::new();
    }
    let quirks = Profile::named(profile.name, false) != Some(*profile);
    let quirks = if quirks { "on" } else { "off" };
    ["--profile", profile.name, "--quirks", quirks].map(OsString::from).into()
}

fn parse_profile(text: &str) -> Result<&'static str, String> {
    let mut names = Profile::ALL.iter().map(|[profile, _]| profile.name);
    let known = names.clone().collect::<Vec<_>>().join(" and ");
    names.find(|name| *name == text).ok_or_else(|| format!("there are {known}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn profile(arguments: &[&str]) -> Profile {
        let all = ["keyshim", "broker"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Broker(broker) => broker.profile.profile(),
            _ => panic!("not a broker"),
        }
    }

    #[test]
    fn what_is_handed_on_is_the_profile_that_was_chosen() {
        for wanted in Profile::ALL.into_iter().flatten() {
            let handed_on = as_arguments(&wanted);
            let handed_on: Vec<&str> =
                handed_on.iter().map(|text| text.to_str().unwrap()).collect();
            assert_eq!(profile(&handed_on), wanted);
        }
        assert_eq!(profile(&[]), Profile::LINUX_6);
        assert_eq!(profile(&["--profile", "linux-2.6.10"]), Profile::LINUX_2_6_10);
    }

    #[test]
    fn an_unknown_profile_names_the_known_ones() {
        let error = Cli::try_parse_from(["keyshim", "run", "--profile", "linux-5", "ls"]);
        assert!(error.unwrap_err().to_string().contains("linux-6 and linux-2.6.10"));
    }
}
