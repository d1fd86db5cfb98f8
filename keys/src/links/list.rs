//! Links one after the other, as they were made, the same one perhaps more than once
//! (`struct keyring_list` of old kernels).
//!
//! The list grows by four places at a time and never shrinks, which `/proc/keys` shows,
//! up to as many as a page of memory holds.

use alloc::vec::Vec;

use super::Leaf;

/// Places that are added to a full list.
const GROWTH: usize = 4;

pub(super) struct List {
    leaves: Vec<Leaf>,
    places: usize,
    places_max: usize,
}

impl List {
    pub(super) const fn new(places_max: usize) -> List {
        List { leaves: Vec::new(), places: 0, places_max }
    }

    /// The same without anything in it, and without a place.
    pub(super) const fn cleared(&self) -> List {
        List::new(self.places_max)
    }

    pub(super) fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Places, taken or not.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    pub(super) fn has_room(&self) -> bool {
        self.leaves.len() < self.places_max
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter()
    }

    /// The first link for which `wanted` holds.
    pub(super) fn find(&self, wanted: impl Fn(&Leaf) -> bool) -> Option<&Leaf> {
        self.leaves.iter().find(|leaf| wanted(leaf))
    }

    pub(super) fn push(&mut self, leaf: Leaf) {
        if self.leaves.len() == self.places {
            self.places = (self.places + GROWTH).min(self.places_max);
        }
        self.leaves.push(leaf);
    }

    /// Removes the first link of that kind.
    pub(super) fn remove(&mut self, leaf: Leaf) -> bool {
        let at = self.leaves.iter().position(|other| *other == leaf);
        at.map(|at| self.leaves.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyIx;
    use crate::links::IndexHash;

    fn leaf(number: u32) -> Leaf {
        Leaf::new(IndexHash::new(u64::from(number), false), KeyIx::at(number))
    }

    #[test]
    fn a_list_grows_by_four_places_and_never_shrinks() {
        let mut list = List::new(10);
        let places = |list: &List| (list.len(), list.places(), list.has_room());
        assert_eq!(places(&list), (0, 0, true));
        let grown: Vec<usize> = (0..10)
            .map(|number| {
                list.push(leaf(number));
                list.places()
            })
            .collect();
        assert_eq!(grown, [4, 4, 4, 4, 8, 8, 8, 8, 10, 10]);
        assert!(!list.has_room());
        assert!((0..10).all(|number| list.remove(leaf(number))));
        assert_eq!(places(&list), (0, 10, true));
        assert_eq!(places(&list.cleared()), (0, 0, true));
    }

    #[test]
    fn the_first_of_equal_links_goes_first() {
        let mut list = List::new(10);
        [1, 2, 1, 3].map(leaf).into_iter().for_each(|leaf| list.push(leaf));
        assert!(list.remove(leaf(1)));
        assert_eq!(list.leaves, [2, 1, 3].map(leaf));
        assert!(list.remove(leaf(1)) && !list.remove(leaf(1)));
    }
}
