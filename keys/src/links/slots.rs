//! Up to sixteen links, each in its slot.

use super::{Leaf, ORDERED_LINKS_MAX};

#[derive(Default, Clone)]
pub(super) struct Slots([Option<Leaf>; ORDERED_LINKS_MAX]);

impl Slots {
    /// Links from that slot up, and round to slot 0; there are no more than slots.
    pub(super) fn packed(first: usize, leaves: impl IntoIterator<Item = Leaf>) -> Slots {
        let mut slots = Slots::default();
        for (number, leaf) in leaves.into_iter().enumerate() {
            slots.0[(first + number) % ORDERED_LINKS_MAX] = Some(leaf);
        }
        slots
    }

    pub(super) fn len(&self) -> usize {
        self.leaves().count()
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.0.iter().flatten()
    }

    pub(super) fn find(&self, wanted: impl Fn(&Leaf) -> bool) -> Option<&Leaf> {
        self.leaves().find(|leaf| wanted(leaf))
    }

    pub(super) fn find_mut(&mut self, leaf: Leaf) -> Option<&mut Leaf> {
        self.0.iter_mut().flatten().find(|other| **other == leaf)
    }

    /// Takes the first free slot; false when there is none.
    pub(super) fn insert_first(&mut self, leaf: Leaf) -> bool {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        free.map(|slot| *slot = Some(leaf)).is_some()
    }

    /// Takes the last free slot; false when there is none.
    pub(super) fn insert_last(&mut self, leaf: Leaf) -> bool {
        let free = self.0.iter_mut().rfind(|slot| slot.is_none());
        free.map(|slot| *slot = Some(leaf)).is_some()
    }

    pub(super) fn remove(&mut self, leaf: Leaf) -> bool {
        let slot = self.0.iter_mut().find(|slot| **slot == Some(leaf));
        slot.and_then(Option::take).is_some()
    }

    #[cfg(test)]
    pub(super) fn slot_of(&self, leaf: Leaf) -> Option<usize> {
        self.0.iter().position(|slot| *slot == Some(leaf))
    }
}
