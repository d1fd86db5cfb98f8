//! The links of one keyring, in the order in which Linux keeps them.
//!
//! The kernel holds them in a radix tree of sixteen-way nodes over a hash of type
//! and description (`lib/assoc_array.c`). Its shape shows: READ lists a ring, and
//! a search visits nested rings, in slot order. While a ring has at most sixteen
//! links, all of them lie in the root, and the order depends on history alone: the
//! first link of an empty ring takes slot 0, each later one the *last* free slot.
//! Larger rings split by the hash, whose secret differs at each boot, so that no
//! program can count on their order. This is the same tree with the same rules;
//! where the kernel shortens a path by a shortcut, here stands a chain of nodes,
//! which lists the same.

#[cfg(test)]
mod tests;
mod tree;

use core::ops::ControlFlow;

use alloc::boxed::Box;

use self::tree::{Leaf, Node, Slot};
use crate::key::KeyIx;

/// Links up to which the order of a ring depends on its history alone.
pub(crate) const ORDERED_LINKS_MAX: usize = 16;

/// The hash of a type and a description, placed so that keyrings have a lowest
/// hexadecimal digit of zero and nothing else has (`hash_key_type_and_desc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHash(u64);

impl IndexHash {
    pub(crate) fn new(hash: u64, is_keyring: bool) -> IndexHash {
        let low = hash & 15;
        IndexHash(match (is_keyring, low) {
            (true, 1..) => hash.wrapping_add(hash << 4) & !15,
            (false, 0) => hash | (hash >> 60) | 1,
            _ => hash,
        })
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn is_keyring(self) -> bool {
        self.0 & 15 == 0
    }
}

/// Why a link could not be stored: seventeen keys with one and the same 64-bit
/// hash, which only somebody who knows the secret could arrange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashExhausted;

/// The links of one keyring; only this crate can look inside.
#[derive(Default)]
pub struct Links {
    root: Option<Box<Node>>,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.leaves)
    }

    /// The linked key with that hash for which `equal` holds.
    pub(crate) fn find(&self, hash: IndexHash, equal: impl Fn(KeyIx) -> bool) -> Option<KeyIx> {
        self.root.as_ref()?.find(hash.0, &equal)
    }

    /// Links a key in place of an equal one, which is returned, or anew.
    pub(crate) fn insert(
        &mut self,
        hash: IndexHash,
        key: KeyIx,
        equal: impl Fn(KeyIx) -> bool,
    ) -> Result<Option<KeyIx>, HashExhausted> {
        let leaf = Leaf::new(hash.0, key);
        match &mut self.root {
            Some(root) => root.insert(leaf, 0, &equal),
            None => {
                self.root = Some(Node::with_first(leaf));
                Ok(None)
            }
        }
    }

    /// Removes the link for which `equal` holds (UNLINK, MOVE, displacement).
    pub(crate) fn remove(
        &mut self,
        hash: IndexHash,
        equal: impl Fn(KeyIx) -> bool,
    ) -> Option<KeyIx> {
        let root = self.root.as_mut()?;
        let removed = root.remove(hash.0, 0, &equal)?;
        if root.leaves == 0 {
            self.root = None;
        }
        Some(removed)
    }

    /// Removes a link as the garbage collector does: an emptied root stays, so that
    /// the next link does not take slot 0 (`assoc_array_gc`).
    pub(crate) fn collect(&mut self, hash: IndexHash, key: KeyIx) -> bool {
        self.root.as_mut().is_some_and(|root| root.collect(hash.0, 0, key))
    }

    /// Drops every link, each after `put` has heard of it.
    pub(crate) fn clear(&mut self, mut put: impl FnMut(KeyIx)) {
        self.each(&mut put);
        self.root = None;
    }

    /// Every linked key, in the order of READ (`assoc_array_iterate`).
    pub(crate) fn each(&self, visit: &mut dyn FnMut(KeyIx)) {
        if let Some(root) = &self.root {
            root.each(visit);
        }
    }

    /// The linked keyrings in the order of a search, until `visit` breaks off
    /// (`search_nested_keyrings`).
    pub(crate) fn each_keyring<B>(
        &self,
        visit: &mut dyn FnMut(KeyIx) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(root) = &self.root else { return ControlFlow::Continue(()) };
        // Once slot 0 of the root is a node, every keyring lies behind it; until
        // then none lies behind any other.
        if let Slot::Node(first) = &root.slots[0] {
            return first.each_keyring(visit);
        }
        for slot in &root.slots {
            if let Slot::Leaf(leaf) = slot
                && IndexHash(leaf.hash()).is_keyring()
            {
                visit(leaf.key)?;
            }
        }
        ControlFlow::Continue(())
    }
}
