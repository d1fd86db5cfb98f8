//! `keyshim tree`: a keyring with all that is below it.

use std::collections::{HashMap, HashSet};

use keyshim_abi::{KeyId, Request, Serial};
use serde::Serialize;

use super::keys::{Listed, list, rights, trouble};
use super::style::{BAD, KEY, KEYRING, QUIET, SERIAL, paint, print, printable};
use super::{How, Where, broken, print_json};
use crate::client::Client;
use crate::fault::Fault;

/// Keyrings below keyrings, at most: the kernel nests no deeper than six for a
/// search, but a link may make more.
const DEPTH_MAX: usize = 32;
/// Bytes that a description with its attributes can have.
const DESCRIPTION_LEN_MAX: u32 = 8192;
/// Bytes of the largest keyring that is shown: a quarter of a million keys.
const KEYRING_LEN_MAX: u64 = 1024 * 1024;

/// A key and what is below it.
#[derive(Debug, Serialize)]
struct Node {
    serial: i32,
    #[serde(rename = "type")]
    type_name: String,
    description: String,
    uid: i64,
    gid: i64,
    perm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<String>,
    /// Revoked, expired and the like, or the error of looking at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// True for a keyring that is shown in full further up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    above: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Node>,
}

/// Walks and remembers where it has been.
struct Walk<'a> {
    client: &'a mut Client,
    listed: HashMap<i32, Listed>,
    visited: HashSet<i32>,
}

/// A keyring as a person writes it.
pub(crate) fn parse_keyring(text: &str) -> Result<KeyId, String> {
    match text {
        "@t" => Ok(KeyId::THREAD),
        "@p" => Ok(KeyId::PROCESS),
        "@s" => Ok(KeyId::SESSION),
        "@u" => Ok(KeyId::USER),
        "@us" => Ok(KeyId::USER_SESSION),
        _ => {
            let serial = match text.strip_prefix("0x") {
                Some(digits) => i32::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            };
            let serial = serial.and_then(Serial::new).map(KeyId::from);
            serial.ok_or_else(|| "give a serial, or one of @s @u @us @p @t".to_owned())
        }
    }
}

/// Draws the tree below a keyring.
pub(crate) fn tree(place: &Where, keyring: KeyId, how: How) -> Result<(), Fault> {
    let mut client = place.connect()?;
    let id = Request::GetKeyringId { id: keyring, create: false };
    let (answer, _) = client.call(id).map_err(broken)?;
    let serial = answer.map_err(|errno| {
        Fault::Told(format!(
            "cannot look at this keyring: {errno}; name one that `keyshim keys` shows"
        ))
    })?;
    let listed = list(&mut client)?.into_iter().map(|key| (key.serial, key)).collect();
    let mut walk = Walk { client: &mut client, listed, visited: HashSet::new() };
    let root = walk.node(serial as i32, 0)?;
    if how.json {
        return print_json(&root);
    }
    let mut text = String::new();
    draw(&root, "", "", &mut text);
    print(&text)
}

impl Walk<'_> {
    fn node(&mut self, serial: i32, depth: usize) -> Result<Node, Fault> {
        let describe = Request::Describe { key: KeyId(serial), room: Some(DESCRIPTION_LEN_MAX) };
        let (answer, text) = self.client.call(describe).map_err(broken)?;
        let described = String::from_utf8_lossy(&text);
        let mut node = match answer {
            Ok(_) => described_node(serial, described.trim_end_matches('\0')),
            Err(errno) => unknown_node(serial, &errno.to_string()),
        };
        if let Some(key) = self.listed.get(&serial) {
            node.expiry = Some(key.expiry.clone()).filter(|expiry| expiry != "perm");
            node.state = trouble(key).map(str::to_owned).or(node.state);
            if answer.is_err() {
                node.fill_from(key);
            }
        }
        if node.type_name == "keyring" && answer.is_ok() {
            self.look_into(&mut node, depth)?;
        }
        Ok(node)
    }

    fn look_into(&mut self, node: &mut Node, depth: usize) -> Result<(), Fault> {
        if !self.visited.insert(node.serial) {
            node.above = true;
            return Ok(());
        }
        let read = Request::Read { key: KeyId(node.serial), room: Some(KEYRING_LEN_MAX) };
        let (answer, serials) = self.client.call(read).map_err(broken)?;
        if let Err(errno) = answer {
            node.state.get_or_insert(format!("cannot be read: {errno}"));
        }
        if depth == DEPTH_MAX {
            return Ok(());
        }
        for serial in serials.chunks_exact(4) {
            let serial = serial.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            node.keys.push(self.node(serial, depth + 1)?);
        }
        Ok(())
    }
}

/// `type;uid;gid;perm;description`.
fn described_node(serial: i32, text: &str) -> Node {
    let mut parts = text.splitn(5, ';');
    let mut next = || parts.next().unwrap_or_default();
    Node {
        type_name: next().to_owned(),
        uid: next().parse().unwrap_or(-1),
        gid: next().parse().unwrap_or(-1),
        perm: next().to_owned(),
        description: next().to_owned(),
        ..unknown(serial)
    }
}

fn unknown_node(serial: i32, state: &str) -> Node {
    Node { state: Some(state.to_owned()), ..unknown(serial) }
}

fn unknown(serial: i32) -> Node {
    Node {
        serial,
        type_name: String::new(),
        description: String::new(),
        uid: -1,
        gid: -1,
        perm: String::new(),
        expiry: None,
        state: None,
        above: false,
        keys: Vec::new(),
    }
}

impl Node {
    fn fill_from(&mut self, key: &Listed) {
        self.type_name.clone_from(&key.type_name);
        self.description.clone_from(&key.description);
        (self.uid, self.gid) = (key.uid, key.gid);
        self.perm.clone_from(&key.perm);
    }

    fn line(&self) -> String {
        let style = if self.type_name == "keyring" { KEYRING } else { KEY };
        let mut words = vec![paint(SERIAL, &self.serial.to_string())];
        if !self.type_name.is_empty() {
            words.push(format!("{}:", self.type_name));
            words.push(paint(style, &printable(&self.description)));
            words
                .push(paint(QUIET, &format!("[{}] {}:{}", rights(&self.perm), self.uid, self.gid)));
        }
        if let Some(expiry) = self.expiry.as_ref().filter(|expiry| *expiry != "expd") {
            words.push(paint(QUIET, &format!("expires in {expiry}")));
        }
        words.extend(self.state.as_ref().map(|state| paint(BAD, state)));
        if self.above {
            words.push(paint(QUIET, "(see above)"));
        }
        words.join(" ")
    }
}

fn draw(node: &Node, first: &str, others: &str, text: &mut String) {
    text.push_str(&paint(QUIET, first));
    text.push_str(&node.line());
    text.push('\n');
    for (number, key) in node.keys.iter().enumerate() {
        let (branch, below) = match number + 1 == node.keys.len() {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        draw(key, &format!("{others}{branch}"), &format!("{others}{below}"), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyrings_are_named_by_letter_or_number() {
        assert_eq!(parse_keyring("@us"), Ok(KeyId::USER_SESSION));
        assert_eq!(parse_keyring("0x1f"), Ok(KeyId(31)));
        assert_eq!(parse_keyring("31"), Ok(KeyId(31)));
        assert!(parse_keyring("-3").is_err() && parse_keyring("@x").is_err());
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let mut root = described_node(1, "keyring;0;0;3f030000;_ses");
        root.keys.push(described_node(2, "user;0;0;3f010000;a;b"));
        root.keys.push(unknown_node(3, "EKEYREVOKED"));
        let mut text = String::new();
        draw(&root, "", "", &mut text);
        let plain = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines[1], "├─ 2 user: a;b [alswrv -----v ------ ------] 0:0");
        assert_eq!(lines[2], "└─ 3 EKEYREVOKED");
    }
}
