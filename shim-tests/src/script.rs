//! Histories as text: one step a line.
//!
//! ```text
//! # A comment: what Linux does, and why.
//! start bare                            no session keyrings to begin with
//! profile linux-2.6.10                  another kernel than Linux 6; `quirks` after it: with its bugs
//! needs big_key                         a type that not every kernel has
//! needs upcalls                         helpers are called
//! k = add_key user "x" "payload" @s     actor `a`, when no other is named
//! b: read k -> EACCES                   what it should give; any success otherwise
//! a: read k -> "payload" or EKEYEXPIRED
//! a: fork b                             a new process; `thread t` a new thread
//! k = request_key user x ci @s -> upcall h1     waits; its helper is actor h1
//! h1: arguments -> "create k $1 $1 0 0 s"       what the helper was started with
//! h1: instantiate k "v" @d                      k is known from the upcall on
//! h1: exit
//! a: answer -> k                        what the call gives in which `a` waited
//! b: interrupt                          a signal; then b's answer is EINTR
//! times 3 b: read k% -> "p%"            three steps, for k1, k2 and k3
//! ```
//!
//! Keys are named by what a step bound, by `@t @p @s @u @us @g @a @d`, or by number.
//! A string is a word, `"quoted\x00"`, `filler:4095`, `null` or `bad`, a pointer to
//! nowhere. The last argument of describe, read, get_security and capabilities may
//! be left out, or be `room:8` or `room:bad`. `$1` to `$9` are users' ids, also
//! within strings. What a step gives is a name, a number, an error, `"bytes"`, a
//! keyring's `[k1 k2]`, or the text of DESCRIBE.

use anyhow::{Context, Result, bail};

use keyshim_keys::Profile;

use crate::step::{Action, Arg, Call, History, IdArg, KeyArg, Start, Step, Text, Which};
use crate::trace::{ROOM_DEFAULT, filler};
use crate::verb::{self, Kind};

mod print;
mod token;

pub use print::{line, print};
use token::{Token, tokens};

/// The names of the special keyrings, -1 first.
pub(crate) const SPECIAL: [&str; 8] = ["@t", "@p", "@s", "@u", "@us", "@g", "@a", "@d"];

/// A history from its text. An error names the line.
pub fn parse(text: &str) -> Result<History> {
    let mut history = History::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "start bare" {
            history.start = Start::Bare;
            continue;
        }
        if line == "needs big_key" {
            history.needs_big_key = true;
            continue;
        }
        if line == "needs dns_resolver" {
            history.needs_dns_resolver = true;
            continue;
        }
        if line == "needs upcalls" {
            history.needs_upcalls = true;
            continue;
        }
        if let Some(words) = line.strip_prefix("profile ") {
            history.profile = profile(words).with_context(|| line.to_owned())?;
            continue;
        }
        let here = || format!("line {}: {line}", index + 1);
        for line in repeated(line).with_context(here)? {
            history.steps.push(step(&line).with_context(here)?);
        }
    }
    Ok(history)
}

fn profile(words: &str) -> Result<Profile> {
    let (name, quirks) = match words.split_once(' ') {
        None => (words, false),
        Some((name, "quirks")) => (name, true),
        Some(_) => bail!("profile NAME, or profile NAME quirks"),
    };
    Profile::named(name, quirks).context("there is no such profile")
}

/// The lines that `times N` stands for, `%` being the number of each; or the line.
fn repeated(line: &str) -> Result<Vec<String>> {
    let Some(rest) = line.strip_prefix("times ") else { return Ok(vec![line.to_owned()]) };
    let (count, body) = rest.split_once(' ').context("times N STEP")?;
    let count: usize = count.parse().context("times N STEP")?;
    Ok((1..=count).map(|turn| body.replace('%', &turn.to_string())).collect())
}

fn step(line: &str) -> Result<Step> {
    let (body, expect) = match line.rsplit_once(" -> ") {
        Some((body, expect)) => (body, expect.split(" or ").map(|e| e.trim().to_owned()).collect()),
        None => (line, Vec::new()),
    };
    let (actor, body) = match body.split_once(": ") {
        Some((actor, body)) if is_name(actor) => (actor, body),
        _ => ("a", body),
    };
    let (bind, body) = match body.split_once(" = ") {
        Some((name, body)) if is_name(name.trim()) => (Some(name.trim().to_owned()), body),
        _ => (None, body),
    };
    let words = tokens(body)?;
    let Some((Token::Word(verb), args)) = words.split_first() else { bail!("what is to be done?") };
    Ok(Step { actor: actor.to_owned(), bind, action: action(verb, args)?, expect })
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn action(verb: &str, args: &[Token]) -> Result<Action> {
    let set = |which, count| Ok(Action::SetIds(which, three_ids(args, count)?));
    match verb {
        "fork" => Ok(Action::Fork(only_word(args)?)),
        "thread" => Ok(Action::Thread(only_word(args)?)),
        "exec" => Ok(Action::Exec),
        "exit" => Ok(Action::Exit),
        "proc_keys" => Ok(Action::ProcKeys),
        "key_users" => Ok(Action::KeyUsers),
        "status" => Ok(Action::Status),
        "answer" => Ok(Action::Answer),
        "interrupt" => Ok(Action::Interrupt),
        "arguments" => Ok(Action::Arguments),
        "wait" => Ok(Action::Wait(only_word(args)?.parse()?)),
        "setresuid" => set(Which::Uids, 3),
        "setresgid" => set(Which::Gids, 3),
        "setfsuid" => set(Which::FsUid, 1),
        "setfsgid" => set(Which::FsGid, 1),
        "setgroups" => Ok(Action::SetGroups(args.iter().map(id).collect::<Result<_>>()?)),
        _ => Ok(Action::Call(call(verb, args)?)),
    }
}

fn only_word(args: &[Token]) -> Result<String> {
    match args {
        [Token::Word(word)] => Ok(word.clone()),
        _ => bail!("one word is wanted"),
    }
}

fn three_ids(args: &[Token], count: usize) -> Result<[IdArg; 3]> {
    if args.len() != count {
        bail!("{count} ids are wanted");
    }
    let ids: Vec<IdArg> = args.iter().map(id).collect::<Result<_>>()?;
    let last = ids[count - 1];
    Ok([ids[0], *ids.get(1).unwrap_or(&last), *ids.get(2).unwrap_or(&last)])
}

fn call(verb: &str, tokens: &[Token]) -> Result<Call> {
    let verb = verb::find(verb).with_context(|| format!("there is no operation {verb}"))?;
    let mut args = Vec::new();
    for (index, kind) in verb.args.iter().enumerate() {
        args.push(match (tokens.get(index), kind) {
            (Some(token), kind) => arg(*kind, token)?,
            (None, Kind::Room) => Arg::Room(Some(ROOM_DEFAULT)),
            (None, Kind::Number) if verb.operation == u32::MAX && index > 0 => Arg::Number(0),
            (None, _) => bail!("{} takes {} arguments", verb.name, verb.args.len()),
        });
    }
    if tokens.len() > verb.args.len() {
        bail!("{} takes only {} arguments", verb.name, verb.args.len());
    }
    Ok(Call { verb, args })
}

fn arg(kind: Kind, token: &Token) -> Result<Arg> {
    let word = match token {
        Token::Quoted(bytes) if matches!(kind, Kind::Text | Kind::Payload) => {
            return Ok(Arg::Text(Text::Bytes(bytes.clone())));
        }
        Token::Quoted(bytes) if kind == Kind::Pieces => return Ok(Arg::Pieces(pieces(bytes))),
        Token::Quoted(_) => bail!("no string is wanted here"),
        Token::Word(word) => word.as_str(),
    };
    Ok(match kind {
        Kind::Key => Arg::Key(key(word)?),
        Kind::Text | Kind::Payload => Arg::Text(text(word)?),
        Kind::Room => match word.strip_prefix("room:").context("room:N is wanted")? {
            "bad" => Arg::Room(None),
            len => Arg::Room(Some(len.parse()?)),
        },
        Kind::Uid | Kind::Gid => Arg::Id(id(token)?),
        Kind::Mask => Arg::Number(u64::from_str_radix(word, 16)?),
        Kind::Number => Arg::Number(number(word)? as u64),
        Kind::Pieces => Arg::Pieces(pieces(word.as_bytes())),
    })
}

/// None in an empty text.
fn pieces(text: &[u8]) -> Vec<Vec<u8>> {
    let pieces = text.split(|&byte| byte == b'|').map(<[u8]>::to_vec).collect();
    if text.is_empty() { Vec::new() } else { pieces }
}

fn number(word: &str) -> Result<i64> {
    match word.strip_prefix("0x") {
        Some(digits) => Ok(i64::from_str_radix(digits, 16)?),
        None => word.parse().with_context(|| format!("{word} is no number")),
    }
}

fn key(word: &str) -> Result<KeyArg> {
    if let Some(index) = SPECIAL.iter().position(|special| *special == word) {
        return Ok(KeyArg::Number(-1 - index as i32));
    }
    match word.parse() {
        Ok(number) => Ok(KeyArg::Number(number)),
        Err(_) if is_name(word) => Ok(KeyArg::Named(word.to_owned())),
        Err(_) => bail!("{word} names no key"),
    }
}

fn text(word: &str) -> Result<Text> {
    Ok(match word {
        "null" => Text::Null,
        "bad" => Text::Bad,
        _ => match word.strip_prefix("filler:") {
            Some(len) => Text::Bytes(filler(len.parse()?)),
            None => Text::new(word),
        },
    })
}

fn id(token: &Token) -> Result<IdArg> {
    let Token::Word(word) = token else { bail!("an id is wanted") };
    match word.strip_prefix('$') {
        Some(own) => Ok(IdArg::Own(own.parse()?)),
        None => Ok(IdArg::Number(number(word)? as u32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_being_printed() {
        let text = "start bare\n\
            profile linux-2.6.10\n\
            a: k = add_key user \"a b\\x00\\\"\" filler:100 @s -> k\n\
            b: read k room:3 -> EACCES or 5 bytes\n\
            a: chown k $1 -1\n\
            a: setperm k 3f010000\n\
            a: setresuid $1 0 -1\n\
            t: setfsuid $2\n\
            a: fork b\n\
            a: keyctl 33 0 0 0 0\n\
            a: request_key user null bad -8\n";
        let once = print(&parse(text).unwrap());
        assert_eq!(print(&parse(&once).unwrap()), once);
        assert!(once.contains("\nprofile linux-2.6.10\n"));
        assert!(once.contains("b: read k room:3 -> EACCES or 5 bytes"));
        assert!(once.contains("add_key user \"a b\\x00\\\"\" filler:100 @s -> k"));
    }

    #[test]
    fn an_error_names_its_line() {
        let error = parse("# fine\na: revoke\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2"));
    }
}
