//! The file system as the kernel asks for it: requests are taken apart here, and carried out
//! elsewhere.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::attributes::Change;
use super::name::Name;
use super::nodes::Node;
use super::payload::Way;
use super::{Keyfs, State};

/// How long the kernel may believe what it was told.
const NOT_AT_ALL: Duration = Duration::ZERO;
/// Bytes of one write, at most: more is no payload.
const WRITE_LEN_MAX: u32 = 1024 * 1024;

impl Keyfs {
    /// The facts of something that the kernel is told of, with the number that it gets.
    fn known(
        &self,
        state: &mut State,
        who: &Request,
        parent: INodeNo,
        node: Node,
    ) -> Result<FileAttr, Errno> {
        let facts = self.facts(state, who, node)?;
        Ok(FileAttr { ino: state.nodes.known(parent, node), ..facts })
    }

    fn tell(
        &self,
        state: &mut State,
        who: &Request,
        parent: INodeNo,
        node: Result<Node, Errno>,
        reply: ReplyEntry,
    ) {
        match node.and_then(|node| self.known(state, who, parent, node)) {
            Ok(facts) => reply.entry(&NOT_AT_ALL, &facts, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }
}

fn ended(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn opened(handle: Result<FileHandle, Errno>, flags: FopenFlags, reply: ReplyOpen) {
    match handle {
        Ok(handle) => reply.opened(handle, flags),
        Err(errno) => reply.error(errno),
    }
}

/// Gives an attribute to who has room for it.
fn give(value: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match value {
        Ok(value) if room == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Keyfs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without it O_TRUNC would come as a change of length before open.
        let _ = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
        let _ = config.set_max_write(WRITE_LEN_MAX);
        Ok(())
    }

    fn lookup(&self, who: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let node = self.find(&state, who, parent, name);
        self.tell(&mut state, who, parent, node, reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.state().nodes.forget(number, lookups);
    }

    fn getattr(&self, who: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = self.state();
        let node = state.node(number);
        match node.and_then(|node| self.facts(&mut state, who, node)) {
            Ok(facts) => reply.attr(&NOT_AT_ALL, &facts),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        who: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        len: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        // A change of length brings the present time along, which nobody asked for.
        let mtime = mtime.filter(|_| len.is_none());
        let change = Change { mode, uid, gid, len, mtime };
        let done = self.change_facts(&mut state, who, (number, handle), change);
        let node = done.and_then(|()| state.node(number));
        match node.and_then(|node| self.facts(&mut state, who, node)) {
            Ok(facts) => reply.attr(&NOT_AT_ALL, &facts),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, who: &Request, number: INodeNo, reply: ReplyData) {
        let node = self.state().node(number);
        match node.and_then(|node| self.follow(who, node)) {
            Ok(path) => reply.data(path.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        who: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut state = self.state();
        let node = self.make_directory(&state, who, (parent, &Name::parse(name)));
        self.tell(&mut state, who, parent, node, reply);
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
        reply.error(Errno::EPERM);
    }

    fn link(
        &self,
        who: &Request,
        number: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut state = self.state();
        let name = Name::parse(name);
        let node = state.node(number);
        let node = node.and_then(|node| self.link_file(&state, who, node, (parent, &name)));
        self.tell(&mut state, who, parent, node, reply);
    }

    fn unlink(&self, who: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = Name::parse(name);
        ended(self.unlink_file(&mut self.state(), who, (parent, &name)), reply);
    }

    fn rmdir(&self, who: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = Name::parse(name);
        ended(self.remove_directory(&self.state(), who, (parent, &name)), reply);
    }

    fn rename(
        &self,
        who: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (Name::parse(name), Name::parse(new_name));
        let mut state = self.state();
        let done = self.move_link(&mut state, who, (parent, &name), (to, &new_name), flags);
        ended(done, reply);
    }

    fn open(&self, who: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.open_file(&mut self.state(), who, number, Way::of(flags.0));
        opened(handle, FopenFlags::FOPEN_DIRECT_IO, reply);
    }

    fn create(
        &self,
        who: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        let name = Name::parse(name);
        let made = self.create_file(&mut state, who, (parent, &name), Way::of(flags));
        let made = made.and_then(|(number, node, handle)| {
            let facts = self.facts(&mut state, who, node);
            facts.map(|facts| (FileAttr { ino: number, ..facts }, handle))
        });
        match made {
            Ok((facts, handle)) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NOT_AT_ALL, &facts, Generation(0), handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        who: &Request,
        _: INodeNo,
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
        match self.read_file(&mut self.state(), who, handle, (offset, size)) {
            Ok(piece) => reply.data(&piece),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        who: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let appends = flags.0 & libc::O_APPEND != 0;
        match self.write_file(&mut self.state(), who, handle, (offset, appends), data) {
            Ok(taken) => reply.written(taken),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        who: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        ended(self.flush_file(&mut self.state(), who, handle), reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.state().handles.close(handle);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, who: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let handle = self.open_directory(&mut self.state(), who, number);
        opened(handle, FopenFlags::empty(), reply);
    }

    fn readdir(
        &self,
        who: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut state = self.state();
        let done = self.list(&mut state, who, (number, handle), offset, |entry| {
            let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&entry.name);
            reply.add(entry.node.shown(), entry.next, entry.node.kind(), name)
        });
        match done {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.state().handles.close(handle);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn access(&self, who: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        ended(self.check_access(&mut self.state(), who, number, mask), reply);
    }

    fn getxattr(&self, who: &Request, number: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let node = self.state().node(number);
        give(node.and_then(|node| self.attribute(who, node, name)), room, reply);
    }

    fn listxattr(&self, who: &Request, number: INodeNo, room: u32, reply: ReplyXattr) {
        let node = self.state().node(number);
        give(node.and_then(|node| self.list_attributes(who, node)), room, reply);
    }

    fn setxattr(
        &self,
        who: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let node = self.state().node(number);
        ended(node.and_then(|node| self.set_attribute(who, node, name, value)), reply);
    }

    fn removexattr(&self, who: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let node = self.state().node(number);
        ended(node.and_then(|node| self.remove_attribute(who, node, name)), reply);
    }
}
