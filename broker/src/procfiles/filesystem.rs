//! The file system as the kernel asks for it: requests are taken apart here, and decided
//! in [`super::files`].

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use keyshim_abi::procfs::ProcFile;

use super::files::{Change, Files, child_of, file_of, is_for_writing};
use super::tree::Node;

/// How long the kernel may remember what is where: nothing of it changes.
const FOR_LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// And its facts, because of [`super::sizes`].
const NOT_AT_ALL: Duration = Duration::ZERO;
impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match child_of(parent, name) {
            Some(node) => {
                let facts = self.sizes.inner(node.facts(self.since));
                reply.entry_with_ttls(&NOT_AT_ALL, &FOR_LONG, &facts, Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, seeks: Option<FileHandle>, reply: ReplyAttr) {
        let Some(node) = Node::of(number) else { return reply.error(Errno::ENOENT) };
        match (node, seeks) {
            // Through a descriptor, the kernel asks in order to seek to the end.
            (Node::File(ProcFile::Keys | ProcFile::KeyUsers), Some(_)) => {
                return reply.error(Errno::EINVAL);
            }
            (Node::File(ProcFile::Knob(_)), Some(_)) => self.sizes.lose(number),
            (Node::File(_), None) => self.sizes.pass_over(number),
            _ => {}
        }
        reply.attr(&NOT_AT_ALL, &node.facts(self.since));
    }

    fn setattr(
        &self,
        who: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some(node) = Node::of(number) else { return reply.error(Errno::ENOENT) };
        let is_fixed = |time| matches!(time, Some(TimeOrNow::SpecificTime(_)));
        let change = Change {
            mode_or_owner: mode.is_some() || uid.is_some() || gid.is_some(),
            fixed_time: is_fixed(atime) || is_fixed(mtime),
            writer: handle.is_some_and(is_for_writing),
        };
        match self.check_change(who, node, &change) {
            Ok(()) => reply.attr(&NOT_AT_ALL, &self.sizes.inner(node.facts(self.since))),
            Err(errno) => reply.error(errno),
        }
    }

    fn access(&self, who: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let node = Node::of(number).ok_or(Errno::ENOENT);
        match node.and_then(|node| self.check_access(who, node, mask)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, who: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match file_of(number).and_then(|file| self.open_file(who, file, flags)) {
            Ok(handle) => {
                self.sizes.restore(number);
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(FileHandle(handle), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        reader: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if reader.is_none() {
            // For the page cache, and not for one reader.
            return reply.error(Errno::EINVAL);
        }
        match file_of(number) {
            Ok(file) => self.read_file(file, handle, offset, size as usize, |piece| {
                reply.data(piece);
            }),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        who: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let offset = self.begin(handle, offset, flags);
        match file_of(number).and_then(|file| self.write_file(who, file, offset, data)) {
            Ok(taken) => reply.written(u32::try_from(taken).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.release_file(handle);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(node) = Node::of(number) else { return reply.error(Errno::ENOENT) };
        let own = [(".", node), ("..", Node::Root)].into_iter().chain(node.children());
        for (position, (name, node)) in (1..).zip(own).skip(offset as usize) {
            if reply.add(node.number(), position, node.kind(), name) {
                break;
            }
        }
        reply.ok();
    }

    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::EINVAL);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::EINVAL);
    }

    // Nothing is made there, and nothing removed.

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOENT);
    }

    fn mknod(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::ENOENT);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::ENOENT);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::ENOENT);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::ENOENT);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EACCES);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EACCES);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        to: INodeNo,
        name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let errno = child_of(to, name).map_or(Errno::ENOENT, |_| Errno::EACCES);
        reply.error(errno);
    }
}
