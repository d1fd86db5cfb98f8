//! The core alone: does a call cost more in a keyring of a million keys?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keyshim_abi::caller::{Caller, Gid, Ids, NamespaceOf, TaskId, Uid, Unprivileged};
use keyshim_abi::procfs::Knob;
use keyshim_abi::{KeyId, Payload, Request};
use keyshim_keys::{
    CallId, Config, KeyService, Now, Outcome, Profile, SeededEntropy, TaskEvent, Upcalls,
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{PAYLOAD, RING_KEYS, key_name};
use crate::measure::{Subject, take_turns, timed};
use crate::table::{Column, Row, Table};

/// Keys in the great keyring.
const MANY_KEYS: u32 = 1_000_000;
/// Sixths of the time that filling it may take.
const FILL_SIXTHS: u32 = 5;
const SEED: u64 = 1;
const TASK: TaskId = TaskId(1);
const ROOT: Ids = Ids::all(Uid(0), Gid(0));
const NOW: Now = Now(1_795_000_000);
/// As much quota as a knob can give.
const NO_LIMIT: &[u8] = b"2147483647";

/// A service with one keyring of that many keys.
struct Universe {
    service: KeyService,
    random: ChaCha8Rng,
    session: KeyId,
    ring: KeyId,
    keys: u32,
}

impl Universe {
    fn new() -> Result<Universe> {
        let random = ChaCha8Rng::seed_from_u64(SEED);
        let entropy = Box::new(SeededEntropy::new(SEED));
        let service =
            KeyService::new(Config { entropy, upcalls: Upcalls::Off, profile: Profile::LINUX_6 });
        let none = KeyId::from_register(0);
        let mut universe = Universe { service, random, session: none, ring: none, keys: 0 };
        universe.service.task_event(NOW, TaskEvent::Appeared { task: TASK, ids: ROOT });
        for knob in [Knob::RootMaxkeys, Knob::RootMaxbytes] {
            let written = universe.service.knob_write(knob, NO_LIMIT);
            written.map_err(|errno| anyhow::anyhow!("{}: {errno}", knob.name()))?;
        }
        universe.session = universe.call(&Request::JoinSessionKeyring { name: None })?;
        universe.ring = universe.add(b"keyring", b"bench:ring", b"", universe.session)?.0;
        Ok(universe)
    }

    fn call(&mut self, request: &Request<'_>) -> Result<KeyId> {
        let caller = Caller {
            task: TASK,
            tid: 1,
            ids: ROOT,
            namespace: NamespaceOf::OUTERMOST,
            parent: None,
            privileges: &Unprivileged,
        };
        match self.service.submit(NOW, CallId(0), &caller, request, &mut Vec::new()) {
            Outcome::Done(Ok(value)) => Ok(KeyId::from_register(value.into())),
            Outcome::Done(Err(errno)) => bail!("the core refused {request:?}: {errno}"),
            Outcome::Waiting => bail!("{request:?} waits"),
        }
    }

    /// The new key, and the nanoseconds that it took.
    fn add(
        &mut self,
        type_name: &[u8],
        name: &[u8],
        payload: &[u8],
        keyring: KeyId,
    ) -> Result<(KeyId, u64)> {
        let payload = Payload::Carried(payload);
        let type_name = Ok(type_name);
        let request = Request::AddKey { type_name, description: Some(Ok(name)), payload, keyring };
        let (answer, took_ns) = timed(|| self.call(&request));
        Ok((answer?, took_ns))
    }

    /// Adds keys until there are that many; false when the time is over before.
    fn fill(&mut self, keys: u32, until: Instant) -> Result<bool> {
        while self.keys < keys {
            self.add(b"user", key_name(self.keys).as_bytes(), PAYLOAD, self.ring)?;
            self.keys += 1;
            if self.keys % 1024 == 0 && Instant::now() > until {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Nanoseconds of a search for any of the keys.
    fn search(&mut self) -> Result<u64> {
        let name = key_name(self.random.random_range(0..self.keys));
        let request = Request::Search {
            keyring: self.ring,
            type_name: Ok(b"user"),
            description: Ok(name.as_bytes()),
            destination: KeyId::from_register(0),
        };
        let (found, took_ns) = timed(|| self.call(&request));
        found?;
        Ok(took_ns)
    }

    /// Nanoseconds of adding a key that was not there, which is taken out again.
    fn add_and_unlink(&mut self) -> Result<u64> {
        let name = format!("bench:new:{:010}", self.random.next_u32());
        let (key, took_ns) = self.add(b"user", name.as_bytes(), PAYLOAD, self.ring)?;
        self.call(&Request::Unlink { key, keyring: self.ring })?;
        Ok(took_ns)
    }
}

type Call = fn(&mut Universe) -> Result<u64>;

/// Search and add in a small and in a great keyring, within about that time.
pub(crate) fn measure(time: Duration) -> Result<Table> {
    let began = Instant::now();
    let mut small = Universe::new()?;
    let mut great = Universe::new()?;
    small.fill(RING_KEYS, began + time)?;
    let is_full =
        great.fill(MANY_KEYS, began + time * FILL_SIXTHS / 6).context("filling the keyring")?;
    let skipped = (!is_full).then(|| {
        format!("only {} keys were made in the time for it: raise KEYSHIM_BENCH_MS", great.keys)
    });
    let columns =
        vec![Column::there("10 keys"), Column { name: "1,000,000 keys".to_owned(), skipped }];
    let mut table = Table::new("growth: the core alone, in one keyring", columns, &[(1, 0)]);
    let calls: [(&str, Call); 2] =
        [("search", Universe::search), ("add, new key", Universe::add_and_unlink)];
    let share = time.saturating_sub(began.elapsed()) / 2;
    for (name, call) in calls {
        let of_great: Subject<'_> = Box::new(|| call(&mut great));
        let mut subjects: [Option<Subject<'_>>; 2] =
            [Some(Box::new(|| call(&mut small))), is_full.then_some(of_great)];
        let times = take_turns(&mut subjects, share)?;
        table.rows.push(Row::new(name, times, &[(1, 0)]));
    }
    Ok(table)
}
