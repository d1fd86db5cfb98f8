//! Facts of a key as those of a file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{AccessFlags, Errno, FileAttr, FileHandle, FileType, INodeNo, Request, TimeOrNow};
use keyshim_abi::caller::{Gid, OVERFLOW_ID};
use keyshim_abi::{Need, Request as Call};
use keyshim_keys::{Standing, View};

use super::act::Act;
use super::nodes::Node;
use super::{Keyfs, State, mode};
use crate::host;

/// What is to change.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Another mode.
    pub(super) mode: Option<u32>,
    /// Another owner.
    pub(super) uid: Option<u32>,
    /// Another group.
    pub(super) gid: Option<u32>,
    /// Another length.
    pub(super) len: Option<u64>,
    /// Another time of expiry.
    pub(super) mtime: Option<TimeOrNow>,
}

impl Keyfs {
    /// What stat(2) shows.
    pub(super) fn facts(
        &self,
        state: &mut State,
        who: &Request,
        node: Node,
    ) -> Result<FileAttr, Errno> {
        let bare = |perm: u16| FileAttr { perm, ..self.blank(node) };
        match node {
            Node::Root | Node::BySerial | Node::ByUid | Node::User(_) => Ok(bare(0o555)),
            Node::Entry(_) | Node::UserKey(_) => Ok(bare(0o777)),
            Node::Made(None) => Ok(FileAttr { uid: who.uid(), gid: who.gid(), ..bare(0o600) }),
            Node::Draft(draft) => {
                let size = state.handles.draft(who.uid(), draft)?.bytes.len() as u64;
                Ok(FileAttr { uid: who.uid(), gid: who.gid(), size, ..bare(0o600) })
            }
            Node::File(serial) | Node::Ring(serial) | Node::Made(Some(serial)) => {
                let mut act = self.act(who)?;
                let view = act.view(serial)?;
                Ok(self.of_key(&mut act, node, &view))
            }
        }
    }

    fn of_key(&self, act: &mut Act<'_>, node: Node, view: &View) -> FileAttr {
        let blank = self.blank(node);
        let Some(about) = &view.about else {
            return FileAttr { uid: OVERFLOW_ID, gid: OVERFLOW_ID, perm: 0, ..blank };
        };
        let is_readable = view.standing == Standing::Valid && !view.is_keyring;
        let read = Call::Read { key: view.serial.into(), room: None };
        let size = if is_readable { act.call(&read).unwrap_or(0) } else { 0 };
        let mtime = about.expiry.map_or(self.since, |expiry| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(expiry.0).unwrap_or(0))
        });
        FileAttr {
            size: size.into(),
            blocks: u64::from(size).div_ceil(512),
            mtime,
            ctime: mtime,
            perm: mode::of(about.perm, view.is_keyring),
            nlink: if view.is_keyring { 1 } else { about.linked_by.clamp(1, 1 << 30) as u32 },
            uid: about.uid.0,
            // Where an id is none, the kernel lets nobody write.
            gid: if about.gid == Gid::INVALID { OVERFLOW_ID } else { about.gid.0 },
            ..blank
        }
    }

    fn blank(&self, node: Node) -> FileAttr {
        FileAttr {
            ino: node.shown(),
            size: 0,
            blocks: 0,
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind: node.kind(),
            perm: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Changes what is to change, in the order in which the errors of chown, chmod, truncate
    /// and utimensat would come.
    pub(super) fn change_facts(
        &self,
        state: &mut State,
        who: &Request,
        (number, handle): (INodeNo, Option<FileHandle>),
        change: Change,
    ) -> Result<(), Errno> {
        let node = state.node(number)?;
        if let Some(len) = change.len {
            self.truncate(state, who, (node, handle), len)?;
        }
        if let Node::Draft(_) = node {
            // A draft becomes a key, which has its own.
            return Ok(());
        }
        let is_asked = change.mode.is_some()
            || change.uid.is_some()
            || change.gid.is_some()
            || change.mtime.is_some();
        if !is_asked {
            return Ok(());
        }
        let refused = if node == Node::Made(None) { Errno::EINVAL } else { Errno::EPERM };
        let key = node.serial().ok_or(refused)?;
        let mut act = self.act(who)?;
        if change.uid.is_some() || change.gid.is_some() {
            let ids = (change.uid.unwrap_or(u32::MAX), change.gid.unwrap_or(u32::MAX));
            let (uid, gid) = act.inward(ids.0, ids.1)?;
            act.call(&Call::Chown { key: key.into(), uid, gid })?;
        }
        if let Some(asked) = change.mode {
            let view = act.view(key)?;
            let before = view.about.as_ref().ok_or(Errno::EACCES)?.perm;
            let perm = mode::changed(before, view.is_keyring, asked & 0o777);
            act.call(&Call::Setperm { key: key.into(), perm })?;
        }
        if let Some(mtime) = change.mtime {
            act.call(&Call::SetTimeout { key: key.into(), timeout_s: timeout_s(mtime) })?;
        }
        Ok(())
    }

    /// Answers access(2): by the rights that the calls would test.
    pub(super) fn check_access(
        &self,
        state: &mut State,
        who: &Request,
        number: INodeNo,
        mask: AccessFlags,
    ) -> Result<(), Errno> {
        let node = state.node(number)?;
        if let Node::Draft(draft) = node {
            return state.handles.draft(who.uid(), draft).map(drop);
        }
        let writes = mask.contains(AccessFlags::W_OK);
        let Some(serial) = node.serial() else {
            return if writes { Err(Errno::EACCES) } else { Ok(()) };
        };
        let view = self.act(who)?.view(serial)?;
        let searches = mask.contains(AccessFlags::X_OK);
        // With READ alone its names can be looked up as well.
        let may_search = view.may(Need::Search) || view.may(Need::Read);
        let is_fine = (!mask.contains(AccessFlags::R_OK) || view.may(Need::Read))
            && (!writes || view.may(Need::Write))
            && (!searches || node.kind() == FileType::Directory && may_search);
        if is_fine { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// Seconds until then, at least one; 0, which is for ever, for what is not in the future.
fn timeout_s(mtime: TimeOrNow) -> u32 {
    let TimeOrNow::SpecificTime(time) = mtime else { return 0 };
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left_s = i64::try_from(since.as_secs()).unwrap_or(i64::MAX) - host::now().0;
    u32::try_from(left_s.max(0)).unwrap_or(u32::MAX)
}

/// The present as a mount's own time.
pub(super) fn present() -> SystemTime {
    SystemTime::now()
}
