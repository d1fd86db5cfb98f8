//! What is in the file system: three branches, each to be put where it belongs.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};
use keyshim_abi::procfs::{Knob, ProcFile};

/// Name of the branch for `/proc/keys`.
pub(super) const KEYS: &str = "keys";
/// Name of the branch for `/proc/key-users`.
pub(super) const KEY_USERS: &str = "key-users";
/// Name of the branch for `/proc/sys/kernel/keys`.
pub(super) const KNOBS: &str = "knobs";
/// Name of an empty directory to mount on.
pub(super) const SPARE: &str = "spare";

/// A file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// What the branches grow from; programs never see it.
    Root,
    /// The directory of the knobs.
    Knobs,
    /// An empty directory.
    Spare,
    /// A file.
    File(ProcFile),
}

const FIRST_KNOB: u64 = 6;

impl Node {
    /// Its number, for ever.
    pub(super) fn number(self) -> INodeNo {
        INodeNo(match self {
            Node::Root => 1,
            Node::Knobs => 2,
            Node::Spare => 3,
            Node::File(ProcFile::Keys) => 4,
            Node::File(ProcFile::KeyUsers) => 5,
            Node::File(ProcFile::Knob(knob)) => {
                let index = Knob::ALL.iter().position(|&one| one == knob);
                FIRST_KNOB + index.unwrap_or_default() as u64
            }
        })
    }

    /// The node of that number.
    pub(super) fn of(number: INodeNo) -> Option<Node> {
        match number.0 {
            1 => Some(Node::Root),
            2 => Some(Node::Knobs),
            3 => Some(Node::Spare),
            4 => Some(Node::File(ProcFile::Keys)),
            5 => Some(Node::File(ProcFile::KeyUsers)),
            other => {
                let index = usize::try_from(other.checked_sub(FIRST_KNOB)?).ok()?;
                Knob::ALL.get(index).map(|&knob| Node::File(ProcFile::Knob(knob)))
            }
        }
    }

    /// What is in a directory, in the order of a listing; nothing is in a file.
    pub(super) fn children(self) -> Vec<(&'static str, Node)> {
        match self {
            Node::Root => vec![
                (KEYS, Node::File(ProcFile::Keys)),
                (KEY_USERS, Node::File(ProcFile::KeyUsers)),
                (KNOBS, Node::Knobs),
                (SPARE, Node::Spare),
            ],
            Node::Knobs => {
                let node = |&knob: &Knob| (knob.name(), Node::File(ProcFile::Knob(knob)));
                Knob::ALL.iter().map(node).collect()
            }
            Node::Spare | Node::File(_) => Vec::new(),
        }
    }

    /// Directory or file.
    pub(super) fn kind(self) -> FileType {
        match self {
            Node::File(_) => FileType::RegularFile,
            _ => FileType::Directory,
        }
    }

    /// As stat(2) shows the kernel's own: root's, one link, no size.
    pub(super) fn facts(self, since: SystemTime) -> FileAttr {
        let perm = match self {
            Node::File(file) => file.mode() as u16,
            _ => 0o555,
        };
        FileAttr {
            ino: self.number(),
            size: 0,
            blocks: 0,
            atime: since,
            mtime: since,
            ctime: since,
            crtime: since,
            kind: self.kind(),
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 1024,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_found_by_its_number_and_no_number_is_used_twice() {
        let branches = Node::Root.children().into_iter().chain(Node::Knobs.children());
        let all: Vec<Node> = branches.map(|(_, node)| node).chain([Node::Root]).collect();
        assert_eq!(all.len(), 11);
        for (index, &node) in all.iter().enumerate() {
            assert_eq!(Node::of(node.number()), Some(node));
            let same = all.iter().filter(|other| other.number() == node.number());
            assert_eq!(same.count(), 1, "{index}");
        }
        for stranger in [0, 12, u64::MAX] {
            assert_eq!(Node::of(INodeNo(stranger)), None);
        }
    }
}
