//! What has no place in a mode or a time, as extended attributes.

use std::ffi::OsStr;

use fuser::{Errno, Request};
use keyshim_abi::{Need, Perm, Request as Call, Serial};
use keyshim_keys::{About, Standing, View};

use super::Keyfs;
use super::act::Act;
use super::nodes::Node;
use crate::host;

/// What all names begin with.
const PREFIX: &str = "user.key.";
/// Those that can only be read.
const FIXED: [&str; 5] = ["serial", "type", "description", "rights", "security"];
/// The one that is always listed. What is listed is copied by mv(1) and its like, who complain
/// when that cannot be.
const PERM: &str = "perm";
const TIMEOUT: &str = "timeout";
/// Room for a security label.
const LABEL_ROOM: u64 = 4096;

impl Keyfs {
    /// The names of a file's attributes, each with its NUL.
    pub(super) fn list_attributes(&self, who: &Request, node: Node) -> Result<Vec<u8>, Errno> {
        let Some(serial) = node.serial() else { return Ok(Vec::new()) };
        let view = self.act(who)?.view(serial)?;
        let expires = view.about.as_ref().is_some_and(|about| about.expiry.is_some());
        let perm = view.about.is_some().then_some(PERM);
        let names = perm.into_iter().chain(expires.then_some(TIMEOUT));
        Ok(names.flat_map(|name| format!("{PREFIX}{name}\0").into_bytes()).collect())
    }

    /// The value of an attribute. ENODATA when there is none of that name.
    pub(super) fn attribute(
        &self,
        who: &Request,
        node: Node,
        name: &OsStr,
    ) -> Result<Vec<u8>, Errno> {
        let (serial, name) = which(node, name).ok_or(Errno::ENODATA)?;
        let mut act = self.act(who)?;
        let view = act.view(serial)?;
        if name == "security" {
            let label =
                act.fetch(&Call::GetSecurity { key: serial.into(), room: Some(LABEL_ROOM) })?;
            return Ok(label.strip_suffix(b"\0").unwrap_or(&label).to_vec());
        }
        value(&view, name).ok_or(Errno::ENODATA)
    }

    /// Changes what can be changed by an attribute. EPERM for what can only be read.
    pub(super) fn set_attribute(
        &self,
        who: &Request,
        node: Node,
        name: &OsStr,
        value: &[u8],
    ) -> Result<(), Errno> {
        let (serial, name) = which(node, name).ok_or(Errno::EOPNOTSUPP)?;
        let text = std::str::from_utf8(value).map_err(|_| Errno::EINVAL)?.trim_end_matches('\0');
        let mut act = self.act(who)?;
        let key = serial.into();
        let request = match name {
            PERM => {
                let mask = u32::from_str_radix(text, 16).map_err(|_| Errno::EINVAL)?;
                Call::Setperm { key, perm: Perm(mask) }
            }
            TIMEOUT => {
                Call::SetTimeout { key, timeout_s: text.parse().map_err(|_| Errno::EINVAL)? }
            }
            "state" => match text {
                "revoked" => Call::Revoke { key },
                "invalidated" => Call::Invalidate { key },
                _ => return Err(Errno::EINVAL),
            },
            "restriction" => return restrict(&mut act, serial, text),
            _ if FIXED.contains(&name) => return Err(Errno::EPERM),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        act.call(&request).map(drop)
    }

    /// Takes the time of expiry away; nothing else can be.
    pub(super) fn remove_attribute(
        &self,
        who: &Request,
        node: Node,
        name: &OsStr,
    ) -> Result<(), Errno> {
        let (serial, name) = which(node, name).ok_or(Errno::ENODATA)?;
        if name != TIMEOUT {
            return Err(Errno::EPERM);
        }
        let request = Call::SetTimeout { key: serial.into(), timeout_s: 0 };
        self.act(who)?.call(&request).map(drop)
    }
}

fn restrict(act: &mut Act<'_>, ring: Serial, text: &str) -> Result<(), Errno> {
    let (type_name, restriction) = match text.split_once(':') {
        Some((type_name, text)) => (Some(Ok(type_name.as_bytes())), Some(Ok(text.as_bytes()))),
        None if text == "reject" => (None, None),
        None => return Err(Errno::EINVAL),
    };
    let request = Call::RestrictKeyring { keyring: ring.into(), type_name, restriction };
    act.call(&request).map(drop)
}

fn which(node: Node, name: &OsStr) -> Option<(Serial, &str)> {
    Some((node.serial()?, name.to_str()?.strip_prefix(PREFIX)?))
}

fn value(view: &View, name: &str) -> Option<Vec<u8>> {
    let about = view.about.as_ref();
    let text = match name {
        "serial" => view.serial.to_string(),
        "rights" => letters(view),
        "state" => state(view.standing).to_owned(),
        "type" => about?.type_name.to_owned(),
        "description" => return Some(about?.description.clone()),
        PERM => format!("{:08x}", about?.perm.0),
        TIMEOUT => left_s(about?)?.to_string(),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn left_s(about: &About) -> Option<i64> {
    about.expiry.map(|expiry| (expiry.0 - host::now().0).max(0))
}

/// As `keyctl show` writes them.
fn letters(view: &View) -> String {
    let all = [
        (Need::Setattr, 'a'),
        (Need::Link, 'l'),
        (Need::Search, 's'),
        (Need::Write, 'w'),
        (Need::Read, 'r'),
        (Need::View, 'v'),
    ];
    all.into_iter().map(|(need, letter)| if view.may(need) { letter } else { '-' }).collect()
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Valid => "valid",
        Standing::UnderConstruction => "construction",
        Standing::Negative => "negative",
        Standing::Expired => "expired",
        Standing::Revoked => "revoked",
        Standing::Invalidated => "invalidated",
    }
}
