//! `keyshim tree`: a keyring with all that is below it.

use std::collections::{HashMap, HashSet};

use keyshim_abi::{Errno, KeyId, Request, Serial};
use serde::Serialize;

use super::keys::{Listed, bare_description, list, rights, trouble};
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
    /// What it is; nothing when we may not view it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    about: Option<About>,
    /// The time that is left, such as `2d`.
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

/// What DESCRIBE says of a key.
#[derive(Debug, Serialize)]
struct About {
    #[serde(rename = "type")]
    type_name: String,
    description: String,
    uid: i64,
    gid: i64,
    perm: String,
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
        let why = match errno {
            Errno::ENOKEY => "there is no such keyring here".to_owned(),
            Errno::EACCES => "no right to search this keyring".to_owned(),
            other => format!("cannot look at this keyring: {other}"),
        };
        Fault::Told(format!("{why}; name one that `keyshim keys` shows"))
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
        let mut node = Node::new(serial);
        match answer {
            Ok(_) => node.about = About::parse(&String::from_utf8_lossy(&text)),
            Err(errno) => node.state = Some(unviewable(errno)),
        }
        if let Some(key) = self.listed.get(&serial) {
            let has_end = |expiry: &String| expiry != "perm" && expiry != "expd";
            node.expiry = Some(key.expiry.clone()).filter(has_end);
            node.state = trouble(key).map(str::to_owned).or(node.state);
            node.about.get_or_insert_with(|| About::from(key));
        }
        if node.is_keyring() && answer.is_ok() {
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

/// Why a key that is linked here cannot be shown.
fn unviewable(errno: Errno) -> String {
    match errno {
        Errno::EACCES => "no right to view it".to_owned(),
        // Linked, but collected since the keyring was read.
        Errno::ENOKEY => "gone".to_owned(),
        other => format!("cannot be viewed: {other}"),
    }
}

impl About {
    /// Takes `type;uid;gid;perm;description` apart.
    fn parse(text: &str) -> Option<About> {
        let mut parts = text.trim_end_matches('\0').splitn(5, ';');
        Some(About {
            type_name: parts.next()?.to_owned(),
            uid: parts.next()?.parse().ok()?,
            gid: parts.next()?.parse().ok()?,
            perm: parts.next()?.to_owned(),
            description: parts.next()?.to_owned(),
        })
    }
}

impl From<&Listed> for About {
    fn from(key: &Listed) -> About {
        About {
            type_name: key.type_name.clone(),
            description: bare_description(key).to_owned(),
            uid: key.uid,
            gid: key.gid,
            perm: key.perm.clone(),
        }
    }
}

impl Node {
    fn new(serial: i32) -> Node {
        Node { serial, about: None, expiry: None, state: None, above: false, keys: Vec::new() }
    }

    fn is_keyring(&self) -> bool {
        self.about.as_ref().is_some_and(|about| about.type_name == "keyring")
    }

    fn line(&self) -> String {
        let style = if self.is_keyring() { KEYRING } else { KEY };
        let mut words = vec![paint(SERIAL, &self.serial.to_string())];
        if let Some(About { type_name, description, uid, gid, perm }) = &self.about {
            words.push(format!("{type_name}:"));
            words.push(paint(style, &printable(description)));
            words.push(paint(QUIET, &format!("[{}] {uid}:{gid}", rights(perm))));
        }
        if let Some(expiry) = &self.expiry {
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
    if !first.is_empty() {
        text.push_str(&paint(QUIET, first));
    }
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
        let described = |serial, text| Node { about: About::parse(text), ..Node::new(serial) };
        let mut root = described(1, "keyring;0;0;3f030000;_ses\0");
        root.keys.push(described(2, "user;0;0;3f010000;a;b"));
        root.keys.push(Node { state: Some(unviewable(Errno::EACCES)), ..Node::new(3) });
        let mut text = String::new();
        draw(&root, "", "", &mut text);
        let plain = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines[1], "├─ 2 user: a;b [alswrv -----v ------ ------] 0:0");
        assert_eq!(lines[2], "└─ 3 no right to view it");
    }
}
