//! The same few keys in both universes, and the calls that are made on them.

use std::ffi::CString;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use keyshim_abi::Errno;

use crate::measure::timed;
use crate::road::Road;

/// Keys in the keyring that is searched.
pub(crate) const RING_KEYS: u32 = 10;
/// Bytes of every payload.
pub(crate) const PAYLOAD: &[u8; 32] = b"thirty-two bytes of key material";
/// How long to wait for the kernel to give back the quota of keys that are gone.
const QUOTA_PAUSE: Duration = Duration::from_millis(10);
/// How often to wait that long.
const QUOTA_PAUSES_MAX: u32 = 500;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Search,
    Describe,
    Update,
    Add,
    Link,
}

impl Operation {
    /// Each, with what the table calls it.
    pub(crate) const ALL: [(Operation, &str); 6] = [
        (Operation::Read, "read"),
        (Operation::Search, "search"),
        (Operation::Describe, "describe"),
        (Operation::Update, "update"),
        (Operation::Add, "add, new key"),
        (Operation::Link, "link"),
    ];
}

/// A session keyring of our own, which goes with this process, and keyrings in it.
pub(crate) struct Fixture {
    road: Road,
    session: i64,
    ring: i64,
    /// Where keys are added and linked, otherwise empty.
    spare: i64,
    target_name: CString,
    target: i64,
    added: u64,
}

/// What a call returned, or what it was refused with.
fn answer(value: i64) -> Result<i64, Errno> {
    match i32::try_from(value).ok().and_then(i32::checked_neg).and_then(Errno::new) {
        Some(errno) => Err(errno),
        None => Ok(value),
    }
}

fn expect(what: &str, value: i64, as_it_must: impl FnOnce(i64) -> bool) -> Result<()> {
    match answer(value) {
        Ok(value) if as_it_must(value) => Ok(()),
        Ok(value) => bail!("{what} returned {value}"),
        Err(errno) => bail!("{what} was refused: {errno}"),
    }
}

/// The name of the key of that number: 13 bytes for each.
pub(crate) fn key_name(number: u32) -> String {
    format!("bench:{number:07}")
}

impl Fixture {
    /// Makes the keys; the error is the universe's.
    pub(crate) fn new(road: Road) -> Result<Fixture, Errno> {
        let session = answer(road.join_session_keyring())?;
        let ring = answer(road.add_key(c"keyring", c"bench:ring", &[], session))?;
        let spare = answer(road.add_key(c"keyring", c"bench:spare", &[], session))?;
        let (mut target, mut target_name) = (0, CString::default());
        for number in 0..RING_KEYS {
            target_name = CString::new(key_name(number)).unwrap_or_default();
            target = answer(road.add_key(c"user", &target_name, PAYLOAD, ring))?;
        }
        Ok(Fixture { road, session, ring, spare, target_name, target, added: 0 })
    }

    /// True when this fixture's key is one of the other road's universe too.
    pub(crate) fn is_seen_by(&self, other: Road) -> bool {
        answer(other.describe(self.target, &mut [])) != Err(Errno::ENOKEY)
    }

    /// One call, in nanoseconds; what it changed is put back.
    pub(crate) fn call(&mut self, operation: Operation) -> Result<u64> {
        match operation {
            Operation::Read => self.read(),
            Operation::Search => self.search(),
            Operation::Describe => self.describe(),
            Operation::Update => self.update(),
            Operation::Add => self.add(),
            Operation::Link => self.link(),
        }
    }

    fn read(&self) -> Result<u64> {
        let mut payload = [0; 64];
        let (value, took_ns) = timed(|| self.road.read(self.target, &mut payload));
        expect("READ", value, |len| len == 32 && payload.starts_with(PAYLOAD))?;
        Ok(took_ns)
    }

    fn search(&self) -> Result<u64> {
        let (value, took_ns) =
            timed(|| self.road.search(self.ring, c"user", self.target_name.as_c_str()));
        expect("SEARCH", value, |found| found == self.target)?;
        Ok(took_ns)
    }

    fn describe(&self) -> Result<u64> {
        let mut text = [0; 128];
        let (value, took_ns) = timed(|| self.road.describe(self.target, &mut text));
        expect("DESCRIBE", value, |_| text.starts_with(b"user;"))?;
        Ok(took_ns)
    }

    fn update(&self) -> Result<u64> {
        let (value, took_ns) = timed(|| self.road.update(self.target, PAYLOAD));
        expect("UPDATE", value, |value| value == 0)?;
        Ok(took_ns)
    }

    /// The kernel gives back quota some time after a key is gone, and those who are
    /// not root have little of it.
    fn add(&mut self) -> Result<u64> {
        self.added += 1;
        let name = CString::new(format!("bench:new:{:010}", self.added))?;
        for _ in 0..QUOTA_PAUSES_MAX {
            let (value, took_ns) = timed(|| self.road.add_key(c"user", &name, PAYLOAD, self.spare));
            if answer(value) == Err(Errno::EDQUOT) {
                sleep(QUOTA_PAUSE);
                continue;
            }
            expect("add_key", value, |serial| serial > 0)?;
            expect("UNLINK", self.road.unlink(value, self.spare), |value| value == 0)?;
            return Ok(took_ns);
        }
        bail!("the user's key quota stays used up: see /proc/key-users")
    }

    fn link(&self) -> Result<u64> {
        let (value, took_ns) = timed(|| self.road.link(self.target, self.spare));
        expect("LINK", value, |value| value == 0)?;
        expect("UNLINK", self.road.unlink(self.target, self.spare), |value| value == 0)?;
        Ok(took_ns)
    }

    /// Empties the session keyring; the process takes that along when it ends.
    pub(crate) fn end(self) -> Result<()> {
        for keyring in [self.ring, self.spare] {
            expect("UNLINK", self.road.unlink(keyring, self.session), |value| value == 0)?;
        }
        Ok(())
    }
}
