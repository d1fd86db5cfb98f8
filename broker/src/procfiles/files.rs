//! What is done with the files, decided as the kernel does with its own (`fs/proc`,
//! `proc_sysctl.c`). The thread that asks is held in its system call until we answer, so
//! its number is its own.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use fuser::{AccessFlags, Errno, FileHandle, INodeNo, Notifier, OpenAccMode, OpenFlags, Request};
use keyshim_abi::procfs::ProcFile;

use super::sizes::Sizes;
use super::texts::Texts;
use super::tree::Node;
use crate::fault::CutOff;
use crate::server::Server;

/// A handle that was opened for writing has this bit; the others number the text.
const FOR_WRITING: u64 = 1;

/// The files of a domain.
pub(super) struct Files {
    server: Arc<Server>,
    /// When they were put: their times.
    pub(super) since: SystemTime,
    texts: Mutex<Texts>,
    pub(super) sizes: Sizes,
}

impl Files {
    /// Answers for that domain. Whoever starts the session sees to the way back into the
    /// kernel.
    pub(super) fn new(server: Arc<Server>, notifier: Arc<OnceLock<Notifier>>) -> Files {
        let (texts, sizes) = (Mutex::default(), Sizes::new(notifier));
        Files { server, since: SystemTime::now(), texts, sizes }
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of a file as whoever asks may see it. A thread that is in no pid
    /// namespace of ours has no number; it is judged by its fsuid and fsgid.
    fn text(&self, who: &Request, file: ProcFile) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut domain = self.server.domain();
        if who.pid() == 0 {
            domain.open_for_stranger(who.uid(), who.gid(), file, &mut text);
            return Ok(text);
        }
        let task = domain.task_of(who.pid()).map_err(unanswered)?;
        let answer = domain.open(task, file, &mut text).map_err(unanswered)?;
        answer.map(|_| text).map_err(errno)
    }

    /// Whether whoever asks may write to a file, as far as its mode goes.
    fn may_write(&self, who: &Request, file: ProcFile) -> bool {
        let mut domain = self.server.domain();
        let task = domain.task_of(who.pid());
        let may = task.and_then(|task| match file {
            ProcFile::Knob(_) => domain.may_tune(task),
            ProcFile::Keys | ProcFile::KeyUsers => domain.may_override(task),
        });
        may.unwrap_or(false)
    }

    /// Opens a file: its handle.
    pub(super) fn open_file(
        &self,
        who: &Request,
        file: ProcFile,
        flags: OpenFlags,
    ) -> Result<u64, Errno> {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        if writes && !self.may_write(who, file) {
            return Err(Errno::EACCES);
        }
        let mode = if writes { FOR_WRITING } else { 0 };
        let is_knob = matches!(file, ProcFile::Knob(_));
        if is_knob && flags.0 & libc::O_APPEND == 0 {
            return Ok(mode);
        }
        if !self.texts().has_room(who.uid()) {
            return Err(Errno::ENFILE);
        }
        // A handle for appending is kept, without text, until its first write.
        let text = if is_knob { Vec::new() } else { self.text(who, file)? };
        Ok(self.texts().add(who.uid(), text) << 1 | mode)
    }

    /// Where a write begins as the kernel counts: an append begins at the end, which is
    /// the beginning, and goes on from there.
    pub(super) fn begin(&self, handle: FileHandle, offset: u64, flags: OpenFlags) -> u64 {
        if flags.0 & libc::O_APPEND == 0 {
            return offset;
        }
        if self.texts().remove(handle.0 >> 1) { 0 } else { 1 }
    }

    /// Hands a piece of a file on: of the text that was made when it was opened, or of a
    /// knob's present value, all of which is at the beginning.
    pub(super) fn read_file(
        &self,
        file: ProcFile,
        handle: FileHandle,
        offset: u64,
        len: usize,
        give: impl FnOnce(&[u8]),
    ) {
        if !matches!(file, ProcFile::Knob(_)) {
            return give(self.texts().piece(handle.0 >> 1, offset, len));
        }
        let mut text = Vec::new();
        if offset == 0 {
            self.server.domain().open_for_stranger(0, 0, file, &mut text);
        }
        give(text.get(..len).unwrap_or(&text));
    }

    /// Forgets what was kept for a handle.
    pub(super) fn release_file(&self, handle: FileHandle) {
        self.texts().remove(handle.0 >> 1);
    }

    /// How many bytes of a write count. Only what is written at the beginning does
    /// anything (`sysctl_writes_strict`).
    pub(super) fn write_file(
        &self,
        who: &Request,
        file: ProcFile,
        offset: u64,
        written: &[u8],
    ) -> Result<usize, Errno> {
        let ProcFile::Knob(knob) = file else { return Err(Errno::EIO) };
        let mut domain = self.server.domain();
        let task = domain.task_of(who.pid()).map_err(|_| Errno::EPERM)?;
        if offset != 0 {
            let may = domain.may_tune(task).map_err(unanswered)?;
            return if may { Ok(written.len()) } else { Err(Errno::EPERM) };
        }
        domain.write_knob(task, knob, written).map_err(unanswered)?.map_err(errno)
    }

    /// What stands in the way of a change of attributes: all can be had of root but
    /// another mode and another owner.
    pub(super) fn check_change(
        &self,
        who: &Request,
        node: Node,
        change: &Change,
    ) -> Result<(), Errno> {
        if change.mode_or_owner {
            return Err(Errno::EPERM);
        }
        let may = match node {
            _ if change.writer => true,
            Node::File(file) => self.may_write(who, file),
            _ => who.uid() == 0,
        };
        match (may, change.fixed_time) {
            (true, _) => Ok(()),
            (false, true) => Err(Errno::EPERM),
            (false, false) => Err(Errno::EACCES),
        }
    }

    /// Answers access(2).
    pub(super) fn check_access(
        &self,
        who: &Request,
        node: Node,
        mask: AccessFlags,
    ) -> Result<(), Errno> {
        let is_directory = !matches!(node, Node::File(_));
        let may_execute = is_directory || !mask.contains(AccessFlags::X_OK);
        let may_write = !mask.contains(AccessFlags::W_OK)
            || match node {
                // Judged by the effective user, whoever access(2) asks for.
                Node::File(file @ ProcFile::Knob(_)) => self.may_write(who, file),
                Node::File(file) => who.uid() == 0 && self.may_write(who, file),
                _ => false,
            };
        if may_execute && may_write { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// What of a setattr matters.
pub(super) struct Change {
    /// Another mode, owner or group.
    pub(super) mode_or_owner: bool,
    /// A time that is not the present.
    pub(super) fixed_time: bool,
    /// Made through a descriptor that was opened for writing.
    pub(super) writer: bool,
}

fn errno(errno: keyshim_abi::Errno) -> Errno {
    Errno::from_i32(errno.raw())
}

fn unanswered(reason: CutOff) -> Errno {
    tracing::info!("a file under /proc is not answered for: {reason}");
    Errno::EIO
}

/// The file of that number; EISDIR for a directory.
pub(super) fn file_of(number: INodeNo) -> Result<ProcFile, Errno> {
    match Node::of(number) {
        Some(Node::File(file)) => Ok(file),
        Some(_) => Err(Errno::EISDIR),
        None => Err(Errno::ENOENT),
    }
}

/// What has that name in that directory.
pub(super) fn child_of(parent: INodeNo, name: &OsStr) -> Option<Node> {
    let children = Node::of(parent)?.children();
    children.into_iter().find(|(known, _)| name == *known).map(|(_, node)| node)
}

/// True for a handle that was opened for writing.
pub(super) fn is_for_writing(handle: FileHandle) -> bool {
    handle.0 & FOR_WRITING != 0
}
