//! The links of one keyring: in their order where it shows, in none where it does not.
//!
//! The kernel holds them in a radix tree of sixteen-way nodes over a hash of type
//! and description (`lib/assoc_array.c`). Its shape shows: READ lists a ring, and
//! a search visits nested rings, in slot order. While a ring has at most sixteen
//! links, all of them lie in the root, and the order depends on history alone: the
//! first link of an empty ring takes slot 0, each later one the *last* free slot.
//! Larger rings split by the hash, whose secret differs at each boot. All that a
//! program can count on then is that keyrings keep apart (`apart.rs`). Whatever has
//! no order to keep is in hash tables (`table.rs`), where a link is one read away
//! however many there are.
//!
//! Old kernels had lists (`list.rs`).

mod apart;
mod list;
mod slots;
mod table;
#[cfg(test)]
mod tests;

use core::mem;
use core::ops::ControlFlow;

use alloc::boxed::Box;

use self::apart::Apart;
use self::list::List;
use self::slots::Slots;
use crate::key::KeyIx;
use crate::profile::Rings;

/// Links up to which the order of a ring depends on its history alone.
pub(crate) const ORDERED_LINKS_MAX: usize = 16;

/// The hash of a type and a description. Its lowest bit is set for keyrings and for
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHash(u64);

impl IndexHash {
    pub(crate) fn new(hash: u64, is_keyring: bool) -> IndexHash {
        IndexHash(hash & !1 | u64::from(is_keyring))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn is_keyring(self) -> bool {
        self.0 & 1 == 1
    }

    fn half(self) -> u32 {
        self.0 as u32
    }
}

/// One link. Half of the hash is enough to tell nearly all keys apart, and at eight
/// bytes, eight links share a line of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaf {
    hash: u32,
    key: KeyIx,
}

impl Leaf {
    fn new(hash: IndexHash, key: KeyIx) -> Leaf {
        Leaf { hash: hash.half(), key }
    }

    fn is_keyring(&self) -> bool {
        self.hash & 1 == 1
    }
}

/// The links of one keyring; only this crate can look inside.
#[derive(Default)]
pub struct Links {
    /// There is a root, empty or not, so that the next link does not take slot 0.
    rooted: bool,
    form: Form,
}

enum Form {
    Root(Slots),
    Apart(Box<Apart>),
    List(List),
}

impl Default for Form {
    fn default() -> Form {
        Form::Root(Slots::default())
    }
}

impl Links {
    /// An empty ring of that kind.
    pub(crate) fn new(rings: Rings) -> Links {
        let form = match rings {
            Rings::Indexed => Form::default(),
            Rings::Listed { places_max } => Form::List(List::new(places_max)),
        };
        Links { rooted: false, form }
    }

    /// True where equal links may lie beside each other, in the order of linking.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.form, Form::List(_))
    }

    /// Places of a list, taken or not; none where there are no places to speak of.
    pub(crate) fn places(&self) -> Option<usize> {
        match &self.form {
            Form::List(list) => Some(list.places()),
            _ => None,
        }
    }

    /// False for a list that takes no further link.
    pub(crate) fn has_room(&self) -> bool {
        match &self.form {
            Form::List(list) => list.has_room(),
            _ => true,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.form {
            Form::Root(slots) => slots.len(),
            Form::Apart(apart) => apart.len(),
            Form::List(list) => list.len(),
        }
    }

    /// The first linked key with that hash for which `equal` holds.
    pub(crate) fn find(&self, hash: IndexHash, equal: impl Fn(KeyIx) -> bool) -> Option<KeyIx> {
        let wanted = |leaf: &Leaf| leaf.hash == hash.half() && equal(leaf.key);
        match &self.form {
            Form::Root(slots) => slots.find(wanted),
            Form::Apart(apart) => apart.find(hash, wanted),
            Form::List(list) => list.find(wanted),
        }
        .map(|leaf| leaf.key)
    }

    /// Links a key, anew or where the equal one stands that it displaces.
    pub(crate) fn insert(&mut self, hash: IndexHash, key: KeyIx, displaces: Option<KeyIx>) {
        let leaf = Leaf::new(hash, key);
        match displaces.and_then(|old| self.find_mut(Leaf::new(hash, old))) {
            Some(place) => *place = leaf,
            None => self.add(leaf),
        }
    }

    fn find_mut(&mut self, leaf: Leaf) -> Option<&mut Leaf> {
        match &mut self.form {
            Form::Root(slots) => slots.find_mut(leaf),
            Form::Apart(apart) => apart.find_mut(leaf),
            // Nothing is ever displaced there.
            Form::List(_) => None,
        }
    }

    fn add(&mut self, leaf: Leaf) {
        let is_first = !mem::replace(&mut self.rooted, true);
        let root = match &mut self.form {
            Form::Root(root) => root,
            Form::Apart(apart) => return apart.insert(leaf),
            Form::List(list) => return list.push(leaf),
        };
        let placed = if is_first { root.insert_first(leaf) } else { root.insert_last(leaf) };
        if !placed {
            self.form = Form::Apart(Box::new(Apart::split(root, leaf)));
        }
    }

    /// Removes a link (UNLINK, MOVE). The root goes with its last link.
    pub(crate) fn remove(&mut self, hash: IndexHash, key: KeyIx) -> bool {
        let removed = self.take(Leaf::new(hash, key));
        match &self.form {
            Form::Root(slots) => self.rooted = slots.len() > 0,
            Form::Apart(apart) if apart.len() <= ORDERED_LINKS_MAX => {
                self.form = Form::Root(apart.folded());
            }
            Form::Apart(_) | Form::List(_) => {}
        }
        removed
    }

    /// Removes a link as the garbage collector does: an emptied root stays
    /// (`assoc_array_gc`).
    pub(crate) fn collect(&mut self, hash: IndexHash, key: KeyIx) -> bool {
        let removed = self.take(Leaf::new(hash, key));
        match &self.form {
            Form::Apart(apart) if apart.len() <= ORDERED_LINKS_MAX => {
                self.form = Form::Root(apart.collected());
            }
            _ => {}
        }
        removed
    }

    fn take(&mut self, leaf: Leaf) -> bool {
        match &mut self.form {
            Form::Root(slots) => slots.remove(leaf),
            Form::Apart(apart) => apart.remove(leaf),
            Form::List(list) => list.remove(leaf),
        }
    }

    /// Drops every link, each after `put` has heard of it.
    pub(crate) fn clear(&mut self, mut put: impl FnMut(KeyIx)) {
        self.each(&mut put);
        let form = match &self.form {
            Form::List(list) => Form::List(list.cleared()),
            _ => Form::default(),
        };
        *self = Links { rooted: false, form };
    }

    /// Every linked key, in the order of READ (`assoc_array_iterate`).
    pub(crate) fn each(&self, visit: &mut dyn FnMut(KeyIx)) {
        let visit = |leaf: &Leaf| visit(leaf.key);
        match &self.form {
            Form::Root(slots) => slots.leaves().for_each(visit),
            Form::Apart(apart) => apart.leaves().for_each(visit),
            Form::List(list) => list.leaves().for_each(visit),
        }
    }

    /// The linked keyrings in the order of a search, until `visit` breaks off
    /// (`search_nested_keyrings`).
    pub(crate) fn each_keyring<B>(
        &self,
        visit: &mut dyn FnMut(KeyIx) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut visit = |leaf: &Leaf| visit(leaf.key);
        match &self.form {
            Form::Root(slots) => {
                slots.leaves().filter(|leaf| leaf.is_keyring()).try_for_each(&mut visit)
            }
            Form::Apart(apart) => apart.keyrings().try_for_each(&mut visit),
            Form::List(list) => {
                list.leaves().filter(|leaf| leaf.is_keyring()).try_for_each(&mut visit)
            }
        }
    }
}
