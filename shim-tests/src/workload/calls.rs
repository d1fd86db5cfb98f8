//! The next call: operations by weight.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Workload;
use crate::step::{Arg, Call, IdArg, KeyArg, Start, Text};

/// Names and weights; a weight is how often of a hundred or so.
const WEIGHTS: [(&str, u32); 29] = [
    ("add_key", 90),
    ("request_key", 20),
    ("get_keyring_id", 12),
    ("join_session_keyring", 6),
    ("update", 10),
    ("revoke", 5),
    ("chown", 8),
    ("setperm", 24),
    ("describe", 15),
    ("clear", 3),
    ("link", 30),
    ("unlink", 16),
    ("search", 22),
    ("read", 30),
    ("instantiate", 1),
    ("negate", 1),
    ("set_reqkey_keyring", 2),
    ("set_timeout", 10),
    ("assume_authority", 1),
    ("get_security", 2),
    ("session_to_parent", 3),
    ("reject", 1),
    ("instantiate_iov", 1),
    ("invalidate", 5),
    ("get_persistent", 4),
    ("restrict_keyring", 3),
    ("move", 20),
    ("keyctl", 1),
    ("read_null", 2),
];

const SESSION: Arg = Arg::Key(KeyArg::Number(-3));
const PROCESS: Arg = Arg::Key(KeyArg::Number(-2));

impl Workload {
    /// A call that this actor makes next.
    pub(super) fn call(&mut self, actor: &str) -> Call {
        if self.flavour.upcalls && self.rng.random_ratio(1, 10) {
            return Workload::build("request_key", self.string_args(actor, "request_key"));
        }
        let chosen = WEIGHTS.choose_weighted(&mut self.rng, |(_, weight)| *weight);
        let name = chosen.map_or("describe", |(name, _)| name);
        let args = match name {
            "add_key" | "request_key" | "search" | "restrict_keyring" | "join_session_keyring" => {
                self.string_args(actor, name)
            }
            "get_persistent" => vec![self.persistent_user(actor), self.ring(actor)],
            "read" | "describe" | "get_security" => vec![self.key(actor), self.room()],
            "link" => vec![self.key(actor), self.ring(actor)],
            "unlink" => self.key_at_home(actor).into(),
            "move" => self.move_args(actor),
            "clear" => vec![self.ring(actor)],
            "revoke" | "invalidate" => vec![self.victim(actor)],
            "chown" => vec![self.key(actor), self.owner(), self.owner()],
            "setperm" => vec![self.victim(actor), self.mask()],
            "set_timeout" => {
                let timeout_s = *[0, 1, 1, 1, 2, 2, 90, 5000].choose(&mut self.rng).unwrap_or(&1);
                vec![self.victim(actor), Arg::Number(timeout_s)]
            }
            "update" => {
                let like = if self.flavour.big_key_percent > 6 { "big_key" } else { "user" };
                vec![self.key(actor), self.payload(like)]
            }
            "get_keyring_id" => {
                vec![self.ring(actor), Arg::Number(u64::from(self.rng.random::<bool>()))]
            }
            "set_reqkey_keyring" => vec![self.default_destination(actor)],
            "session_to_parent" if self.parent_waits(actor) => {
                return Workload::build("describe", vec![self.key(actor), self.room()]);
            }
            "session_to_parent" => Vec::new(),
            "read_null" => vec![self.key(actor), Arg::Number(0), Arg::Number(0)],
            "keyctl" => self.unknown_operation(),
            _ => self.authority_args(actor, name),
        };
        Workload::build(name, self.spared(actor, args))
    }

    /// Without a session, @s is the user's own; and root's would outlive the history.
    fn spared(&self, actor: &str, mut args: Vec<Arg>) -> Vec<Arg> {
        if self.flavour.start == Start::Bare && self.is_root(actor) {
            for arg in args.iter_mut().filter(|arg| **arg == SESSION) {
                *arg = PROCESS;
            }
        }
        args
    }

    fn string_args(&mut self, actor: &str, name: &str) -> Vec<Arg> {
        match name {
            "add_key" => {
                let (kind, type_name, description) = self.type_and_description();
                vec![type_name, description, self.payload(&kind), self.ring(actor)]
            }
            "request_key" => {
                let (_, type_name, description) = self.type_and_description();
                vec![type_name, description, self.callout(actor), self.destination(actor)]
            }
            "search" => {
                let (_, type_name, description) = self.type_and_description();
                vec![self.ring(actor), type_name, description, self.destination(actor)]
            }
            "restrict_keyring" => {
                let pair = match self.rng.random_range(0..6) {
                    0 => ["user", ""],
                    1 => ["nosuch", "x"],
                    _ => ["", ""],
                };
                let texts = pair.map(|text| match text {
                    "" => Arg::Text(Text::Null),
                    text => Workload::string(text),
                });
                std::iter::once(self.ring(actor)).chain(texts).collect()
            }
            _ => vec![self.session_name()],
        }
    }

    /// Names that hold a user's id are the history's own.
    fn session_name(&mut self) -> Arg {
        match self.rng.random_range(0..8) {
            0..3 => Arg::Text(Text::Null),
            3..5 => Workload::string("n$1x"),
            5 => Workload::string("n$1y"),
            6 => Workload::string("_ses.$1"),
            _ => Arg::Text(
                [Text::Bad, Text::new(""), Text::new(".n")]
                    .choose(&mut self.rng)
                    .cloned()
                    .unwrap_or(Text::Null),
            ),
        }
    }

    fn destination(&mut self, actor: &str) -> Arg {
        match self.rng.random_ratio(1, 3) {
            true => self.ring(actor),
            false => Arg::Key(KeyArg::Number(0)),
        }
    }

    fn persistent_user(&mut self, actor: &str) -> Arg {
        match self.rng.random_ratio(1, 3) && !self.is_root(actor) {
            true => Arg::Id(IdArg::Number(u32::MAX)),
            false => Arg::Id(self.own()),
        }
    }

    fn move_args(&mut self, actor: &str) -> Vec<Arg> {
        let flags = *[0, 0, 0, 1, 1, 2].choose(&mut self.rng).unwrap_or(&0);
        let [key, from] = self.key_at_home(actor);
        vec![key, from, self.ring(actor), Arg::Number(flags)]
    }

    pub(super) fn pieces(&mut self) -> Arg {
        let count = self.rng.random_range(0..4);
        Arg::Pieces((0..count).map(|_| vec![b'p'; self.rng.random_range(0..5)]).collect())
    }

    fn unknown_operation(&mut self) -> Vec<Arg> {
        let operation = *[33, 99, -1i64].choose(&mut self.rng).unwrap_or(&33);
        std::iter::once(operation as u64).chain([0; 4]).map(Arg::Number).collect()
    }

    /// Of who has no authority, as a rule: the checks before it still differ.
    fn authority_args(&mut self, actor: &str, name: &str) -> Vec<Arg> {
        let (key, ring) = (self.key(actor), self.destination(actor));
        let error = *[126u64, 128, 0, 4095, 512].choose(&mut self.rng).unwrap_or(&126);
        match name {
            "instantiate" => vec![key, self.payload("user"), ring],
            "negate" => vec![key, Arg::Number(1), ring],
            "reject" => vec![key, Arg::Number(1), Arg::Number(error), ring],
            "instantiate_iov" => vec![key, self.pieces(), ring],
            _ => vec![match self.rng.random_ratio(1, 3) {
                true => Arg::Key(KeyArg::Number(0)),
                false => key,
            }],
        }
    }
}
