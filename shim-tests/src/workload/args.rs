//! Arguments: mostly sensible, sometimes junk.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Workload;
use crate::step::{Arg, IdArg, KeyArg, Text};
use crate::trace::filler;

/// Users of the model have ids from here on.
pub(super) const MODEL_BASE: u32 = 1_000_000;

pub(super) fn model_id(id: IdArg) -> u32 {
    match id {
        IdArg::Own(n) => MODEL_BASE + u32::from(n),
        IdArg::Number(number) => number,
    }
}

pub(super) fn named(name: &str) -> KeyArg {
    KeyArg::Named(name.to_owned())
}

/// Masks that matter: everything, the defaults, one class alone, the holes that the
/// rules of possession turn on.
const MASKS: [u64; 26] = [
    0x3f3f_3f3f,
    0x3f3f_3f3f,
    0x3f3f_3f3f,
    0x3f3f_3f3f,
    0x3f3f_3f3f,
    0x3f3f_3f3f,
    0x3f01_0000,
    0x3f3f_0000,
    0x3f3f_0000,
    0x3f00_0000,
    0x1f3f_0000,
    0x0000_0000,
    0x0100_0000,
    0x0800_0000,
    0x3700_0000,
    0x3f00_003f,
    0x003f_0000,
    0x0000_3f00,
    0x0000_003f,
    0x3f01_3f00,
    0x3f1b_0000,
    0x3f3f_3f00,
    0x3b3f_0000,
    0x3f08_0808,
    0x2f2f_2f2f,
    0xffff_ffff,
];

impl Workload {
    fn junk(&mut self) -> bool {
        self.rng.random_ratio(1, 40)
    }

    /// A key of the history: mostly of late, mostly of the actor's own making.
    fn recent(&mut self, actor: &str, keyring: Option<bool>) -> Option<KeyArg> {
        let fit = |made: &&super::Made| keyring.is_none_or(|wanted| made.keyring == wanted);
        let mut found: Vec<&super::Made> = self.made.iter().filter(fit).collect();
        if self.rng.random_ratio(3, 5) && found.iter().any(|made| made.maker == actor) {
            found.retain(|made| made.maker == actor);
        }
        let from = match self.rng.random_ratio(2, 3) {
            true => found.len().saturating_sub(8),
            false => 0,
        };
        found[from..].choose(&mut self.rng).map(|made| named(&made.name))
    }

    fn special(&mut self, actor: &str) -> KeyArg {
        let root = self.is_root(actor);
        KeyArg::Number(match self.rng.random_range(0..40) {
            0..22 => -3,
            22..27 => -2,
            27..32 => -1,
            32..36 if !root => -4,
            36..38 if !root => -5,
            38 => *[-6, -7, -8, -9, 0].choose(&mut self.rng).unwrap_or(&0),
            _ => -3,
        })
    }

    /// A keyring, most of the time.
    pub(super) fn ring(&mut self, actor: &str) -> Arg {
        if self.junk() {
            return self.junk_key(actor);
        }
        if self.flavour.wide && self.rng.random_ratio(3, 4) {
            let first = self.made.iter().find(|made| made.keyring).map(|made| made.name.clone());
            return Arg::Key(first.map_or(KeyArg::Number(-3), |name| named(&name)));
        }
        let made = if self.rng.random_ratio(3, 5) { self.recent(actor, Some(true)) } else { None };
        Arg::Key(made.unwrap_or_else(|| self.special(actor)))
    }

    /// Any key.
    pub(super) fn key(&mut self, actor: &str) -> Arg {
        if self.junk() {
            return self.junk_key(actor);
        }
        match self.rng.random_range(0..10) {
            0 => Arg::Key(self.special(actor)),
            1..4 => self.ring(actor),
            _ => Arg::Key(self.recent(actor, None).unwrap_or(KeyArg::Number(-3))),
        }
    }

    /// A key and a keyring that is likely to hold it.
    pub(super) fn key_at_home(&mut self, actor: &str) -> [Arg; 2] {
        let own = |made: &&super::Made| made.maker == actor && made.home.is_some();
        let found: Vec<&super::Made> = self.made.iter().filter(own).collect();
        let is_wanted = self.rng.random_ratio(3, 5);
        let made = is_wanted.then(|| found.choose(&mut self.rng)).flatten();
        match made.and_then(|made| Some((&made.name, made.home.clone()?))) {
            Some((name, home)) => [Arg::Key(named(name)), home],
            None => [self.key(actor), self.ring(actor)],
        }
    }

    /// A key to do harm to: the special keyrings seldom, or little else would work
    /// afterwards.
    pub(super) fn victim(&mut self, actor: &str) -> Arg {
        match self.rng.random_ratio(1, 10) {
            true => self.key(actor),
            false => Arg::Key(self.recent(actor, None).unwrap_or(KeyArg::Number(-1))),
        }
    }

    fn junk_key(&mut self, actor: &str) -> Arg {
        let junk = [0, -6, -7, -8, -9, i32::MIN, i32::MAX, 1, 2];
        let any = self.recent(actor, None).unwrap_or(KeyArg::Number(0));
        match self.rng.random_ratio(1, 2) {
            true => Arg::Key(any),
            false => Arg::Key(KeyArg::Number(*junk.choose(&mut self.rng).unwrap_or(&0))),
        }
    }

    /// A type, and a description that it may like.
    pub(super) fn type_and_description(&mut self) -> (String, Arg, Arg) {
        if self.junk() {
            let name = self.junk_type();
            let description = self.description("d");
            return (String::new(), Arg::Text(name), description);
        }
        let ring_weight = if self.flavour.deep { 60 } else { 28 };
        let roll = self.rng.random_range(0..100);
        let (name, stem) = if roll < ring_weight {
            ("keyring", "ring")
        } else if (94 - self.flavour.big_key_percent..94).contains(&roll) {
            ("big_key", "b")
        } else if roll < 88 {
            ("user", "d")
        } else {
            ("logon", "l:")
        };
        (name.to_owned(), Workload::string(name), self.description(stem))
    }

    fn junk_type(&mut self) -> Text {
        match self.rng.random_range(0..8) {
            0 => Text::Null,
            1 => Text::Bad,
            2 => Text::new(""),
            3 => Text::new(".dot"),
            4 => Text::Bytes(filler(31)),
            5 => Text::Bytes(filler(32)),
            6 => Text::new("keyrings"),
            _ => Text::new("nosuch"),
        }
    }

    fn description(&mut self, stem: &str) -> Arg {
        if self.rng.random_ratio(1, 30) {
            return Arg::Text(match self.rng.random_range(0..8) {
                0 => Text::Null,
                1 => Text::Bad,
                2 => Text::new(""),
                3 => Text::new(".hidden"),
                4 => Text::new(":l"),
                5 => Text::Bytes(filler(4095)),
                6 => Text::Bytes(filler(4096)),
                _ => Text::new("odd\tname"),
            });
        }
        let variety = if self.flavour.wide { 60 } else { 7 };
        Workload::string(&format!("{stem}{}", self.rng.random_range(0..variety)))
    }

    /// A payload for a type.
    pub(super) fn payload(&mut self, type_name: &str) -> Arg {
        if type_name == "keyring" && !self.junk() {
            return Arg::Text(if self.rng.random() { Text::Null } else { Text::new("") });
        }
        if self.rng.random_ratio(1, 25) {
            return Arg::Text(match self.rng.random_range(0..7) {
                0 => Text::Null,
                1 => Text::Bad,
                2 => Text::new(""),
                3 => Text::Bytes(filler(32767)),
                4 => Text::Bytes(filler(32768)),
                5 => Text::Bytes(filler(4097)),
                _ => Text::Bytes(filler(1024 * 1024)),
            });
        }
        if type_name == "big_key" && self.rng.random_ratio(1, 2) {
            return Arg::Text(Text::Bytes(filler(self.big_len())));
        }
        let len = match self.flavour.heavy {
            true => self.rng.random_range(500..7000),
            false => self.rng.random_range(1..40),
        };
        Arg::Text(Text::Bytes(filler(len)))
    }

    /// Lengths at which a `big_key` changes its ways. More than 65,535 bytes would let
    /// root's quota leak on the kernel (COMPATIBILITY.md).
    fn big_len(&mut self) -> usize {
        match self.rng.random_range(0..8) {
            0 => self.rng.random_range(500..1500),
            1 => self.rng.random_range(4000..4200),
            2 => self.rng.random_range(19_800..20_000),
            3 => self.rng.random_range(32_760..32_775),
            4 => 65_535,
            _ => self.rng.random_range(1..10_000),
        }
    }

    /// Room for an answer: mostly enough.
    pub(super) fn room(&mut self) -> Arg {
        Arg::Room(match self.rng.random_range(0..16) {
            0 => Some(0),
            1 => Some(self.rng.random_range(1..9)),
            2 => Some(self.rng.random_range(9..60)),
            3 => Some(4 * self.rng.random_range(1..6)),
            4 => Some(4096),
            5 => None,
            6 => Some(65_535),
            _ => Some(1024),
        })
    }

    /// A permission mask.
    pub(super) fn mask(&mut self) -> Arg {
        match self.rng.random_ratio(1, 5) {
            true => Arg::Number(u64::from(self.rng.random::<u32>() & 0x3f3f_3f3f)),
            false => Arg::Number(*MASKS.choose(&mut self.rng).unwrap_or(&0)),
        }
    }

    /// An owner or group to be.
    pub(super) fn owner(&mut self) -> Arg {
        Arg::Id(match self.rng.random_range(0..8) {
            0..3 => IdArg::Number(u32::MAX),
            _ => self.own(),
        })
    }
}
