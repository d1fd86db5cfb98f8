//! What was seen, in words that are the same in every world.
//!
//! A world hands out serials and user ids of its own. [`Naming`] turns the names of
//! a history into them and back: a serial is called after the step that bound it
//! first, or `x1`, `x2`, ... by first appearance; user ids of the history are
//! called `$1` to `$9`.

use std::collections::HashMap;

use keyshim_abi::Errno;
use keyshim_abi::marshal::Entry;

use crate::step::{Action, Arg, Call, IdArg, KeyArg, Step, Text};
use crate::verb::{Gives, Kind};
use crate::wire::{Progress, Register, Report, UNTOUCHED};

mod proc;
mod show;

pub use show::{filler, filler_len};

/// Room for an answer when a history does not say, in bytes.
pub const ROOM_DEFAULT: u32 = 1024;
/// How many users a history may have.
pub const USERS_MAX: u32 = 9;
/// A smaller number in a text is a count rather than a serial: old kernels begin with 3.
const SERIAL_IN_TEXT_MIN: u32 = 1000;

struct Name {
    label: String,
    keyring: bool,
    /// The same for keys of one type and description, where the history says them.
    likeness: Option<Likeness>,
}

/// Stands for a type and a description.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Likeness(Vec<u8>, Vec<u8>);

impl Likeness {
    /// True when the type is `keyring`.
    #[must_use]
    pub fn is_keyring(&self) -> bool {
        self.0 == b"keyring"
    }
}

/// Names of one history in one world.
pub struct Naming {
    base: u32,
    names: HashMap<i32, Name>,
    bound: HashMap<String, i32>,
    unbound_count: usize,
}

impl Naming {
    /// The history's user n has the id `base + n`.
    #[must_use]
    pub fn new(base: u32) -> Naming {
        Naming { base, names: HashMap::new(), bound: HashMap::new(), unbound_count: 0 }
    }

    /// The number of an id; as a group, too.
    #[must_use]
    pub fn id(&self, id: IdArg) -> u32 {
        match id {
            IdArg::Own(n) => self.base + u32::from(n),
            IdArg::Number(number) => number,
        }
    }

    /// The serial that a name stands for here.
    #[must_use]
    pub fn serial(&self, name: &str) -> Option<i32> {
        self.bound.get(name).copied()
    }

    /// The label of a serial, if it has appeared.
    #[must_use]
    pub fn label(&self, serial: i32) -> Option<&str> {
        self.names.get(&serial).map(|name| name.label.as_str())
    }

    /// The registers of a call, or `None` when it names a key that was never made.
    #[must_use]
    pub fn registers(&self, call: &Call) -> Option<(u8, Vec<Register>)> {
        let mut registers = Vec::new();
        let entry = match call.verb.entry {
            Entry::AddKey => 0,
            Entry::RequestKey => 1,
            Entry::Keyctl => 2,
        };
        if call.verb.entry == Entry::Keyctl && call.verb.operation != u32::MAX {
            registers.push(Register::Value(u64::from(call.verb.operation)));
        }
        for (kind, arg) in call.verb.args.iter().zip(&call.args) {
            self.push_registers(*kind, arg, &mut registers)?;
        }
        Some((entry, registers))
    }

    fn push_registers(&self, kind: Kind, arg: &Arg, into: &mut Vec<Register>) -> Option<()> {
        match arg {
            Arg::Key(KeyArg::Number(number)) => into.push(Register::Value(*number as u64)),
            Arg::Key(KeyArg::Named(name)) => {
                into.push(Register::Value(self.serial(name)? as u64));
            }
            Arg::Text(text) => self.push_text(kind, text, into),
            Arg::Room(Some(len)) => {
                into.push(Register::Out(*len));
                into.push(Register::Value(u64::from(*len)));
            }
            Arg::Room(None) => into.extend([Register::Bad, Register::Value(64)]),
            Arg::Id(id) => into.push(Register::Value(u64::from(self.id(*id)))),
            Arg::Pieces(pieces) => {
                into.push(Register::Scattered(pieces.clone()));
                into.push(Register::Value(pieces.len() as u64));
            }
            Arg::Number(number) => into.push(Register::Value(*number)),
        }
        Some(())
    }

    fn push_text(&self, kind: Kind, text: &Text, into: &mut Vec<Register>) {
        let (register, len) = match text {
            Text::Null => (Register::Value(0), 0),
            Text::Bad => (Register::Bad, 8),
            Text::Bytes(bytes) => {
                let mut bytes = self.with_users(bytes);
                let len = bytes.len() as u64;
                if kind == Kind::Text {
                    bytes.push(0);
                }
                (Register::In(bytes), len)
            }
        };
        into.push(register);
        if kind == Kind::Payload {
            into.push(Register::Value(len));
        }
    }

    /// `$1` to `$9` replaced by the users' ids.
    fn with_users(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match rest.first() {
                Some(digit @ b'1'..=b'9') if byte == b'$' => {
                    out.extend((self.base + u32::from(digit - b'0')).to_string().bytes());
                    rest = &rest[1..];
                }
                _ => out.push(byte),
            }
        }
        out
    }

    /// The name of a serial that has just been seen, which is new or not.
    fn name(
        &mut self,
        serial: i32,
        bind: Option<&str>,
        keyring: bool,
        likeness: Option<Likeness>,
    ) -> String {
        if let Some(bind) = bind {
            self.bound.insert(bind.to_owned(), serial);
        }
        if let Some(name) = self.names.get_mut(&serial) {
            name.keyring |= keyring;
            return name.label.clone();
        }
        let label = match bind {
            Some(bind) => bind.to_owned(),
            None => {
                self.unbound_count += 1;
                format!("x{}", self.unbound_count)
            }
        };
        self.names.insert(serial, Name { label: label.clone(), keyring, likeness });
        label
    }

    /// What a step gave, in words.
    pub fn outcome(&mut self, step: &Step, report: &Report) -> String {
        match &report.progress {
            Progress::Done => {}
            Progress::Waits => return "waits".to_owned(),
            Progress::Upcall(helper, serial) => {
                let likeness = match &step.action {
                    Action::Call(call) => likeness_of(call, 0),
                    _ => None,
                };
                self.name(*serial, step.bind.as_deref(), false, likeness);
                return format!("upcall {helper}");
            }
        }
        if report.ret < 0 {
            return i32::try_from(-report.ret)
                .ok()
                .and_then(Errno::new)
                .map_or_else(|| format!("error {}", report.ret), |errno| errno.to_string());
        }
        match &step.action {
            Action::Call(call) => self.success(call, step.bind.as_deref(), report),
            Action::ProcKeys => self.proc_keys(&report.out),
            Action::KeyUsers => self.key_users(&report.out),
            Action::Status => self.status(&report.out),
            Action::Arguments => self.arguments(&report.out),
            _ => "0".to_owned(),
        }
    }

    fn success(&mut self, call: &Call, bind: Option<&str>, report: &Report) -> String {
        let ret = report.ret;
        match call.verb.gives {
            Gives::Number => ret.to_string(),
            Gives::KeyOfType(index) => {
                let keyring = call.args.get(index) == Some(&Arg::Text(Text::new("keyring")));
                let likeness = likeness_of(call, index);
                self.name(ret as i32, bind, keyring, likeness)
            }
            Gives::Keyring | Gives::Authority if ret == 0 => "0".to_owned(),
            Gives::Authority => self.name(ret as i32, bind, false, None),
            Gives::Keyring => self.name(ret as i32, bind, true, None),
            Gives::Label => match report.out.get(..ret as usize) {
                Some([text @ .., 0]) => self.description(&String::from_utf8_lossy(text)),
                _ => show::short(report),
            },
            Gives::Content if self.is_keyring(call.args.first()) => self.members(report),
            Gives::Content | Gives::Bytes => self.bytes(report),
        }
    }

    /// True when the argument is known to name a keyring.
    #[must_use]
    pub fn is_keyring(&self, key: Option<&Arg>) -> bool {
        match key {
            Some(Arg::Key(KeyArg::Number(number))) => (-6..=-1).contains(number) || *number == -8,
            Some(Arg::Key(KeyArg::Named(name))) => self
                .serial(name)
                .and_then(|serial| self.names.get(&serial))
                .is_some_and(|name| name.keyring),
            _ => false,
        }
    }

    /// The type and description of the key that an argument names, if known.
    #[must_use]
    pub fn likeness(&self, key: Option<&Arg>) -> Option<Likeness> {
        let Some(Arg::Key(KeyArg::Named(name))) = key else { return None };
        self.names.get(&self.serial(name)?)?.likeness.clone()
    }

    fn bytes(&self, report: &Report) -> String {
        match report.out.get(..report.ret as usize) {
            Some(bytes) if report.out[bytes.len()..].iter().all(|&b| b == UNTOUCHED) => {
                self.users_back(&show::bytes(bytes))
            }
            _ => show::short(report),
        }
    }

    /// A keyring's serials in their order; how many there are when the buffer was
    /// too short for them.
    fn members(&mut self, report: &Report) -> String {
        let held = (report.ret as usize).min(report.out.len());
        let mut labels = Vec::new();
        for serial in report.out[..held].chunks_exact(4) {
            let serial = i32::from_ne_bytes([serial[0], serial[1], serial[2], serial[3]]);
            if serial == i32::from_ne_bytes([UNTOUCHED; 4]) {
                break;
            }
            labels.push(self.name(serial, None, false, None));
        }
        let list = format!("[{}]", labels.join(" "));
        if report.ret as usize > report.out.len() {
            return format!("{list} of {} bytes", report.ret);
        }
        list
    }

    /// The text of DESCRIBE. An authorisation key is called after a serial.
    fn description(&self, text: &str) -> String {
        let named = text.starts_with(".request_key_auth;").then(|| text.rsplit_once(';')).flatten();
        let serial = named.and_then(|(_, hex)| i32::from_str_radix(hex, 16).ok());
        match (named, serial.and_then(|serial| self.label(serial))) {
            (Some((before, _)), Some(label)) => format!("{};{label}", self.users_back(before)),
            _ => self.users_back(text),
        }
    }

    /// A helper's arguments: what to do, the key, user and group, and the keyrings.
    fn arguments(&mut self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let mut words: Vec<String> = Vec::new();
        for (index, word) in text.split(' ').enumerate() {
            words.push(match (index, word.parse::<i32>()) {
                (1 | 4.., Ok(serial)) if serial > 0 => self.name(serial, None, index > 3, None),
                _ => self.users_back(word),
            });
        }
        format!("\"{}\"", words.join(" "))
    }

    /// User ids of the history replaced by `$1` to `$9`, serials by their labels.
    fn users_back(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut digits = String::new();
        for c in text.chars().chain(std::iter::once('\0')) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            match digits.parse::<u32>() {
                // What the kernel calls the keyrings of threads and processes.
                Ok(_) if is_of_a_task(&out) => out.push('N'),
                Ok(id) if self.is_own(id) => out.push_str(&format!("${}", id - self.base)),
                Ok(id) if id >= SERIAL_IN_TEXT_MIN && self.label(id as i32).is_some() => {
                    out.push_str(self.label(id as i32).unwrap_or_default());
                }
                _ => out.push_str(&digits),
            }
            digits.clear();
            out.push(c);
        }
        out.pop();
        out
    }

    fn is_own(&self, id: u32) -> bool {
        (1..=USERS_MAX).contains(&id.wrapping_sub(self.base))
    }
}

/// True for the beginning of a name that old kernels give with a number of `/proc`.
fn is_of_a_task(text: &str) -> bool {
    let is_user_session = text.ends_with("_uid_ses.");
    ["_tid.", "_pid.", "_ses."].iter().any(|name| text.ends_with(name)) && !is_user_session
}

/// The type and description that a call names, the type being that argument.
#[must_use]
pub fn likeness_of(call: &Call, type_index: usize) -> Option<Likeness> {
    match (call.args.get(type_index), call.args.get(type_index + 1)) {
        (Some(Arg::Text(Text::Bytes(one))), Some(Arg::Text(Text::Bytes(two)))) => {
            Some(Likeness(one.clone(), two.clone()))
        }
        _ => None,
    }
}
