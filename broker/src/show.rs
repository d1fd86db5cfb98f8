//! `keyshim keys`, `users` and `tree`: looking at a universe from outside or from
//! within, as a client like any other. What a viewer may not see is not shown.

mod keys;
pub(crate) mod style;
mod tree;
mod users;

use std::ffi::OsStr;

use crate::address::Address;
use crate::client::{Client, Trouble};
use crate::fault::Fault;
use crate::paths;

pub(crate) use keys::keys;
pub(crate) use tree::{parse_keyring, tree};
pub(crate) use users::users;

/// Names the universe when no option does.
const SOCKET: &str = "KEYSHIM_SOCKET";

/// Which universe to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// The broker at this address: a path, or @NAME
    #[arg(long, value_name = "ADDRESS", conflicts_with = "domain")]
    pub(crate) socket: Option<String>,
    /// The domain of this name, as `run --domain` made it
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<crate::paths::DomainName>,
}

/// How to show it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct How {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Where {
    /// The addresses to try, in order.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        if let Some(domain) = &self.domain {
            return vec![Address::Path(paths::domain_socket(domain))];
        }
        let named = self.socket.as_deref().map(|text| OsStr::new(text).to_owned());
        match named.or_else(|| std::env::var_os(SOCKET)).filter(|text| !text.is_empty()) {
            Some(text) => Address::parse_list(&text),
            None => vec![Address::Path(paths::default_socket())],
        }
    }

    /// Talks to the first broker that answers.
    pub(crate) fn connect(&self) -> Result<Client, Fault> {
        let addresses = self.addresses();
        let mut reasons = Vec::new();
        for address in &addresses {
            match Client::connect(address) {
                Ok(client) => return Ok(client),
                Err(trouble) => reasons.push(format!("{address}: {trouble}")),
            }
        }
        Err(Fault::Told(format!(
            "no broker answers ({}); look from inside with `keyshim run -- keyshim tree`, name one \
             with --socket or --domain, or start one with `keyshim broker`",
            reasons.join("; ")
        )))
    }
}

/// A conversation that ended too early, as a fault.
fn broken(trouble: Trouble) -> Fault {
    Fault::Told(format!("{trouble}; look whether the broker still runs, then try again"))
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value);
    let text =
        text.map_err(|error| Fault::Told(format!("cannot make JSON: {error}; report this")))?;
    style::print(&format!("{text}\n"))
}
