//! One line of a history: who does what, and what it should give.

use keyshim_keys::Profile;

use crate::verb::Verb;

/// A key as a history names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyArg {
    /// A special keyring, -1 to -8, or any other number.
    Number(i32),
    /// A key that an earlier step bound to this name.
    Named(String),
}

/// A string or payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// A NULL pointer.
    Null,
    /// A pointer to nowhere.
    Bad,
    /// Bytes. `$1` to `$9` in them stand for the history's users.
    Bytes(Vec<u8>),
}

impl Text {
    /// A string.
    #[must_use]
    pub fn new(text: &str) -> Text {
        Text::Bytes(text.as_bytes().to_vec())
    }
}

/// A user or group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdArg {
    /// One of the history's own users, 1 to 9: numbers that nobody else has.
    Own(u8),
    /// That number: 0 is root, -1 leaves an id as it is.
    Number(u32),
}

/// An argument, of the kind that the verb's row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// For [`crate::verb::Kind::Key`].
    Key(KeyArg),
    /// For Text and Payload.
    Text(Text),
    /// For Room: bytes of a buffer, or `None` for a bad pointer and 64 bytes.
    Room(Option<u32>),
    /// For Uid and Gid.
    Id(IdArg),
    /// For Number and Mask.
    Number(u64),
    /// For Pieces.
    Pieces(Vec<Vec<u8>>),
}

/// One of the three system calls.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its row.
    pub verb: &'static Verb,
    /// Its arguments, as many as the row has kinds.
    pub args: Vec<Arg>,
}

/// Which ids of a thread a step sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// `setresuid`: real, effective, saved.
    Uids,
    /// `setresgid`.
    Gids,
    /// `setfsuid`; only the first id counts.
    FsUid,
    /// `setfsgid`; only the first id counts.
    FsGid,
}

/// What an actor does.
#[derive(Debug, Clone)]
pub enum Action {
    /// A call.
    Call(Call),
    /// A new process, known by this name from now on.
    Fork(String),
    /// A new thread of the same process.
    Thread(String),
    /// The same program anew.
    Exec,
    /// Ends the thread; the main thread ends the process.
    Exit,
    /// Sets ids of this thread only, by the raw system call.
    SetIds(Which, [IdArg; 3]),
    /// Sets the supplementary groups of this thread only.
    SetGroups(Vec<IdArg>),
    /// Reads `/proc/keys`: the lines of the history's own keys.
    ProcKeys,
    /// Reads `/proc/key-users`: the lines of the history's own users.
    KeyUsers,
    /// Reads the thread's ids, groups and capabilities from `/proc`.
    Status,
    /// What the call gives in which the actor has been waiting.
    Answer,
    /// A signal to an actor that waits in a call.
    Interrupt,
    /// The arguments that a helper was started with.
    Arguments,
    /// Lets seconds pass.
    Wait(u32),
}

/// One line.
#[derive(Debug, Clone)]
pub struct Step {
    /// Who.
    pub actor: String,
    /// The name for the serial that it gives.
    pub bind: Option<String>,
    /// What.
    pub action: Action,
    /// What a script expects: any of these; empty for any success.
    pub expect: Vec<String>,
}

impl Step {
    /// A step that expects nothing.
    #[must_use]
    pub fn new(actor: &str, action: Action) -> Step {
        Step { actor: actor.to_owned(), bind: None, action, expect: Vec::new() }
    }
}

/// How a history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// `r` is root and `a` is user 1 without any right; each in a fresh session.
    #[default]
    Sessions,
    /// The same without session keyrings.
    Bare,
}

/// A history.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// How it begins.
    pub start: Start,
    /// Which kernel it is about; none but Linux 6 is there to be asked.
    pub profile: Profile,
    /// True when it uses the type `big_key`, which not every kernel has.
    pub needs_big_key: bool,
    /// True when it uses the type `dns_resolver`, which not every kernel has.
    pub needs_dns_resolver: bool,
    /// True when helpers are called, which not every road can.
    pub needs_upcalls: bool,
    /// What follows.
    pub steps: Vec<Step>,
}
