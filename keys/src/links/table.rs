//! Links in no order, found by their hash.
//!
//! In a large ring the cost of a search is the memory that it waits for: here one line
//! of it, as a rule. A general hash table keeps tags apart from its entries and so waits
//! twice; it needs them because entries do not tell their hashes. Links do, and eight
//! of them share a line. A link whose place is taken lies in the next free one (linear
//! probing).

use alloc::vec::Vec;

use super::Leaf;

/// Fewest places of a table that has any.
const PLACES_MIN: usize = 32;
/// A table in which more than this part is taken becomes larger. Up to it, runs of taken
/// places seldom reach beyond the next line.
const FULL: (usize, usize) = (3, 4);
/// A table of which less than one part in this many is taken becomes smaller. Rebuilt,
/// it has two to four places for each link, so that links must come or go in numbers
/// before it is rebuilt again.
const SPARSE: usize = 8;

#[derive(Default)]
pub(super) struct Table {
    /// None, or a power of two, never all taken.
    places: Vec<Option<Leaf>>,
    len: usize,
}

impl Table {
    fn for_links(len: usize) -> Table {
        let places = (len * 2).next_power_of_two().max(PLACES_MIN);
        Table { places: alloc::vec![None; places], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.places.iter().flatten()
    }

    /// Where a link of that hash should lie. The hash was keyed with a secret: its bits
    /// need no mixing. The lowest one is the same for all links of a table.
    fn home(&self, hash: u32) -> usize {
        self.round((hash >> 1) as usize)
    }

    fn round(&self, place: usize) -> usize {
        place & (self.places.len() - 1)
    }

    fn position(&self, hash: u32, wanted: impl Fn(&Leaf) -> bool) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(hash);
        while let Some(leaf) = &self.places[at] {
            if wanted(leaf) {
                return Some(at);
            }
            at = self.round(at + 1);
        }
        None
    }

    pub(super) fn find(&self, hash: u32, wanted: impl Fn(&Leaf) -> bool) -> Option<&Leaf> {
        self.places[self.position(hash, wanted)?].as_ref()
    }

    pub(super) fn find_mut(&mut self, leaf: Leaf) -> Option<&mut Leaf> {
        let at = self.position(leaf.hash, |other| *other == leaf)?;
        self.places[at].as_mut()
    }

    pub(super) fn insert(&mut self, leaf: Leaf) {
        if (self.len + 1) * FULL.1 > self.places.len() * FULL.0 {
            self.rebuild();
        }
        let mut at = self.home(leaf.hash);
        while self.places[at].is_some() {
            at = self.round(at + 1);
        }
        self.places[at] = Some(leaf);
        self.len += 1;
    }

    fn rebuild(&mut self) {
        let mut rebuilt = Table::for_links(self.len);
        self.leaves().for_each(|&leaf| rebuilt.insert(leaf));
        *self = rebuilt;
    }

    pub(super) fn remove(&mut self, leaf: Leaf) -> bool {
        let Some(at) = self.position(leaf.hash, |other| *other == leaf) else { return false };
        self.close_gap(at);
        self.len -= 1;
        if self.len * SPARSE < self.places.len() && self.places.len() > PLACES_MIN {
            self.rebuild();
        }
        true
    }

    /// Takes the link out of a place and moves those after it up that would not be
    /// found behind a free place.
    fn close_gap(&mut self, mut gap: usize) {
        self.places[gap] = None;
        let mut at = self.round(gap + 1);
        while let Some(leaf) = self.places[at] {
            let from_home = self.round(at.wrapping_sub(self.home(leaf.hash)));
            if from_home >= self.round(at.wrapping_sub(gap)) {
                self.places.swap(gap, at);
                gap = at;
            }
            at = self.round(at + 1);
        }
    }

    #[cfg(test)]
    pub(super) fn places_len(&self) -> usize {
        self.places.len()
    }
}
