//! Looking: names, listings, links to keyrings.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, FileHandle, FileType, INodeNo, Request};
use keyshim_abi::{KeyId, Request as Call, Serial};
use keyshim_keys::View;

use super::act::Act;
use super::handles::{Handle, Item};
use super::name::{Name, written};
use super::nodes::{ENTRIES, Node};
use super::{Keyfs, State};

/// Name of the directory of all keys.
const BY_SERIAL: &str = "by-serial";
/// Name of the directory of their owners.
const BY_UID: &str = "by-uid";
/// Room for the serials of any keyring.
pub(super) const LISTING_ROOM: u64 = 1 << 40;

/// An entry of a directory as it is listed.
pub(super) struct Entry {
    /// Its name.
    pub(super) name: Vec<u8>,
    /// What it is.
    pub(super) node: Node,
    /// Where the next begins.
    pub(super) next: u64,
}

impl Keyfs {
    /// What a name in a directory stands for. ENOENT, EACCES, ENOTDIR.
    pub(super) fn find(
        &self,
        state: &State,
        who: &Request,
        parent: INodeNo,
        name: &OsStr,
    ) -> Result<Node, Errno> {
        let parsed = Name::parse(name);
        match state.node(parent)? {
            Node::Root => standing(name).ok_or(Errno::ENOENT),
            Node::BySerial => match parsed {
                Name::Number(serial) => self.act(who)?.view(serial).map(|view| node_of(&view)),
                _ => Err(Errno::ENOENT),
            },
            Node::ByUid => {
                let uid = name.to_str().and_then(|text| text.parse().ok()).map(Node::User);
                let uid = uid.filter(|node| name_of(*node) == name.as_bytes());
                let owners = self.owners(&mut self.act(who)?)?;
                uid.filter(|node| owners.contains(node)).ok_or(Errno::ENOENT)
            }
            Node::User(uid) => {
                let Name::Number(serial) = parsed else { return Err(Errno::ENOENT) };
                let view = self.act(who)?.view(serial)?;
                let is_theirs = view.about.is_some_and(|about| about.uid.0 == uid);
                if is_theirs { Ok(Node::UserKey(serial)) } else { Err(Errno::ENOENT) }
            }
            Node::Ring(ring) => match &parsed {
                Name::Draft(name) => {
                    self.act(who)?.directory(ring)?;
                    let draft = state.handles.find_draft(who.uid(), ring, name);
                    draft.map(Node::Draft).ok_or(Errno::ENOENT)
                }
                _ => self.act(who)?.find(ring, &parsed).map(|view| node_of(&view)),
            },
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The users who own what the caller may view.
    fn owners(&self, act: &mut Act<'_>) -> Result<BTreeSet<Node>, Errno> {
        let viewable = viewable(act)?;
        Ok(viewable
            .iter()
            .filter_map(|view| Some(Node::User(view.about.as_ref()?.uid.0)))
            .collect())
    }

    /// What is in a directory now.
    fn items(&self, who: &Request, directory: Node) -> Result<Vec<Item>, Errno> {
        match directory {
            Node::Root => {
                let entries = (0..ENTRIES.len()).map(Node::Entry);
                Ok(entries.chain([Node::BySerial, Node::ByUid]).map(Item::Standing).collect())
            }
            Node::BySerial => {
                let viewable = viewable(&mut self.act(who)?)?;
                Ok(viewable.iter().map(|view| Item::Key(view.serial)).collect())
            }
            Node::ByUid => {
                let owners = self.owners(&mut self.act(who)?)?;
                Ok(owners.into_iter().map(Item::Standing).collect())
            }
            Node::User(uid) => {
                let mut viewable = viewable(&mut self.act(who)?)?;
                viewable.retain(|view| view.about.as_ref().is_some_and(|about| about.uid.0 == uid));
                let link = |view: &View| Item::Standing(Node::UserKey(view.serial));
                Ok(viewable.iter().map(link).collect())
            }
            Node::Ring(ring) => {
                let read = Call::Read { key: ring.into(), room: Some(LISTING_ROOM) };
                let serials = self.act(who)?.fetch(&read)?;
                let serial = |bytes: &[u8]| bytes.first_chunk().map(|raw| i32::from_ne_bytes(*raw));
                let serials = serials.chunks_exact(4).filter_map(serial).filter_map(Serial::new);
                Ok(serials.map(Item::Link).collect())
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Opens a directory. EACCES without READ.
    pub(super) fn open_directory(
        &self,
        state: &mut State,
        who: &Request,
        number: INodeNo,
    ) -> Result<FileHandle, Errno> {
        let items = self.items(who, state.node(number)?)?;
        state.handles.open(who.uid(), Handle::Listing(items))
    }

    /// Lists a directory from there on, until `add` has no more room.
    pub(super) fn list(
        &self,
        state: &mut State,
        who: &Request,
        (number, handle): (INodeNo, FileHandle),
        offset: u64,
        mut add: impl FnMut(Entry) -> bool,
    ) -> Result<(), Errno> {
        let node = state.node(number)?;
        let parent = state.nodes.parent(number).and_then(|number| state.nodes.get(number));
        let Handle::Listing(items) = state.handles.get(handle)? else { return Err(Errno::ENOTDIR) };
        if offset == 0 {
            // Opened just now, or rewound.
            *items = self.items(who, node)?;
        }
        let dots = [(&b"."[..], node), (&b".."[..], parent.unwrap_or(Node::Root))];
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, node)) in dots.into_iter().enumerate().skip(begin) {
            if add(Entry { name: name.to_vec(), node, next: index as u64 + 1 }) {
                return Ok(());
            }
        }
        let mut act = self.act(who)?;
        let first = begin.saturating_sub(dots.len());
        for (index, &item) in items.iter().enumerate().skip(first) {
            let Some((name, node)) = entry(&mut act, item) else { continue };
            if add(Entry { name, node, next: (index + dots.len()) as u64 + 1 }) {
                break;
            }
        }
        Ok(())
    }

    /// Where a link leads.
    pub(super) fn follow(&self, who: &Request, node: Node) -> Result<String, Errno> {
        match node {
            Node::Entry(index) => {
                let (_, id) = ENTRIES.get(index).ok_or(Errno::ENOENT)?;
                let create = [KeyId::THREAD, KeyId::PROCESS].contains(id);
                let serial = self.act(who)?.call(&Call::GetKeyringId { id: *id, create })?;
                Ok(format!("{BY_SERIAL}/{serial}"))
            }
            Node::UserKey(serial) => Ok(format!("../../{BY_SERIAL}/{serial}")),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The keys that the caller may view.
fn viewable(act: &mut Act<'_>) -> Result<Vec<View>, Errno> {
    let mut viewable = Vec::new();
    for serial in act.service().serials() {
        // Registers and authorisation keys have no name; what has none is for the core alone.
        match act.view(serial) {
            Ok(view) if view.about.is_some() => viewable.push(view),
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(viewable)
}

/// An entry with its name; nothing for a key that has gone.
fn entry(act: &mut Act<'_>, item: Item) -> Option<(Vec<u8>, Node)> {
    match item {
        Item::Standing(node) => Some((name_of(node), node)),
        Item::Key(serial) => {
            let view = act.view(serial).ok()?;
            Some((serial.to_string().into_bytes(), node_of(&view)))
        }
        Item::Link(serial) => {
            let view = act.view(serial).ok()?;
            let name = own_name(&view).unwrap_or_else(|| serial.to_string().into_bytes());
            Some((name, node_of(&view)))
        }
    }
}

/// The name of a key in keyrings, if it can have one and the caller may know.
pub(super) fn own_name(view: &View) -> Option<Vec<u8>> {
    let about = view.about.as_ref()?;
    written(about.type_name.as_bytes(), &about.description)
}

/// A key as what it is to the caller.
pub(super) fn node_of(view: &View) -> Node {
    if view.is_keyring { Node::Ring(view.serial) } else { Node::File(view.serial) }
}

fn standing(name: &OsStr) -> Option<Node> {
    let entries = (0..ENTRIES.len()).map(Node::Entry);
    let mut all = entries.chain([Node::BySerial, Node::ByUid]);
    all.find(|&node| name_of(node) == name.as_bytes())
}

/// The name of what is not called by a key's description.
fn name_of(node: Node) -> Vec<u8> {
    let name = match node {
        Node::Entry(index) => ENTRIES.get(index).map_or("", |(name, _)| name).to_owned(),
        Node::BySerial => BY_SERIAL.to_owned(),
        Node::ByUid => BY_UID.to_owned(),
        Node::User(uid) => uid.to_string(),
        Node::UserKey(serial) => serial.to_string(),
        _ => String::new(),
    };
    name.into_bytes()
}

impl Node {
    /// Directory, file or link.
    pub(super) fn kind(self) -> FileType {
        match self {
            Node::Root | Node::BySerial | Node::ByUid | Node::User(_) | Node::Ring(_) => {
                FileType::Directory
            }
            Node::Entry(_) | Node::UserKey(_) => FileType::Symlink,
            Node::File(_) | Node::Made(_) | Node::Draft(_) => FileType::RegularFile,
        }
    }
}
