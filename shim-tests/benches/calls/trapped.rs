//! Calls that are caught in the kernel, beside the kernel's own and beside the least
//! that catching costs; what the filter costs all other calls; what starting costs.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keyshim_tests::world::actor::beside;

use crate::bare;
use crate::caller::{Caller, Filter, GETPPIDS, Kind, MANY};
use crate::measure::{Subject, Turn, take_turns, take_turns_of, timed};
use crate::table::{Column, Pair, Row, Table};

/// The kernel, the supervisor, the bare one.
const CALL_PAIRS: [Pair; 2] = [(1, 0), (1, 2)];
/// Without a filter, under keyshim's, under an empty one.
const FILTER_PAIRS: [Pair; 2] = [(1, 0), (1, 2)];
/// Each mode beside the program alone.
const START_PAIRS: [Pair; 4] = [(1, 0), (2, 0), (3, 0), (4, 0)];

fn ourselves() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn under_keyshim(mode: &str) -> Result<Command> {
    let mut command = Command::new(beside("keyshim").context("run it by cargo bench")?);
    command.args(["run", "--mode", mode, "--"]);
    command.env_remove("LD_PRELOAD").env_remove("KEYSHIM_SOCKET").env_remove("KEYSHIM_LOG");
    Ok(command)
}

fn trapped() -> Result<Caller> {
    let mut command = under_keyshim("seccomp")?;
    command.arg(std::env::current_exe()?);
    Caller::start(command, None)
}

/// Both tables, or why not.
pub(crate) fn measure(time: Duration) -> Result<Vec<Table>> {
    let mut kernel = Caller::start(ourselves()?, None)?;
    let mut keyshim = trapped()?;
    let mut bare = Caller::start(ourselves()?, Some(Filter::Bare))?;
    let mut empty = Caller::start(ourselves()?, Some(Filter::Empty))?;
    let listener = bare.listener.context("no listener")?;
    let supervisor = bare::supervise(bare.pid(), listener).context("supervising a caller")?;
    let rows = [
        ("read", Kind::Read, 1),
        ("update", Kind::Update, 1),
        ("read, 8", Kind::Read, MANY),
        ("update, 8", Kind::Update, MANY),
    ];
    let columns = ["kernel", "trapped", "bare"].map(Column::there).into();
    let mut calls = Table::new("trapped calls", columns, &CALL_PAIRS);
    let share = time / (rows.len() as u32 + 1);
    for (name, kind, threads) in rows {
        let turns = [&mut kernel, &mut keyshim, &mut bare].map(|one| turns(one, kind, threads));
        let times = take_turns_of(turns, share).with_context(|| format!("measuring {name}"))?;
        calls.rows.push(Row::new(name, times, &CALL_PAIRS));
    }
    let columns = ["no filter", "keyshim's", "empty one"].map(Column::there).into();
    let mut others = Table::new("other calls", columns, &FILTER_PAIRS);
    let turns = [&mut kernel, &mut keyshim, &mut empty].map(|one| turns(one, Kind::Getppid, 1));
    let name = format!("{GETPPIDS} getppid");
    others.rows.push(Row::new(&name, take_turns_of(turns, share)?, &FILTER_PAIRS));
    for caller in [kernel, keyshim, bare, empty] {
        caller.end()?;
    }
    ensure!(supervisor.join().is_ok(), "the bare supervisor failed");
    Ok(vec![calls, others])
}

fn turns(caller: &mut Caller, kind: Kind, threads: u8) -> Option<Turn<'_>> {
    Some(Box::new(move || caller.turn(kind, threads)))
}

/// What it takes to start a program and see it end.
pub(crate) fn measure_start(time: Duration) -> Result<Table> {
    let modes = ["preload", "seccomp", "both", "auto"];
    let names = ["alone"].into_iter().chain(modes);
    let mut table = Table::new("start", names.map(Column::there).collect(), &START_PAIRS);
    let mut subjects: Vec<Option<Subject<'_>>> = vec![Some(Box::new(|| start(&mut alone())))];
    for mode in modes {
        subjects.push(Some(Box::new(move || start(under_keyshim(mode)?.arg("true")))));
    }
    table.rows.push(Row::new("true", take_turns(&mut subjects, time)?, &START_PAIRS));
    Ok(table)
}

fn alone() -> Command {
    let mut command = Command::new("true");
    command.env_remove("LD_PRELOAD").env_remove("KEYSHIM_SOCKET");
    command
}

fn start(command: &mut Command) -> Result<u64> {
    command.stdin(Stdio::null());
    let (status, took_ns) = timed(|| command.status());
    ensure!(status?.success(), "{command:?} failed");
    Ok(took_ns)
}
