//! References that a service holds, by value (`key_get`, `key_put`).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use keyshim_abi::Serial;

use crate::key::KeyIx;
use crate::service::KeyService;

/// A reference to a key, which keeps it alive, linked or not. Cloning takes another
/// (`key_get`), dropping gives it back (`key_put`); may be done anywhere, for the key is
/// destroyed with the next call or collection at the earliest.
#[derive(Clone)]
pub struct HeldKey(Arc<Hold>);

impl HeldKey {
    /// The key's serial (`key_serial`).
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.0.serial
    }
}

impl fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldKey({:?})", self.serial())
    }
}

struct Hold {
    key: KeyIx,
    serial: Serial,
    dropped: Arc<AtomicBool>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Release);
    }
}

/// The keys that services hold; each counts as one use, however many references.
#[derive(Default)]
pub(crate) struct Held {
    keys: BTreeMap<KeyIx, Weak<Hold>>,
    /// Some key may have lost its last reference.
    dropped: Arc<AtomicBool>,
}

impl Held {
    pub(crate) fn each(&self) -> impl Iterator<Item = KeyIx> {
        self.keys.keys().copied()
    }
}

impl KeyService {
    /// A reference to a key.
    pub(crate) fn held_key(&mut self, key: KeyIx) -> HeldKey {
        if let Some(hold) = self.held.keys.get(&key).and_then(Weak::upgrade) {
            return HeldKey(hold);
        }
        let serial = self.store.get(key).serial;
        let hold = Arc::new(Hold { key, serial, dropped: Arc::clone(&self.held.dropped) });
        if self.held.keys.insert(key, Arc::downgrade(&hold)).is_none() {
            self.hold(key);
        }
        HeldKey(hold)
    }

    /// The key of a reference; none for one that another service gave.
    pub(crate) fn key_of(&self, held: &HeldKey) -> Option<KeyIx> {
        Arc::ptr_eq(&held.0.dropped, &self.held.dropped).then_some(held.0.key)
    }

    /// Gives back the uses of keys that nobody holds any more.
    pub(crate) fn put_dropped(&mut self) {
        if !self.held.dropped.load(Ordering::Acquire) {
            return;
        }
        self.held.dropped.store(false, Ordering::Relaxed);
        let gone = self.held.keys.iter().filter(|(_, hold)| hold.strong_count() == 0);
        let gone: Vec<KeyIx> = gone.map(|(&key, _)| key).collect();
        for key in gone {
            self.held.keys.remove(&key);
            self.put(key);
        }
    }
}
