//! Links made, removed and moved.

use fuser::{Errno, INodeNo, RenameFlags, Request};
use keyshim_abi::{Errno as Answer, Need, Request as Call, Serial};
use keyshim_keys::View;

use super::act::{Act, errno};
use super::name::Name;
use super::nodes::Node;
use super::payload::add;
use super::tree::own_name;
use super::{Keyfs, State};

/// Flag of MOVE: not in the place of another (`KEYCTL_MOVE_EXCL`).
const MOVE_EXCLUSIVE: u32 = 1;

impl Keyfs {
    /// Makes a keyring; by its serial, one more link to one that there is.
    pub(super) fn make_directory(
        &self,
        state: &State,
        who: &Request,
        (parent, name): (INodeNo, &Name),
    ) -> Result<Node, Errno> {
        let ring = state.ring(parent)?;
        let mut act = self.act(who)?;
        match name {
            Name::Key(name) if name.type_name == b"keyring" => {
                if act.linked(ring, name).is_some() {
                    return Err(Errno::EEXIST);
                }
                add(&mut act, ring, name, b"").map(Node::Ring)
            }
            Name::Number(serial) => {
                if !act.view(*serial)?.is_keyring {
                    return Err(Errno::EINVAL);
                }
                link(&mut act, ring, *serial).map(|()| Node::Ring(*serial))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Links a key under its own name, or its serial.
    pub(super) fn link_file(
        &self,
        state: &State,
        who: &Request,
        node: Node,
        (parent, name): (INodeNo, &Name),
    ) -> Result<Node, Errno> {
        let ring = state.ring(parent)?;
        let serial = node.serial().ok_or(Errno::EPERM)?;
        let mut act = self.act(who)?;
        let view = act.view(serial)?;
        if !is_called(&view, name) {
            return Err(Errno::EPERM);
        }
        link(&mut act, ring, serial).map(|()| Node::File(serial))
    }

    /// Removes a link to what is no keyring, or a draft.
    pub(super) fn unlink_file(
        &self,
        state: &mut State,
        who: &Request,
        (parent, name): (INodeNo, &Name),
    ) -> Result<(), Errno> {
        let ring = state.ring(parent)?;
        if let Name::Draft(name) = name {
            let draft = state.handles.find_draft(who.uid(), ring, name).ok_or(Errno::ENOENT)?;
            state.handles.remove_draft(draft);
            return Ok(());
        }
        let mut act = self.act(who)?;
        let view = act.find(ring, name)?;
        if view.is_keyring {
            return Err(Errno::EISDIR);
        }
        act.call(&Call::Unlink { key: view.serial.into(), keyring: ring.into() }).map(drop)
    }

    /// Removes a link to a keyring: an empty one, unless it is called by its serial.
    pub(super) fn remove_directory(
        &self,
        state: &State,
        who: &Request,
        (parent, name): (INodeNo, &Name),
    ) -> Result<(), Errno> {
        let ring = state.ring(parent)?;
        let mut act = self.act(who)?;
        let view = act.find(ring, name)?;
        if !view.is_keyring {
            return Err(Errno::ENOTDIR);
        }
        if !matches!(name, Name::Number(_)) && !is_empty(&view) {
            return Err(Errno::ENOTEMPTY);
        }
        act.call(&Call::Unlink { key: view.serial.into(), keyring: ring.into() }).map(drop)
    }

    /// Moves a link to another keyring, or makes a key of a draft.
    pub(super) fn move_link(
        &self,
        state: &mut State,
        who: &Request,
        (from, name): (INodeNo, &Name),
        (to, new_name): (INodeNo, &Name),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        let is_exclusive = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = (state.ring(from)?, state.ring(to)?);
        if let Name::Draft(name) = name {
            return self.finish_draft(state, who, (from, name), (to, new_name), is_exclusive);
        }
        let mut act = self.act(who)?;
        let view = act.find(from, name)?;
        if new_name != name && !is_called(&view, new_name) {
            return Err(Errno::EXDEV);
        }
        if let Name::Key(name) = new_name {
            let displaced = act.linked(to, name).filter(|&there| there != view.serial);
            let displaced = displaced.map(|there| act.view(there)).transpose()?;
            if displaced.is_some_and(|there| there.is_keyring && !is_empty(&there)) {
                return Err(if is_exclusive { Errno::EEXIST } else { Errno::ENOTEMPTY });
            }
        }
        let flags = if is_exclusive { MOVE_EXCLUSIVE } else { 0 };
        let (key, from, to) = (view.serial.into(), from.into(), to.into());
        let moved = act.try_call(&Call::Move { key, from, to, flags }, &mut Vec::new())?;
        moved.map(drop).map_err(nested)
    }

    fn finish_draft(
        &self,
        state: &mut State,
        who: &Request,
        (from, name): (Serial, &[u8]),
        (to, new_name): (Serial, &Name),
        is_exclusive: bool,
    ) -> Result<(), Errno> {
        let number = state.handles.find_draft(who.uid(), from, name).ok_or(Errno::ENOENT)?;
        match new_name {
            Name::Key(key) => {
                let mut act = self.act(who)?;
                if is_exclusive && act.linked(to, key).is_some() {
                    return Err(Errno::EEXIST);
                }
                add(&mut act, to, key, &state.handles.draft(who.uid(), number)?.bytes)?;
                state.handles.remove_draft(number);
            }
            Name::Draft(new_name) => {
                match state.handles.find_draft(who.uid(), to, new_name) {
                    Some(_) if is_exclusive => return Err(Errno::EEXIST),
                    Some(other) if other != number => state.handles.remove_draft(other),
                    _ => {}
                }
                let draft = state.handles.draft(who.uid(), number)?;
                (draft.ring, draft.name) = (to, new_name.clone());
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

fn link(act: &mut Act<'_>, ring: Serial, serial: Serial) -> Result<(), Errno> {
    let view = act.view(serial)?;
    let twin = own_name(&view).map(|name| {
        let name = Name::parse(std::os::unix::ffi::OsStrExt::from_bytes(&name[..]));
        matches!(&name, Name::Key(name) if act.linked(ring, name).is_some())
    });
    if twin.unwrap_or_else(|| act.service().links_to(ring, serial)) {
        return Err(Errno::EEXIST);
    }
    let request = Call::Link { key: serial.into(), keyring: ring.into() };
    act.try_call(&request, &mut Vec::new())?.map(drop).map_err(nested)
}

/// A keyring would contain itself: as rename(2) has it.
fn nested(answer: Answer) -> Errno {
    if answer == Answer::EDEADLK { Errno::EINVAL } else { errno(answer) }
}

/// True if that is what the key is called, or may be.
fn is_called(view: &View, name: &Name) -> bool {
    match name {
        Name::Number(serial) => *serial == view.serial,
        Name::Key(name) => view.about.as_ref().is_some_and(|about| {
            about.type_name.as_bytes() == name.type_name && about.description == name.description
        }),
        Name::Draft(_) | Name::Unfit => false,
    }
}

/// True for a keyring that the caller may see to be empty.
fn is_empty(view: &View) -> bool {
    view.may(Need::View) && view.about.as_ref().is_some_and(|about| about.links == 0)
}
