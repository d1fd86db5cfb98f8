//! The nodes.

use core::ops::ControlFlow;

use alloc::boxed::Box;

use super::{HashExhausted, IndexHash};
use crate::key::KeyIx;

const FAN_OUT: usize = 16;
/// Hexadecimal digits of a hash, and so the deepest level.
const LEVELS: u32 = 16;

/// Twelve bytes, so that a slot takes sixteen: in a large ring nearly all of the cost
/// of a search is the memory that it touches.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    hash: [u32; 2],
    pub(super) key: KeyIx,
}

impl Leaf {
    pub(super) fn new(hash: u64, key: KeyIx) -> Leaf {
        Leaf { hash: [hash as u32, (hash >> 32) as u32], key }
    }

    pub(super) fn hash(&self) -> u64 {
        let [low, high] = self.hash.map(u64::from);
        low | high << 32
    }
}

#[derive(Default)]
pub(super) enum Slot {
    #[default]
    Empty,
    Leaf(Leaf),
    Node(Box<Node>),
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) slots: [Slot; FAN_OUT],
    /// Leaves here and below.
    pub(super) leaves: usize,
}

/// Below the last digit, where only keys of one hash can meet, every digit is 0.
fn digit(hash: u64, level: u32) -> usize {
    hash.checked_shr(4 * level).unwrap_or_default() as usize & (FAN_OUT - 1)
}

impl Node {
    pub(super) fn with_first(leaf: Leaf) -> Box<Node> {
        let mut node = Box::<Node>::default();
        node.slots[0] = Slot::Leaf(leaf);
        node.leaves = 1;
        node
    }

    pub(super) fn find(&self, hash: u64, equal: &dyn Fn(KeyIx) -> bool) -> Option<KeyIx> {
        let mut node = self;
        let mut level = 0;
        while level < LEVELS
            && let Slot::Node(child) = &node.slots[digit(hash, level)]
        {
            node = child;
            level += 1;
        }
        node.slots.iter().find_map(|slot| match slot {
            Slot::Leaf(leaf) if leaf.hash() == hash && equal(leaf.key) => Some(leaf.key),
            _ => None,
        })
    }

    /// `assoc_array_insert`: replace an equal leaf, else take the last free slot,
    /// else split.
    pub(super) fn insert(
        &mut self,
        leaf: Leaf,
        level: u32,
        equal: &dyn Fn(KeyIx) -> bool,
    ) -> Result<Option<KeyIx>, HashExhausted> {
        if level == LEVELS {
            return Err(HashExhausted);
        }
        let displaced = match &mut self.slots[digit(leaf.hash(), level)] {
            Slot::Node(child) => child.insert(leaf, level + 1, equal)?,
            _ => self.insert_here(leaf, level, equal)?,
        };
        self.leaves += usize::from(displaced.is_none());
        Ok(displaced)
    }

    fn insert_here(
        &mut self,
        leaf: Leaf,
        level: u32,
        equal: &dyn Fn(KeyIx) -> bool,
    ) -> Result<Option<KeyIx>, HashExhausted> {
        let mut free = None;
        for slot in &mut self.slots {
            match slot {
                Slot::Empty => free = Some(slot),
                Slot::Leaf(old) if old.hash() == leaf.hash() && equal(old.key) => {
                    return Ok(Some(core::mem::replace(&mut old.key, leaf.key)));
                }
                _ => {}
            }
        }
        match free {
            Some(slot) => *slot = Slot::Leaf(leaf),
            None => self.split(leaf, level, equal)?,
        }
        Ok(None)
    }

    /// Moves the leaves of one digit, the first that two of them share, into a node
    /// of their own and packs the others (`assoc_array_insert_into_terminal_node`).
    fn split(
        &mut self,
        leaf: Leaf,
        level: u32,
        equal: &dyn Fn(KeyIx) -> bool,
    ) -> Result<(), HashExhausted> {
        let shared = self.shared_digit(leaf, level);
        let old = core::mem::take(&mut self.slots);
        let mut child = Box::<Node>::default();
        let mut stay = [None; FAN_OUT + 1];
        let mut staying = 0;
        for (index, slot) in old.into_iter().enumerate() {
            match slot {
                Slot::Leaf(leaf) if digit(leaf.hash(), level) == shared => {
                    child.slots[child.leaves] = Slot::Leaf(leaf);
                    child.leaves += 1;
                }
                Slot::Leaf(leaf) => {
                    stay[staying] = Some(leaf);
                    staying += 1;
                }
                other => self.slots[index] = other,
            }
        }
        let result = if digit(leaf.hash(), level) == shared {
            child.insert_packed(leaf, level + 1, equal)
        } else {
            stay[staying] = Some(leaf);
            Ok(())
        };
        self.slots[shared] = Slot::Node(child);
        let mut leaves = stay.into_iter().flatten();
        for slot in self.slots.iter_mut().filter(|slot| matches!(slot, Slot::Empty)) {
            *slot = leaves.next().map_or(Slot::Empty, Slot::Leaf);
        }
        result
    }

    /// Adds to a node that a split has just filled from slot 0 up.
    fn insert_packed(
        &mut self,
        leaf: Leaf,
        level: u32,
        equal: &dyn Fn(KeyIx) -> bool,
    ) -> Result<(), HashExhausted> {
        if self.leaves < FAN_OUT {
            self.slots[self.leaves] = Slot::Leaf(leaf);
            self.leaves += 1;
            return Ok(());
        }
        self.insert(leaf, level, equal).map(|_| ())
    }

    /// The first digit that two of the leaves here and the new one share. There is
    /// one: of seventeen leaves in sixteen slots two must meet, and a slot that is
    /// a node already has no leaf of its digit beside it.
    fn shared_digit(&self, new: Leaf, level: u32) -> usize {
        let mut seen = [0u8; FAN_OUT];
        let leaves = self.slots.iter().filter_map(|slot| match slot {
            Slot::Leaf(leaf) => Some(leaf.hash()),
            _ => None,
        });
        for hash in leaves.clone().chain([new.hash()]) {
            seen[digit(hash, level)] += 1;
        }
        leaves
            .map(|hash| digit(hash, level))
            .find(|&digit| seen[digit] > 1)
            .unwrap_or_else(|| digit(new.hash(), level))
    }

    /// `assoc_array_delete`: remove, and fold what has become small enough for one
    /// node into it.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        level: u32,
        equal: &dyn Fn(KeyIx) -> bool,
    ) -> Option<KeyIx> {
        let removed = match self.slots.get_mut(digit(hash, level)) {
            Some(Slot::Node(child)) if level < LEVELS => child.remove(hash, level + 1, equal)?,
            _ => self.take(|leaf| leaf.hash() == hash && equal(leaf.key))?,
        };
        self.leaves -= 1;
        if self.leaves <= FAN_OUT && self.has_node() {
            self.flatten();
        }
        Some(removed)
    }

    /// `assoc_array_gc`: remove, keep every other leaf in its slot, and fold a child
    /// that fits into the free slots.
    pub(super) fn collect(&mut self, hash: u64, level: u32, key: KeyIx) -> bool {
        let index = digit(hash, level);
        let found = match &mut self.slots[index] {
            Slot::Node(child) if level < LEVELS => child.collect(hash, level + 1, key),
            _ => self.take(|leaf| leaf.key == key).is_some(),
        };
        self.leaves -= usize::from(found);
        let free = self.slots.iter().filter(|slot| matches!(slot, Slot::Empty)).count();
        if found && matches!(&self.slots[index], Slot::Node(child) if child.leaves <= free + 1) {
            self.fold(index);
        }
        found
    }

    fn take(&mut self, wanted: impl Fn(&Leaf) -> bool) -> Option<KeyIx> {
        let slot =
            self.slots.iter_mut().find(|slot| matches!(slot, Slot::Leaf(leaf) if wanted(leaf)))?;
        match core::mem::take(slot) {
            Slot::Leaf(leaf) => Some(leaf.key),
            _ => None,
        }
    }

    fn has_node(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Node(_)))
    }

    /// All leaves below into this node, from slot 0 up, in listing order.
    fn flatten(&mut self) {
        let mut flat = Node { leaves: self.leaves, ..Node::default() };
        let mut next = 0;
        self.each_leaf(&mut |leaf| {
            if let Some(slot) = flat.slots.get_mut(next) {
                *slot = Slot::Leaf(leaf);
            }
            next += 1;
        });
        *self = flat;
    }

    /// The leaves of the node in that slot into the first free slots here.
    fn fold(&mut self, index: usize) {
        let Slot::Node(child) = core::mem::take(&mut self.slots[index]) else { return };
        let mut next = 0;
        child.each_leaf(&mut |leaf| {
            while matches!(self.slots.get(next), Some(Slot::Leaf(_) | Slot::Node(_))) {
                next += 1;
            }
            if let Some(slot) = self.slots.get_mut(next) {
                *slot = Slot::Leaf(leaf);
            }
        });
    }

    /// Leaves of a node before those of its children (`assoc_array_subtree_iterate`).
    fn each_leaf(&self, visit: &mut dyn FnMut(Leaf)) {
        for slot in &self.slots {
            if let Slot::Leaf(leaf) = slot {
                visit(*leaf);
            }
        }
        for slot in &self.slots {
            if let Slot::Node(child) = slot {
                child.each_leaf(visit);
            }
        }
    }

    pub(super) fn each(&self, visit: &mut dyn FnMut(KeyIx)) {
        self.each_leaf(&mut |leaf| visit(leaf.key));
    }

    /// Keyrings in slot order, children where they stand.
    pub(super) fn each_keyring<B>(
        &self,
        visit: &mut dyn FnMut(KeyIx) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for slot in &self.slots {
            match slot {
                Slot::Leaf(leaf) if IndexHash(leaf.hash()).is_keyring() => visit(leaf.key)?,
                Slot::Node(child) => child.each_keyring(visit)?,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}
