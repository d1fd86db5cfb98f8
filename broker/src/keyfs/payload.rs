//! Payloads as the bytes of files: each read(2) is a READ, each write(2) an UPDATE or add_key
//! with all that the file then holds.

use fuser::{Errno, FileHandle, INodeNo, Request};
use keyshim_abi::limits::{ADD_PAYLOAD_LEN_MAX, BIG_KEY_PAYLOAD_LEN_MAX, UPDATE_PAYLOAD_LEN_MAX};
use keyshim_abi::{Errno as Answer, Need, Payload, Request as Call, Serial};

use super::act::{Act, errno, usable};
use super::handles::{Bytes, Handle, OpenFile, Target, resize, splice};
use super::name::{KeyName, Name};
use super::nodes::Node;
use super::tree::node_of;
use super::{Keyfs, State};

/// How a file is opened.
#[derive(Clone, Copy)]
pub(super) struct Way {
    reads: bool,
    writes: bool,
    truncates: bool,
    is_exclusive: bool,
}

impl Way {
    /// What the flags of open(2) ask for.
    pub(super) fn of(flags: i32) -> Way {
        let mode = flags & libc::O_ACCMODE;
        Way {
            reads: mode != libc::O_WRONLY,
            writes: mode != libc::O_RDONLY,
            truncates: flags & libc::O_TRUNC != 0,
            is_exclusive: flags & libc::O_EXCL != 0,
        }
    }
}

impl Keyfs {
    /// Opens a file.
    pub(super) fn open_file(
        &self,
        state: &mut State,
        who: &Request,
        number: INodeNo,
        way: Way,
    ) -> Result<FileHandle, Errno> {
        let node = state.node(number)?;
        let target = match node {
            Node::Draft(draft) => {
                let draft_of = state.handles.draft(who.uid(), draft)?;
                if way.truncates {
                    draft_of.bytes = Bytes::default();
                }
                Target::Draft(draft)
            }
            _ => {
                let serial = node.serial().ok_or(Errno::EISDIR)?;
                self.check_open(&mut self.act(who)?, serial, way)?;
                Target::Key(serial)
            }
        };
        open(state, who, target, way.truncates)
    }

    fn check_open(&self, act: &mut Act<'_>, serial: Serial, way: Way) -> Result<(), Errno> {
        let view = act.view(serial)?;
        usable(&view)?;
        if way.writes && !view.may(Need::Write) {
            return Err(Errno::EACCES);
        }
        if way.reads && !(way.writes && way.truncates) {
            act.call(&Call::Read { key: serial.into(), room: None })?;
        }
        Ok(())
    }

    /// Makes a file that is to become a key, or a draft, and opens it.
    pub(super) fn create_file(
        &self,
        state: &mut State,
        who: &Request,
        (parent, name): (INodeNo, &Name),
        way: Way,
    ) -> Result<(INodeNo, Node, FileHandle), Errno> {
        let ring = state.ring(parent)?;
        let name = match name {
            Name::Draft(name) => return self.create_draft(state, who, (parent, ring, name), way),
            Name::Key(name) if name.type_name != b"keyring" => name,
            _ => return Err(Errno::EINVAL),
        };
        let mut act = self.act(who)?;
        match act.find(ring, &Name::Key(name.clone())) {
            Ok(_) if way.is_exclusive => return Err(Errno::EEXIST),
            Ok(view) => {
                self.check_open(&mut act, view.serial, way)?;
                let node = node_of(&view);
                let handle = open(state, who, Target::Key(view.serial), way.truncates)?;
                return Ok((state.nodes.known(parent, node), node, handle));
            }
            Err(Errno::ENOENT) if act.view(ring)?.may(Need::Write) => {}
            Err(Errno::ENOENT) => return Err(Errno::EACCES),
            Err(errno) => return Err(errno),
        }
        let node = Node::Made(None);
        let number = state.nodes.known(parent, node);
        let target = Target::New { ring, name: name.clone(), serial: None, number };
        let handle = open(state, who, target, true).inspect_err(|_| state.nodes.forget(number, 1));
        Ok((number, node, handle?))
    }

    fn create_draft(
        &self,
        state: &mut State,
        who: &Request,
        (parent, ring, name): (INodeNo, Serial, &[u8]),
        way: Way,
    ) -> Result<(INodeNo, Node, FileHandle), Errno> {
        if !self.act(who)?.directory(ring)?.may(Need::Write) {
            return Err(Errno::EACCES);
        }
        let draft = match state.handles.find_draft(who.uid(), ring, name) {
            Some(_) if way.is_exclusive => return Err(Errno::EEXIST),
            Some(draft) => draft,
            None => state.handles.add_draft(who.uid(), ring, name.to_vec())?,
        };
        let node = Node::Draft(draft);
        let handle = open(state, who, Target::Draft(draft), false)?;
        Ok((state.nodes.known(parent, node), node, handle))
    }

    /// Reads a piece of what is in a file now.
    pub(super) fn read_file(
        &self,
        state: &mut State,
        who: &Request,
        handle: FileHandle,
        (offset, len): (u64, u32),
    ) -> Result<Bytes, Errno> {
        let target = state.handles.file(handle)?.target.clone();
        let bytes = match target {
            Target::Draft(draft) => state.handles.draft(who.uid(), draft)?.bytes.clone(),
            Target::Key(serial) | Target::New { serial: Some(serial), .. } => {
                read(&mut self.act(who)?, serial)?
            }
            Target::New { serial: None, .. } => Bytes::default(),
        };
        let begin = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        let end = begin.saturating_add(len as usize).min(bytes.len());
        Ok(Bytes::new(bytes.get(begin..end).unwrap_or_default().to_vec()))
    }

    /// Writes a piece into a file; at its end if it was opened for appending.
    pub(super) fn write_file(
        &self,
        state: &mut State,
        who: &Request,
        handle: FileHandle,
        (offset, appends): (u64, bool),
        written: &[u8],
    ) -> Result<u32, Errno> {
        let change = |bytes: &mut Bytes| {
            let offset = if appends { bytes.len() as u64 } else { offset };
            splice(bytes, offset, written)
        };
        // What cannot be read can still be replaced as a whole.
        self.change(state, who, handle, offset == 0 && !appends, change)?;
        Ok(u32::try_from(written.len()).unwrap_or(u32::MAX))
    }

    fn change(
        &self,
        state: &mut State,
        who: &Request,
        handle: FileHandle,
        replaces: bool,
        change: impl FnOnce(&mut Bytes) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let State { nodes, handles, .. } = state;
        let file = handles.file(handle)?;
        if let Target::Draft(draft) = file.target {
            return change(&mut handles.draft(who.uid(), draft)?.bytes);
        }
        let mut act = self.act(who)?;
        let mut bytes = match (&file.begun, file.target.serial()) {
            (Some(begun), _) => begun.clone(),
            (None, Some(serial)) => present(&mut act, serial, replaces)?,
            (None, None) => Bytes::default(),
        };
        change(&mut bytes)?;
        commit(&mut act, &mut file.target, &bytes)?;
        if let Target::New { serial: Some(serial), number, .. } = &file.target {
            nodes.becomes(*number, *serial);
        }
        file.is_written = true;
        file.begun = file.begun.is_some().then_some(bytes);
        Ok(())
    }

    /// Gives a file another length. What begins empty is only told at its next write, or its
    /// end.
    pub(super) fn truncate(
        &self,
        state: &mut State,
        who: &Request,
        (node, handle): (Node, Option<FileHandle>),
        len: u64,
    ) -> Result<(), Errno> {
        let len = usize::try_from(len).ok().filter(|&len| len as u64 <= ADD_PAYLOAD_LEN_MAX);
        let len = len.ok_or(Errno::EFBIG)?;
        if let Node::Draft(draft) = node {
            resize(&mut state.handles.draft(who.uid(), draft)?.bytes, len);
            return Ok(());
        }
        match handle {
            Some(handle) if len == 0 => {
                let file = state.handles.file(handle)?;
                (file.begun, file.is_written) = (Some(Bytes::default()), false);
                Ok(())
            }
            Some(handle) => self.change(state, who, handle, false, |bytes| {
                resize(bytes, len);
                Ok(())
            }),
            None => {
                let serial = node.serial().ok_or(Errno::EINVAL)?;
                let mut act = self.act(who)?;
                let mut bytes = present(&mut act, serial, len == 0)?;
                resize(&mut bytes, len);
                commit(&mut act, &mut Target::Key(serial), &bytes)
            }
        }
    }

    /// At the end of a file that began empty and stayed so.
    pub(super) fn flush_file(
        &self,
        state: &mut State,
        who: &Request,
        handle: FileHandle,
    ) -> Result<(), Errno> {
        let State { nodes, handles, .. } = state;
        let file = handles.file(handle)?;
        let is_key = !matches!(file.target, Target::Draft(_));
        if is_key && file.begun.is_some() && !file.is_written {
            commit(&mut self.act(who)?, &mut file.target, &Bytes::default())?;
            if let Target::New { serial: Some(serial), number, .. } = &file.target {
                nodes.becomes(*number, *serial);
            }
            file.is_written = true;
        }
        Ok(())
    }
}

impl Target {
    fn serial(&self) -> Option<Serial> {
        match self {
            Target::Key(serial) => Some(*serial),
            Target::New { serial, .. } => *serial,
            Target::Draft(_) => None,
        }
    }
}

fn open(
    state: &mut State,
    who: &Request,
    target: Target,
    begins_empty: bool,
) -> Result<FileHandle, Errno> {
    let begun = begins_empty.then(Bytes::default);
    let file = OpenFile { target, begun, is_written: false };
    state.handles.open(who.uid(), Handle::File(file))
}

/// What is in a key. EAGAIN while somebody makes it.
fn read(act: &mut Act<'_>, serial: Serial) -> Result<Bytes, Errno> {
    usable(&act.view(serial)?)?;
    act.fetch(&Call::Read { key: serial.into(), room: Some(BIG_KEY_PAYLOAD_LEN_MAX as u64) })
}

/// What is in a key that is to be changed; nothing if it is to be replaced and cannot be read.
fn present(act: &mut Act<'_>, serial: Serial, replaces: bool) -> Result<Bytes, Errno> {
    match read(act, serial) {
        Err(Errno::EOPNOTSUPP | Errno::EACCES) if replaces => Ok(Bytes::default()),
        read => read,
    }
}

fn commit(act: &mut Act<'_>, target: &mut Target, bytes: &[u8]) -> Result<(), Errno> {
    let fits = bytes.len() as u64 <= UPDATE_PAYLOAD_LEN_MAX;
    let payload = Payload::Carried(bytes);
    match target {
        Target::Key(_) if !fits => Err(Errno::EFBIG),
        Target::Key(key) | Target::New { serial: Some(key), .. } if fits => {
            usable(&act.view(*key)?)?;
            act.call(&Call::Update { key: (*key).into(), payload }).map(drop)
        }
        Target::New { ring, name, serial, .. } => {
            *serial = Some(add(act, *ring, name, bytes)?);
            Ok(())
        }
        Target::Key(_) | Target::Draft(_) => Err(Errno::EBADF),
    }
}

/// Makes a key, or updates the one that is there.
pub(super) fn add(
    act: &mut Act<'_>,
    ring: Serial,
    name: &KeyName,
    bytes: &[u8],
) -> Result<Serial, Errno> {
    if let Some(there) = act.linked(ring, name) {
        usable(&act.view(there)?).or_else(|errno| match errno {
            Errno::EAGAIN => Err(errno),
            _ => Ok(()),
        })?;
    }
    let request = Call::AddKey {
        type_name: Ok(&name.type_name),
        description: Some(Ok(&name.description)),
        payload: Payload::Carried(bytes),
        keyring: ring.into(),
    };
    let serial = act.try_call(&request, &mut Vec::new())?.map_err(|answer| match answer {
        Answer::ENOKEY => Errno::ENOENT,
        other => errno(other),
    })?;
    i32::try_from(serial).ok().and_then(Serial::new).ok_or(Errno::EIO)
}
