//! More than sixteen links: keyrings apart from all others.
//!
//! A search of nested rings then visits them without a look at anything else, and in
//! the order of their slots while they are sixteen at most. So it does in the kernel,
//! where they lie in one node of their own, because the first digit of their hashes is
//! zero. The fifteen slots that this leaves in the root are for the others.

use alloc::vec::Vec;

use super::slots::Slots;
use super::table::Table;
use super::{IndexHash, Leaf, ORDERED_LINKS_MAX};

pub(super) struct Apart {
    keyrings: Bunch,
    others: Bunch,
}

impl Apart {
    /// Takes a full root apart to add one more link.
    pub(super) fn split(root: &Slots, new: Leaf) -> Apart {
        let all = root.leaves().copied().chain([new]);
        let (keyrings, others): (Vec<Leaf>, Vec<Leaf>) = all.partition(Leaf::is_keyring);
        Apart { keyrings: Bunch::packed(0, &keyrings), others: Bunch::packed(1, &others) }
    }

    /// Folds what has become few, in order and from slot 0 up (`assoc_array_delete`).
    pub(super) fn folded(&self) -> Slots {
        Slots::packed(0, self.leaves().copied())
    }

    /// Folds what has become few, the keyrings into the first slots that the others
    /// leave free (`assoc_array_gc`).
    pub(super) fn collected(&self) -> Slots {
        let mut root = self.others.slots.clone();
        for &leaf in self.others.table.leaves().chain(self.keyrings.leaves()) {
            root.insert_first(leaf);
        }
        root
    }

    pub(super) fn len(&self) -> usize {
        self.keyrings.len() + self.others.len()
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.others.leaves().chain(self.keyrings.leaves())
    }

    pub(super) fn keyrings(&self) -> impl Iterator<Item = &Leaf> {
        self.keyrings.leaves()
    }

    pub(super) fn find(&self, hash: IndexHash, wanted: impl Fn(&Leaf) -> bool) -> Option<&Leaf> {
        let bunch = if hash.is_keyring() { &self.keyrings } else { &self.others };
        bunch.find(hash.half(), wanted)
    }

    fn bunch_of(&mut self, leaf: Leaf) -> &mut Bunch {
        if leaf.is_keyring() { &mut self.keyrings } else { &mut self.others }
    }

    pub(super) fn find_mut(&mut self, leaf: Leaf) -> Option<&mut Leaf> {
        self.bunch_of(leaf).find_mut(leaf)
    }

    pub(super) fn insert(&mut self, leaf: Leaf) {
        self.bunch_of(leaf).insert(leaf);
    }

    pub(super) fn remove(&mut self, leaf: Leaf) -> bool {
        self.bunch_of(leaf).remove(leaf)
    }

    #[cfg(test)]
    pub(super) fn places_len(&self) -> usize {
        self.keyrings.table.places_len() + self.others.table.places_len()
    }
}

/// Links in slots, and those beyond sixteen in no order.
#[derive(Default)]
struct Bunch {
    slots: Slots,
    table: Table,
}

impl Bunch {
    fn packed(first: usize, leaves: &[Leaf]) -> Bunch {
        let (ordered, beyond) = leaves.split_at(leaves.len().min(ORDERED_LINKS_MAX));
        let mut bunch =
            Bunch { slots: Slots::packed(first, ordered.iter().copied()), ..Bunch::default() };
        beyond.iter().for_each(|&leaf| bunch.insert(leaf));
        bunch
    }

    fn len(&self) -> usize {
        self.slots.len() + self.table.len()
    }

    fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.slots.leaves().chain(self.table.leaves())
    }

    fn find(&self, half: u32, wanted: impl Fn(&Leaf) -> bool) -> Option<&Leaf> {
        self.slots.find(&wanted).or_else(|| self.table.find(half, wanted))
    }

    fn find_mut(&mut self, leaf: Leaf) -> Option<&mut Leaf> {
        self.slots.find_mut(leaf).or_else(|| self.table.find_mut(leaf))
    }

    fn insert(&mut self, leaf: Leaf) {
        if !self.slots.insert_last(leaf) {
            self.table.insert(leaf);
        }
    }

    fn remove(&mut self, leaf: Leaf) -> bool {
        self.slots.remove(leaf) || self.table.remove(leaf)
    }
}
