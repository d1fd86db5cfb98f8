//! The numbers by which the kernel knows what it has looked up.
//!
//! Most say by themselves what they stand for. A keyring has one for each place that it was
//! found in: the kernel allows a directory one place only, and a keyring has many. A file
//! that is being made has one of its own, since it is no key yet.

use std::collections::HashMap;

use fuser::INodeNo;
use keyshim_abi::{KeyId, Serial};

/// The caller's own keyrings, by the names of their links.
pub(super) const ENTRIES: [(&str, KeyId); 5] = [
    ("@t", KeyId::THREAD),
    ("@p", KeyId::PROCESS),
    ("@s", KeyId::SESSION),
    ("@u", KeyId::USER),
    ("@us", KeyId::USER_SESSION),
];

/// What a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node {
    /// The first directory.
    Root,
    /// `by-serial`.
    BySerial,
    /// `by-uid`.
    ByUid,
    /// A link to one of the caller's own keyrings, of [`ENTRIES`].
    Entry(usize),
    /// A directory in `by-uid`.
    User(u32),
    /// What is in there: a link to a key.
    UserKey(Serial),
    /// A key that is no keyring.
    File(Serial),
    /// A keyring, in one of its places.
    Ring(Serial),
    /// A file that was made, and the key that it has become.
    Made(Option<Serial>),
    /// A draft.
    Draft(u64),
}

/// Bits of a number that say what is in the others.
const SHIFT: u32 = 56;
const FIXED: u64 = 1;
const USER: u64 = 2;
const USER_KEY: u64 = 3;
const FILE: u64 = 4;
const RING: u64 = 5;
const MADE: u64 = 6;
const DRAFT: u64 = 7;
const BY_SERIAL: u64 = 1;
const BY_UID: u64 = 2;
const FIRST_ENTRY: u64 = 3;

/// Serials are below this, so that what is no key can have other numbers in stat(2).
const BEYOND_SERIALS: u64 = 1 << 31;

/// What the kernel knows beyond what numbers say.
#[derive(Default)]
pub(super) struct Nodes {
    rings: HashMap<u64, Place>,
    by_place: HashMap<(u64, Serial), u64>,
    made: HashMap<u64, Made>,
    last: u64,
}

struct Place {
    parent: u64,
    serial: Serial,
    lookups: u64,
}

struct Made {
    serial: Option<Serial>,
    lookups: u64,
}

const fn tagged(tag: u64, rest: u64) -> INodeNo {
    INodeNo(tag << SHIFT | rest)
}

fn of_serial(tag: u64, serial: Serial) -> INodeNo {
    tagged(tag, u64::from(serial.raw().unsigned_abs()))
}

impl Node {
    /// Its number, where it says all by itself.
    fn number(self) -> Option<INodeNo> {
        Some(match self {
            Node::Root => INodeNo(1),
            Node::BySerial => tagged(FIXED, BY_SERIAL),
            Node::ByUid => tagged(FIXED, BY_UID),
            Node::Entry(index) => tagged(FIXED, FIRST_ENTRY + index as u64),
            Node::User(uid) => tagged(USER, u64::from(uid)),
            Node::UserKey(serial) => of_serial(USER_KEY, serial),
            Node::File(serial) => of_serial(FILE, serial),
            Node::Draft(draft) => tagged(DRAFT, draft),
            Node::Ring(_) | Node::Made(_) => return None,
        })
    }

    /// The number that stat(2) shows: of a key, its serial, wherever it was found.
    pub(super) fn shown(self) -> INodeNo {
        let serial = |serial: Serial| u64::from(serial.raw().unsigned_abs());
        INodeNo(match self {
            Node::Root => 1,
            Node::File(key) | Node::Ring(key) | Node::Made(Some(key)) => serial(key),
            Node::BySerial => BEYOND_SERIALS + BY_SERIAL,
            Node::ByUid => BEYOND_SERIALS + BY_UID,
            Node::Entry(index) => BEYOND_SERIALS + FIRST_ENTRY + index as u64,
            Node::Made(None) => BEYOND_SERIALS,
            Node::User(uid) => (1 << 32) + u64::from(uid),
            Node::UserKey(key) => (2 << 32) + serial(key),
            Node::Draft(draft) => (3 << 32) + draft,
        })
    }

    /// The key that it stands for.
    pub(super) fn serial(self) -> Option<Serial> {
        match self {
            Node::File(serial) | Node::Ring(serial) | Node::Made(Some(serial)) => Some(serial),
            _ => None,
        }
    }
}

impl Nodes {
    /// What a number stands for; `None` for one that was not given, or was forgotten.
    pub(super) fn get(&self, number: INodeNo) -> Option<Node> {
        let rest = number.0 & ((1 << SHIFT) - 1);
        let serial = || i32::try_from(rest).ok().and_then(Serial::new);
        match number.0 >> SHIFT {
            0 if number.0 == 1 => Some(Node::Root),
            FIXED if rest == BY_SERIAL => Some(Node::BySerial),
            FIXED if rest == BY_UID => Some(Node::ByUid),
            FIXED => {
                let index = usize::try_from(rest.checked_sub(FIRST_ENTRY)?).ok()?;
                ENTRIES.get(index).map(|_| Node::Entry(index))
            }
            USER => u32::try_from(rest).ok().map(Node::User),
            USER_KEY => serial().map(Node::UserKey),
            FILE => serial().map(Node::File),
            RING => self.rings.get(&number.0).map(|place| Node::Ring(place.serial)),
            MADE => self.made.get(&number.0).map(|made| Node::Made(made.serial)),
            DRAFT => Some(Node::Draft(rest)),
            _ => None,
        }
    }

    /// The number of what was found in that directory, which the kernel knows once more
    /// from now on.
    pub(super) fn known(&mut self, parent: INodeNo, node: Node) -> INodeNo {
        match (node.number(), node) {
            (Some(number), _) => number,
            (None, Node::Ring(serial)) => self.ring(parent.0, serial),
            (None, other) => self.make(other.serial()),
        }
    }

    fn ring(&mut self, parent: u64, serial: Serial) -> INodeNo {
        let last = &mut self.last;
        let number = *self.by_place.entry((parent, serial)).or_insert_with(|| {
            *last += 1;
            tagged(RING, *last).0
        });
        let place = self.rings.entry(number).or_insert(Place { parent, serial, lookups: 0 });
        place.lookups += 1;
        INodeNo(number)
    }

    fn make(&mut self, serial: Option<Serial>) -> INodeNo {
        self.last += 1;
        let number = tagged(MADE, self.last);
        self.made.insert(number.0, Made { serial, lookups: 1 });
        number
    }

    /// What was made has become that key.
    pub(super) fn becomes(&mut self, number: INodeNo, serial: Serial) {
        if let Some(made) = self.made.get_mut(&number.0) {
            made.serial = Some(serial);
        }
    }

    /// The directory that a keyring was found in.
    pub(super) fn parent(&self, number: INodeNo) -> Option<INodeNo> {
        self.rings.get(&number.0).map(|place| INodeNo(place.parent))
    }

    /// The kernel has forgotten that many of the times when it was told of this number.
    pub(super) fn forget(&mut self, number: INodeNo, lookups: u64) {
        if let Some(place) = self.rings.get_mut(&number.0) {
            place.lookups = place.lookups.saturating_sub(lookups);
            if place.lookups == 0 {
                self.by_place.remove(&(place.parent, place.serial));
                self.rings.remove(&number.0);
            }
        }
        if let Some(made) = self.made.get_mut(&number.0) {
            made.lookups = made.lookups.saturating_sub(lookups);
            if made.lookups == 0 {
                self.made.remove(&number.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(raw: i32) -> Serial {
        Serial::new(raw).unwrap()
    }

    #[test]
    fn every_node_is_found_by_its_number() {
        let mut nodes = Nodes::default();
        let key = serial(i32::MAX);
        let all = [
            Node::Root,
            Node::BySerial,
            Node::ByUid,
            Node::Entry(0),
            Node::Entry(4),
            Node::User(u32::MAX),
            Node::UserKey(key),
            Node::File(key),
            Node::Ring(key),
            Node::Made(None),
            Node::Draft(7),
        ];
        let mut seen = std::collections::HashSet::new();
        for node in all {
            let number = nodes.known(INodeNo(1), node);
            assert_eq!(nodes.get(number), Some(node));
            assert!(seen.insert(number), "{node:?}");
        }
        for stranger in [0, 2, u64::MAX, 1 << SHIFT, 1 << SHIFT | 8, RING << SHIFT] {
            assert_eq!(nodes.get(INodeNo(stranger)), None);
        }
    }

    #[test]
    fn a_keyring_has_a_number_in_each_of_its_places_until_it_is_forgotten() {
        let mut nodes = Nodes::default();
        let (one, other) = (INodeNo(1), INodeNo(2));
        let first = nodes.known(one, Node::Ring(serial(5)));
        assert_eq!(nodes.known(one, Node::Ring(serial(5))), first);
        let second = nodes.known(other, Node::Ring(serial(5)));
        assert_ne!(first, second);
        assert_eq!(nodes.parent(second), Some(other));
        nodes.forget(first, 1);
        assert_eq!(nodes.get(first), Some(Node::Ring(serial(5))));
        nodes.forget(first, 1);
        nodes.forget(second, 1);
        assert_eq!((nodes.get(first), nodes.get(second)), (None, None));
        assert!(nodes.rings.is_empty() && nodes.by_place.is_empty());
    }

    #[test]
    fn what_was_made_is_the_key_that_it_has_become() {
        let mut nodes = Nodes::default();
        let number = nodes.known(INodeNo(1), Node::Made(None));
        nodes.becomes(number, serial(9));
        assert_eq!(nodes.get(number).and_then(Node::serial), Some(serial(9)));
        nodes.forget(number, 1);
        assert_eq!(nodes.get(number), None);
    }
}
