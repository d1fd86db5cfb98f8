//! What a key call costs: the kernel's own, keyshim's, and a bare round trip over a
//! socket, side by side in one process; and whether the core's cost grows with a keyring.
//!
//! `cargo bench -p keyshim-tests --bench calls`, with `-- --json` for machines.
//! `KEYSHIM_BENCH_MS` is about how long it measures, in milliseconds (16,000).
//!
//! The process runs under `keyshim run`. Its calls through libc are keyshim's; those by
//! an instruction of its own reach the kernel, in a session keyring that ends with it.
//! Every subject has a turn of a millisecond, then the next one, round and round: each
//! figure is the median of the turns' medians, each ratio the median of the ratios of
//! turns that stood side by side.

#[path = "calls/bare.rs"]
mod bare;
#[path = "calls/caller.rs"]
mod caller;
#[path = "calls/echo.rs"]
mod echo;
#[path = "calls/fixture.rs"]
mod fixture;
#[path = "calls/growth.rs"]
mod growth;
#[path = "calls/measure.rs"]
mod measure;
#[path = "calls/road.rs"]
mod road;
#[path = "calls/role.rs"]
mod role;
#[path = "calls/table.rs"]
mod table;
#[path = "calls/trapped.rs"]
mod trapped;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use keyshim_abi::Errno;

use echo::Echo;
use fixture::{Fixture, Operation};
use measure::{Subject, take_turns};
use road::{KERNEL_IS_IN_REACH, Road};
use role::Role;
use table::{Column, Pair, Row, Table};

const DEFAULT_MS: u64 = 16_000;
/// Columns: the kernel, keyshim, the socket.
const PAIRS: [Pair; 2] = [(1, 0), (1, 2)];
const LEGEND: &str = "\
microseconds: median (99 of 100 calls take no longer). \"add\" and \"link\" make what was not
there; \"socket\" is 64 bytes to another process and back, the same in every row. \"trapped\" is
--mode seccomp, \"bare\" a supervisor that touches the same memory and knows no keys; 8 means by
eight threads at once. \"start\" is from starting `true` to its end.";

/// Compare the cost of key calls: the kernel's, keyshim's, a bare socket's
#[derive(Debug, Parser)]
struct Arguments {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// What cargo bench passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    match Role::own()? {
        Role::Echo => echo::serve().map(|()| ExitCode::SUCCESS),
        Role::Caller => caller::serve().map(|()| ExitCode::SUCCESS),
        Role::Outer => {
            Arguments::parse();
            role::run_under_keyshim()
        }
        Role::Measurer => measure_all(&Arguments::parse()).map(|()| ExitCode::SUCCESS),
    }
}

fn measure_all(arguments: &Arguments) -> Result<()> {
    let time = time()?;
    if std::io::stderr().is_terminal() {
        eprintln!("measuring for about {} ms", time.as_millis());
    }
    let mut tables = vec![measure_calls(time * 4 / 16)?];
    tables.extend(trapped::measure(time * 4 / 16)?);
    tables.push(trapped::measure_start(time * 2 / 16)?);
    tables.push(growth::measure(time * 6 / 16)?);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&tables)?);
        return Ok(());
    }
    println!("{LEGEND}");
    for table in tables {
        println!();
        table.print();
    }
    Ok(())
}

fn time() -> Result<Duration> {
    let Some(text) = std::env::var_os("KEYSHIM_BENCH_MS") else {
        return Ok(Duration::from_millis(DEFAULT_MS));
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    Ok(Duration::from_millis(number.context("KEYSHIM_BENCH_MS must be a number")?))
}

fn measure_calls(time: Duration) -> Result<Table> {
    let mut kernel = kernel()?;
    let mut keyshim = match Fixture::new(Road::Keyshim) {
        Ok(keyshim) => keyshim,
        Err(errno) => bail!("keyshim refused to make keys: {errno}; try keyshim doctor"),
    };
    let strayed = kernel.is_ok() && keyshim.is_seen_by(Road::Kernel);
    ensure!(!strayed, "calls through libc reach the kernel: the library is not preloaded");
    let mut echo = Echo::start()?;

    let skipped = kernel.as_ref().err().cloned();
    let kernel_column = Column { name: "kernel".to_owned(), skipped };
    let columns = vec![kernel_column, Column::there("keyshim"), Column::there("socket")];
    let mut table = Table::new("calls", columns, &PAIRS);
    let share = time / Operation::ALL.len() as u32;
    for (operation, name) in Operation::ALL {
        let of_kernel = kernel.as_mut().ok().map(|fixture| subject(fixture, operation));
        let of_keyshim = Some(subject(&mut keyshim, operation));
        let of_socket: Option<Subject<'_>> = Some(Box::new(|| echo.round_trip()));
        let times = take_turns(&mut [of_kernel, of_keyshim, of_socket], share)
            .with_context(|| format!("measuring {name}"))?;
        table.rows.push(Row::new(name, times, &PAIRS));
    }
    echo.end()?;
    keyshim.end()?;
    kernel.ok().map_or(Ok(()), Fixture::end)?;
    Ok(table)
}

fn subject(fixture: &mut Fixture, operation: Operation) -> Subject<'_> {
    Box::new(move || fixture.call(operation))
}

/// The kernel's side, or why it cannot be had.
fn kernel() -> Result<Result<Fixture, String>> {
    if !KERNEL_IS_IN_REACH {
        let why = "on this architecture the bench has no way past the preloaded library";
        return Ok(Err(why.to_owned()));
    }
    let why = match Fixture::new(Road::Kernel) {
        Ok(fixture) => return Ok(Ok(fixture)),
        Err(Errno::ENOSYS) => {
            "ENOSYS: the kernel has no key service (CONFIG_KEYS), or a filter \
                               says so: run it outside the container"
        }
        Err(Errno::EPERM) => "EPERM: a filter refuses key calls: run it outside the container",
        Err(Errno::EDQUOT) => "EDQUOT: this user's key quota is used up: see /proc/key-users",
        Err(errno) => bail!("the kernel refused to make keys: {errno}"),
    };
    Ok(Err(why.to_owned()))
}
