//! Keyrings by name, for JOIN_SESSION_KEYRING.

use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use crate::key::{Key, KeyIx};
use crate::store::Store;

/// Keyrings by the names under which JOIN_SESSION_KEYRING finds them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<u64, Vec<KeyIx>, BuildHasherDefault<NameHasher>>);

/// The key is a hash already.
#[derive(Debug, Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Names {
    /// Where dots are reserved, a name that begins with one is not published
    /// (`keyring_publish_name`).
    pub(crate) fn publish(&mut self, store: &Store, ring: KeyIx, reserves_dots: bool) {
        let key = store.get(ring);
        if !reserves_dots || key.description.first() != Some(&b'.') {
            self.0.entry(key.hash.bits()).or_default().push(ring);
        }
    }

    pub(crate) fn forget(&mut self, key: &Key, ring: KeyIx) {
        let hash = key.hash.bits();
        if let Some(rings) = self.0.get_mut(&hash) {
            rings.retain(|&other| other != ring);
            if rings.is_empty() {
                self.0.remove(&hash);
            }
        }
    }

    pub(crate) fn of_hash(&self, hash: u64) -> &[KeyIx] {
        self.0.get(&hash).map_or(&[], Vec::as_slice)
    }
}
