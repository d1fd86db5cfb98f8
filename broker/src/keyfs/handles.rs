//! What is kept for as long as a file is open, or a draft is there: bounded for each user.

use std::collections::HashMap;

use fuser::{Errno, FileHandle, INodeNo};
use keyshim_abi::Serial;
use keyshim_abi::limits::{
    ADD_PAYLOAD_LEN_MAX, KEYFS_DRAFTS_MAX, KEYFS_HELD_LEN_MAX, KEYFS_OPEN_MAX,
};
use zeroize::Zeroizing;

use super::name::KeyName;
use super::nodes::Node;

/// Bytes of a payload, cleared when they are not needed any more.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// One entry of a directory, by what it is; its name is made when it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// What is always there.
    Standing(Node),
    /// A key in a keyring.
    Link(Serial),
    /// A key by its serial.
    Key(Serial),
}

/// Where an open file's bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Into that key.
    Key(Serial),
    /// Into a key that is to be made, or was.
    New {
        /// The keyring to make it in.
        ring: Serial,
        /// How to call it.
        name: KeyName,
        /// What it has become.
        serial: Option<Serial>,
        /// The number that the kernel has for it.
        number: INodeNo,
    },
    /// Into a draft.
    Draft(u64),
}

/// An open file.
pub(super) struct OpenFile {
    /// Where its bytes go.
    pub(super) target: Target,
    /// All that was written, in a file that began empty.
    pub(super) begun: Option<Bytes>,
    /// Whether anything was.
    pub(super) is_written: bool,
}

/// What an open handle stands for.
pub(super) enum Handle {
    /// A directory as it was.
    Listing(Vec<Item>),
    /// A file.
    File(OpenFile),
}

impl Handle {
    fn len(&self) -> usize {
        match self {
            Handle::Listing(items) => items.len() * size_of::<Item>(),
            Handle::File(file) => file.begun.as_ref().map_or(0, |bytes| bytes.len()),
        }
    }
}

/// A file that is no key.
pub(super) struct Draft {
    owner: u32,
    /// The keyring that it lies in.
    pub(super) ring: Serial,
    /// What it is called there.
    pub(super) name: Vec<u8>,
    /// What is in it.
    pub(super) bytes: Bytes,
}

/// All of it.
#[derive(Default)]
pub(super) struct Handles {
    open: HashMap<u64, (u32, Handle)>,
    drafts: HashMap<u64, Draft>,
    last: u64,
}

impl Handles {
    /// Keeps something for a user. ENFILE when that user holds too much.
    pub(super) fn open(&mut self, owner: u32, handle: Handle) -> Result<FileHandle, Errno> {
        let (count, len) = self.held(owner);
        if count >= KEYFS_OPEN_MAX || len >= KEYFS_HELD_LEN_MAX {
            return Err(Errno::ENFILE);
        }
        self.last += 1;
        self.open.insert(self.last, (owner, handle));
        Ok(FileHandle(self.last))
    }

    /// How many handles a user has, and bytes in them.
    fn held(&self, owner: u32) -> (usize, usize) {
        let own = self.open.values().filter(|(user, _)| *user == owner);
        own.fold((0, 0), |(count, len), (_, handle)| (count + 1, len + handle.len()))
    }

    /// What a handle stands for.
    pub(super) fn get(&mut self, handle: FileHandle) -> Result<&mut Handle, Errno> {
        self.open.get_mut(&handle.0).map(|(_, handle)| handle).ok_or(Errno::EBADF)
    }

    /// The open file of a handle.
    pub(super) fn file(&mut self, handle: FileHandle) -> Result<&mut OpenFile, Errno> {
        match self.get(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Listing(_) => Err(Errno::EISDIR),
        }
    }

    /// Forgets what was kept.
    pub(super) fn close(&mut self, handle: FileHandle) {
        self.open.remove(&handle.0);
    }

    /// Makes an empty draft. EDQUOT when that user has too many.
    pub(super) fn add_draft(
        &mut self,
        owner: u32,
        ring: Serial,
        name: Vec<u8>,
    ) -> Result<u64, Errno> {
        if self.drafts.values().filter(|draft| draft.owner == owner).count() >= KEYFS_DRAFTS_MAX {
            return Err(Errno::EDQUOT);
        }
        self.last += 1;
        self.drafts.insert(self.last, Draft { owner, ring, name, bytes: Bytes::default() });
        Ok(self.last)
    }

    /// A user's draft of that name in that keyring.
    pub(super) fn find_draft(&self, owner: u32, ring: Serial, name: &[u8]) -> Option<u64> {
        let is_it = |draft: &Draft| (draft.owner, draft.ring, &*draft.name) == (owner, ring, name);
        self.drafts.iter().find(|(_, draft)| is_it(draft)).map(|(&number, _)| number)
    }

    /// That draft, if it is that user's. ENOENT when it was removed meanwhile.
    pub(super) fn draft(&mut self, owner: u32, number: u64) -> Result<&mut Draft, Errno> {
        let draft = self.drafts.get_mut(&number).filter(|draft| draft.owner == owner);
        draft.ok_or(Errno::ENOENT)
    }

    /// Removes a draft.
    pub(super) fn remove_draft(&mut self, number: u64) {
        self.drafts.remove(&number);
    }
}

/// Puts bytes into others, with zeroes where neither has any. EFBIG when no key could have so
/// many.
pub(super) fn splice(bytes: &mut Bytes, offset: u64, written: &[u8]) -> Result<(), Errno> {
    let end = offset.checked_add(written.len() as u64).filter(|&end| end <= ADD_PAYLOAD_LEN_MAX);
    let end = end.ok_or(Errno::EFBIG)? as usize;
    if bytes.len() < end {
        resize(bytes, end);
    }
    if let Some(place) = bytes.get_mut(offset as usize..end) {
        place.copy_from_slice(written);
    }
    Ok(())
}

/// Makes bytes so long; nothing of them stays anywhere else.
pub(super) fn resize(bytes: &mut Bytes, len: usize) {
    let mut resized = Bytes::new(Vec::with_capacity(len));
    resized.extend_from_slice(bytes.get(..len).unwrap_or(bytes));
    resized.resize(len, 0);
    *bytes = resized;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Serial {
        Serial::new(5).unwrap()
    }

    #[test]
    fn bytes_are_put_where_they_belong() {
        let mut bytes = Bytes::new(b"0123".to_vec());
        splice(&mut bytes, 1, b"ab").unwrap();
        assert_eq!(**bytes, *b"0ab3");
        splice(&mut bytes, 6, b"z").unwrap();
        assert_eq!(**bytes, *b"0ab3\0\0z");
        for offset in [ADD_PAYLOAD_LEN_MAX, u64::MAX] {
            assert_eq!(splice(&mut bytes, offset, b"x"), Err(Errno::EFBIG));
        }
        resize(&mut bytes, 2);
        assert_eq!(**bytes, *b"0a");
    }

    #[test]
    fn one_user_can_hold_so_much_and_no_other_is_in_the_way() {
        let mut handles = Handles::default();
        let listing = || Handle::Listing(Vec::new());
        let all: Vec<_> =
            (0..KEYFS_OPEN_MAX).map(|_| handles.open(7, listing()).unwrap()).collect();
        assert_eq!(handles.open(7, listing()).err(), Some(Errno::ENFILE));
        assert!(handles.open(8, listing()).is_ok());
        handles.close(all[0]);
        assert!(handles.open(7, listing()).is_ok());
    }

    #[test]
    fn a_draft_is_its_users_alone_and_there_are_so_many() {
        let mut handles = Handles::default();
        let draft = handles.add_draft(7, ring(), b"x".to_vec()).unwrap();
        assert_eq!(handles.find_draft(7, ring(), b"x"), Some(draft));
        assert_eq!(handles.find_draft(8, ring(), b"x"), None);
        assert!(handles.draft(8, draft).is_err() && handles.draft(7, draft).is_ok());
        for number in 1..KEYFS_DRAFTS_MAX {
            handles.add_draft(7, ring(), number.to_string().into_bytes()).unwrap();
        }
        assert_eq!(handles.add_draft(7, ring(), b"y".to_vec()), Err(Errno::EDQUOT));
        handles.remove_draft(draft);
        assert!(handles.add_draft(7, ring(), b"y".to_vec()).is_ok());
    }
}
