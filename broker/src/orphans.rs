//! Who takes in processes whose parent has ended, and so which parent is none of
//! birth: every `keyshim run` does, ours or that of a shared domain, and init.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs, process};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::proc;

/// A `keyshim run`: all its children but the first were adopted.
struct Run {
    pid: u32,
    /// The program that it was to run, if it has been seen.
    root: Option<u32>,
}

/// The runs whose programs use this domain.
pub(crate) struct Orphans {
    runs: Vec<Run>,
    /// Device and inode of this program's file, by which others of it are known.
    program: Option<(u64, u64)>,
}

impl Orphans {
    /// No run yet.
    pub(crate) fn new() -> Orphans {
        Orphans { runs: Vec::new(), program: program_of("self") }
    }

    /// This process is a run, and that is its program.
    pub(crate) fn adopt_for(&mut self, root: u32) {
        self.runs.push(Run { pid: process::id(), root: Some(root) });
    }

    /// A process has come in: perhaps it is a run, which keeps a connection for
    /// as long as its programs live.
    pub(crate) fn note_run(&mut self, pid: u32) {
        if self.program.is_some() && program_of(&pid.to_string()) == self.program {
            self.runs.push(Run { pid, root: None });
        }
    }

    /// A process has ended.
    pub(crate) fn forget(&mut self, pid: u32) {
        self.runs.retain(|run| run.pid != pid);
    }

    /// Whether the parent is a run or init: `None` if it is neither, else whether
    /// the child was adopted by it.
    pub(crate) fn is_adopted(&self, child: u32, parent: u32) -> Option<bool> {
        if let Some(run) = self.runs.iter().find(|run| run.pid == parent) {
            return Some(run.root() != Some(child));
        }
        match parent {
            // Not visible, or init: a guess is better made only where no run is.
            0 | 1 => Some(self.runs.is_empty()),
            _ => (parent == process::id()).then_some(false),
        }
    }

    /// The programs that the runs began with.
    pub(crate) fn roots(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().filter_map(Run::root)
    }

    /// Everything that runs have adopted: the run and the child.
    pub(crate) fn adopted(&self) -> Vec<(u32, u32)> {
        let of = |run: &Run| {
            let (pid, root) = (run.pid, run.root());
            let children = proc::threads(pid).into_iter().flat_map(move |t| proc::children(pid, t));
            children.filter(move |&child| Some(child) != root).map(move |child| (pid, child))
        };
        self.runs.iter().flat_map(of).collect()
    }
}

impl Run {
    /// Its program: told, or the eldest of its children.
    fn root(&self) -> Option<u32> {
        let age = |&child: &u32| proc::place(child).map(|place| place.started_ticks);
        self.root.or_else(|| proc::children(self.pid, self.pid).into_iter().min_by_key(age))
    }
}

/// The present minus some time, in clock ticks since the machine began, as
/// `/proc/PID/stat` has them.
pub(crate) fn ticks_ago(age: Duration) -> u64 {
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as u64;
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let then_ms = since_boot.saturating_sub(age).as_millis() as u64;
    then_ms * ticks_per_s / 1000
}

fn program_of(process: &str) -> Option<(u64, u64)> {
    let metadata = fs::metadata(format!("/proc/{process}/exe")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_began_between_long_ago_and_now() {
        let started = proc::place(process::id()).unwrap().started_ticks;
        assert!(started <= ticks_ago(Duration::ZERO));
        assert!(started >= ticks_ago(Duration::from_secs(3600)));
    }

    #[test]
    fn only_the_program_of_a_run_is_its_own_child() {
        let mut orphans = Orphans::new();
        let own = process::id();
        assert_eq!(orphans.is_adopted(50, 40), None);
        assert_eq!(orphans.is_adopted(50, 1), Some(true));
        assert_eq!(orphans.is_adopted(50, own), Some(false));
        orphans.adopt_for(50);
        assert_eq!(orphans.is_adopted(50, own), Some(false));
        assert_eq!(orphans.is_adopted(51, own), Some(true));
        assert_eq!(orphans.is_adopted(50, 1), Some(false));
        orphans.forget(own);
        assert_eq!(orphans.roots().count(), 0);
    }
}
