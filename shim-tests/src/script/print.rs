//! A history as its text.

use std::fmt::Write;

use keyshim_keys::Profile;

use super::SPECIAL;
use crate::step::{Action, Arg, Call, History, IdArg, KeyArg, Start, Step, Text, Which};
use crate::trace::{ROOM_DEFAULT, filler_len};
use crate::verb::Kind;

/// The text of a history, which parses to the same.
#[must_use]
pub fn print(history: &History) -> String {
    let mut text = String::new();
    if history.start == Start::Bare {
        text.push_str("start bare\n");
    }
    if history.profile != Profile::default() {
        let quirky = Profile::named(history.profile.name, false) != Some(history.profile);
        let quirks = if quirky { " quirks" } else { "" };
        let _ = writeln!(text, "profile {}{quirks}", history.profile.name);
    }
    if history.needs_big_key {
        text.push_str("needs big_key\n");
    }
    if history.needs_dns_resolver {
        text.push_str("needs dns_resolver\n");
    }
    if history.needs_upcalls {
        text.push_str("needs upcalls\n");
    }
    for step in &history.steps {
        text.push_str(&line(step));
        text.push('\n');
    }
    text
}

/// The text of one step.
#[must_use]
pub fn line(step: &Step) -> String {
    let mut text = format!("{}: ", step.actor);
    if let Some(bind) = &step.bind {
        let _ = write!(text, "{bind} = ");
    }
    text.push_str(&action(&step.action));
    if !step.expect.is_empty() {
        let _ = write!(text, " -> {}", step.expect.join(" or "));
    }
    text
}

fn action(action: &Action) -> String {
    match action {
        Action::Call(one) => call(one),
        Action::Fork(name) => format!("fork {name}"),
        Action::Thread(name) => format!("thread {name}"),
        Action::Exec => "exec".to_owned(),
        Action::Exit => "exit".to_owned(),
        Action::SetIds(which, ids) => {
            let (verb, count) = match which {
                Which::Uids => ("setresuid", 3),
                Which::Gids => ("setresgid", 3),
                Which::FsUid => ("setfsuid", 1),
                Which::FsGid => ("setfsgid", 1),
            };
            let ids: Vec<String> = ids.iter().take(count).map(id).collect();
            format!("{verb} {}", ids.join(" "))
        }
        Action::SetGroups(groups) => {
            groups.iter().fold("setgroups".to_owned(), |text, group| text + " " + &id(group))
        }
        Action::ProcKeys => "proc_keys".to_owned(),
        Action::KeyUsers => "key_users".to_owned(),
        Action::Status => "status".to_owned(),
        Action::Answer => "answer".to_owned(),
        Action::Interrupt => "interrupt".to_owned(),
        Action::Arguments => "arguments".to_owned(),
        Action::Wait(seconds) => format!("wait {seconds}"),
    }
}

fn call(call: &Call) -> String {
    let mut text = call.verb.name.to_owned();
    for (kind, one) in call.verb.args.iter().zip(&call.args) {
        if *one == Arg::Room(Some(ROOM_DEFAULT)) {
            continue;
        }
        text.push(' ');
        text.push_str(&arg(*kind, one));
    }
    text
}

fn arg(kind: Kind, arg: &Arg) -> String {
    match arg {
        Arg::Key(KeyArg::Named(name)) => name.clone(),
        Arg::Key(KeyArg::Number(number)) => {
            let special = (-1i32).checked_sub(*number).and_then(|at| usize::try_from(at).ok());
            match special.and_then(|at| SPECIAL.get(at)) {
                Some(name) => (*name).to_owned(),
                None => number.to_string(),
            }
        }
        Arg::Text(Text::Null) => "null".to_owned(),
        Arg::Text(Text::Bad) => "bad".to_owned(),
        Arg::Text(Text::Bytes(bytes)) => match filler_len(bytes) {
            Some(len) => format!("filler:{len}"),
            None if is_plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => format!("\"{}\"", bytes.escape_ascii()),
        },
        Arg::Room(Some(len)) => format!("room:{len}"),
        Arg::Room(None) => "room:bad".to_owned(),
        Arg::Id(one) => id(one),
        Arg::Pieces(pieces) => format!("\"{}\"", pieces.join(&b'|').escape_ascii()),
        Arg::Number(mask) if kind == Kind::Mask => format!("{mask:08x}"),
        Arg::Number(number) => (*number as i64).to_string(),
    }
}

/// True for bytes that are a word of their own.
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !bytes.is_empty() && bytes.iter().all(plain) && bytes != b"null" && bytes != b"bad"
}

fn id(id: &IdArg) -> String {
    match id {
        IdArg::Own(n) => format!("${n}"),
        IdArg::Number(u32::MAX) => "-1".to_owned(),
        IdArg::Number(number) => number.to_string(),
    }
}
