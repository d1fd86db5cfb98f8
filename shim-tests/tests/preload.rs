//! The preloaded library in programs that do what programs do: threads, forks,
//! signals, closed descriptors, bad pointers. Each program runs on the kernel and
//! under keyshim, and must say the same; where only the library's own conduct is
//! asked about, it talks to a broker of the test's.

#[path = "preload/broker.rs"]
mod broker;
#[path = "preload/conduct.rs"]
mod conduct;

use anyhow::{Context, Result};
use keyshim_tests::programs::{Build, bare, compile, run, told, why_root};
use keyshim_tests::world::actor::beside;
use libtest_mimic::{Arguments, Failed, Trial};

/// Programs that say the same on the kernel and under keyshim, with their argument.
const SAME_AS_KERNEL: &[(&str, &str)] = &[
    ("cancel", ""),
    ("descriptors", ""),
    ("dlopened", ""),
    ("elsewhere", ""),
    ("errno", ""),
    ("files", ""),
    ("forks", ""),
    ("junk", ""),
    ("lastchance", ""),
    ("lineage", ""),
    ("lineage", "outlive"),
    ("pointers", ""),
    ("pointers", "sandboxed"),
    ("refused", ""),
    ("signals", ""),
    ("stacks", ""),
    ("threads", ""),
    ("vfork", ""),
];

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    for &(program, argument) in SAME_AS_KERNEL {
        let name =
            format!("same::{program}{}{argument}", if argument.is_empty() { "" } else { "_" });
        let trial = Trial::test(name, move || same_as_kernel(program, argument));
        trials.push(unless_unfit(trial, is_root, why_root(program)));
    }
    let knob = Trial::test("own::knob", || as_printed("knob", "", KNOB));
    trials.push(unless_unfit(knob, is_root, Some("it writes to knobs")));
    trials.push(Trial::test("own::deepbind", || as_printed("dlopened", "deepbind", DEEPBIND)));
    trials.extend(conduct::trials());
    libtest_mimic::run(&arguments, trials).exit()
}

/// The trial, not run by an ordinary user if that would prove nothing.
fn unless_unfit(trial: Trial, is_root: bool, why_root: Option<&str>) -> Trial {
    let Some(why) = why_root.filter(|_| !is_root) else { return trial };
    eprintln!("skipped: {}: not root: {why}", trial.name());
    trial.with_ignored_flag(true)
}

fn same_as_kernel(program: &str, argument: &str) -> Result<(), Failed> {
    let path = compile(program, Build::Dynamic)?;
    let arguments: Vec<&str> = Some(argument).into_iter().filter(|text| !text.is_empty()).collect();
    let kernel = told(&run(bare(&path).args(&arguments))?);
    let keyshim = told(&run(under_keyshim()?.arg(&path).args(&arguments))?);
    if kernel != keyshim {
        return Err(format!("on the kernel:\n{kernel}\nunder keyshim:\n{keyshim}").into());
    }
    Ok(())
}

fn as_printed(program: &str, argument: &str, expected: &str) -> Result<(), Failed> {
    let path = compile(program, Build::Dynamic)?;
    let mut command = under_keyshim()?;
    command.arg(path).args(Some(argument).filter(|text| !text.is_empty()));
    let printed = told(&run(&mut command)?);
    if printed != expected {
        return Err(format!("printed:\n{printed}\nexpected:\n{expected}").into());
    }
    Ok(())
}

fn under_keyshim() -> Result<std::process::Command> {
    beside("libkeyshim.so").context("cargo build -p keyshim-preload builds it")?;
    let mut command = bare(beside("keyshim").context("cargo build -p keyshim builds it")?);
    command.args(["run", "--mode", "preload", "--"]);
    Ok(command)
}

const KNOB: &str = "\
after nothing: 300
after the shell's way: 111
after sysctl's way: 222
after creat: 333
after both: 444
";

/// A library loaded this way binds past everything that was loaded before it: its
/// key is one of the kernel's. Preloading cannot help that.
const DEEPBIND: &str = "deepbind: another universe, read 8 deepbind, session there\n";
