//! All keys of a domain, by place and by serial.

use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use keyshim_abi::Serial;

use crate::entropy::Entropy;
use crate::key::{Key, KeyIx};
use crate::profile::{Serials, UserKeyringsLive};

/// Serials are random or chosen by whoever seeds the domain: they are spread already.
#[derive(Default)]
pub(crate) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(byte));
        }
    }

    fn write_i32(&mut self, serial: i32) {
        self.0 = (serial as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Where the keys are.
pub(crate) struct Store {
    places: Vec<Option<Key>>,
    free: Vec<KeyIx>,
    by_serial: HashMap<Serial, KeyIx, BuildHasherDefault<SerialHasher>>,
    /// What is proposed for the next key where serials are given one after the other.
    next_serial: Serial,
}

impl Store {
    /// Without any key yet. The first two serials are root's where it is there always.
    pub(crate) fn new(user_keyrings: UserKeyringsLive) -> Store {
        let next_serial = match user_keyrings {
            UserKeyringsLive::OnDemand => Serial::FIRST,
            UserKeyringsLive::WithTheUser => Serial::VERY_FIRST,
        };
        Store { places: Vec::new(), free: Vec::new(), by_serial: HashMap::default(), next_serial }
    }
}

fn random_serial(entropy: &mut dyn Entropy) -> Serial {
    loop {
        let raw = (entropy.next_u64() as u32 >> 1) as i32;
        if let Some(serial) = Serial::new(raw).filter(|&serial| serial >= Serial::FIRST) {
            return serial;
        }
    }
}

impl Store {
    pub(crate) fn get(&self, ix: KeyIx) -> &Key {
        match self.places.get(ix.place() as usize) {
            Some(Some(key)) => key,
            // A place is only named by those who count as its users.
            _ => unreachable!("a key in use is in its place"),
        }
    }

    pub(crate) fn get_mut(&mut self, ix: KeyIx) -> &mut Key {
        match self.places.get_mut(ix.place() as usize) {
            Some(Some(key)) => key,
            _ => unreachable!("a key in use is in its place"),
        }
    }

    /// The key of that serial, unless nobody uses it any more.
    pub(crate) fn find(&self, serial: Serial) -> Option<KeyIx> {
        let ix = *self.by_serial.get(&serial)?;
        (self.get(ix).usage > 0).then_some(ix)
    }

    /// A serial that no key has: that proposal, or the next free one (`key_alloc_serial`).
    pub(crate) fn free_serial(&mut self, serials: Serials, entropy: &mut dyn Entropy) -> Serial {
        let mut serial = match serials {
            Serials::Random => random_serial(entropy),
            Serials::Sequential => self.next_serial,
        };
        while self.by_serial.contains_key(&serial) {
            serial = serial.next();
        }
        self.next_serial = serial.next();
        serial
    }

    pub(crate) fn insert(&mut self, key: Key) -> KeyIx {
        let serial = key.serial;
        let ix = match self.free.pop() {
            Some(ix) => {
                self.places[ix.place() as usize] = Some(key);
                ix
            }
            None => {
                self.places.push(Some(key));
                KeyIx::at((self.places.len() - 1) as u32)
            }
        };
        self.by_serial.insert(serial, ix);
        ix
    }

    pub(crate) fn remove(&mut self, ix: KeyIx) -> Option<Key> {
        let key = self.places.get_mut(ix.place() as usize)?.take()?;
        self.by_serial.remove(&key.serial);
        self.free.push(ix);
        Some(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyIx, &Key)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(at, place)| place.as_ref().map(|key| (KeyIx::at(at as u32), key)))
    }

    /// Every key by ascending serial.
    pub(crate) fn by_serial(&self) -> Vec<KeyIx> {
        let mut all: Vec<(Serial, KeyIx)> =
            self.by_serial.iter().map(|(&serial, &ix)| (serial, ix)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, ix)| ix).collect()
    }
}
