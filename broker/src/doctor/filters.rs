//! The seccomp filters over this process: where they begin, and who listens.

use std::fs;

use super::Finding;

/// Ancestors looked at.
const ANCESTORS_MAX: usize = 1024;
/// Open files of others looked at for a listener.
const FILES_MAX: usize = 65_536;
/// What `/proc/PID/fd` calls a listener.
const LISTENER: &str = "anon_inode:seccomp notify";

/// What `/proc/PID/status` says of a process and its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    name: String,
    parent: u32,
    /// How many filters are over it. At least one for a filtered process of a kernel
    /// that does not count them (before Linux 5.9).
    filters: u32,
}

/// Where filters over us begin.
pub(super) fn finding() -> Finding {
    const WHAT: &str = "filters above";
    let line = ancestry(std::process::id());
    if line.first().is_none_or(|own| own.filters == 0) {
        return Finding::good(WHAT, "none");
    }
    let begins = beginnings(&line);
    let listeners = listeners();
    let listeners = match listeners.is_empty() {
        true => "no listener that we can see".to_owned(),
        false => format!("listeners are held by {}", listeners.join(", ")),
    };
    Finding::good(WHAT, format!("{}; {listeners}", begins.join(", ")))
}

/// The process and its ancestors, as far as they can be seen.
fn ancestry(pid: u32) -> Vec<Process> {
    let above = |process: &Process| status(process.parent);
    std::iter::successors(status(pid), above).take(ANCESTORS_MAX).collect()
}

/// The eldest process under each further filter.
fn beginnings(line: &[Process]) -> Vec<String> {
    let parents = line.iter().skip(1).map(|parent| parent.filters).chain([0]);
    let with_parents = line.iter().zip(parents);
    let more = with_parents.filter(|(process, above)| process.filters > *above);
    more.map(|(Process { pid, name, filters, .. }, above)| {
        format!("{} from {pid} ({name}) on", filters - above)
    })
    .collect()
}

fn status(pid: u32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

fn parse(pid: u32, text: &str) -> Option<Process> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim())
    };
    let number = |name: &str| field(name)?.parse::<u32>().ok();
    let is_filtered = number("Seccomp").is_some_and(|mode| mode != 0);
    let filters = number("Seccomp_filters").unwrap_or(1);
    Some(Process {
        pid,
        name: field("Name")?.to_owned(),
        parent: number("PPid")?,
        filters: if is_filtered { filters.max(1) } else { 0 },
    })
}

/// The processes that hold a listener, as far as we may look.
fn listeners() -> Vec<String> {
    let mut left = FILES_MAX;
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|&pid| pid != std::process::id()) else { continue };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut files = files.take(left).inspect(|_| left -= 1);
        let is_listener = |file: fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == LISTENER)
        };
        if files.any(is_listener) {
            let name = status(pid).map(|process| process.name).unwrap_or_default();
            holders.push(format!("{pid} ({name})"));
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, filters: u32) -> Process {
        Process { pid, name: format!("p{pid}"), parent: pid - 1, filters }
    }

    #[test]
    fn our_line_ends_at_init() {
        let line = ancestry(std::process::id());
        assert_eq!(line[0].pid, std::process::id());
        assert_eq!(line[0].parent, nix::unistd::getppid().as_raw() as u32);
        assert_eq!(line[line.len() - 1].parent, 0);
    }

    #[test]
    fn each_further_filter_begins_somewhere() {
        let line = [process(9, 3), process(8, 3), process(7, 1), process(6, 0)];
        assert_eq!(beginnings(&line), ["2 from 8 (p8) on", "1 from 7 (p7) on"]);
        assert_eq!(beginnings(&[process(2, 1)]), ["1 from 2 (p2) on"]);
        assert!(beginnings(&[process(2, 0)]).is_empty());
    }

    #[test]
    fn filters_are_counted_where_the_kernel_counts_them() {
        let text = "Name:\tsh\nPPid:\t4\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        assert_eq!(parse(5, text).unwrap().filters, 3);
        assert_eq!(parse(5, "Name:\tsh\nPPid:\t4\nSeccomp:\t2\n").unwrap().filters, 1);
        let none = parse(5, "Name:\tsh\nPPid:\t4\nSeccomp:\t0\nSeccomp_filters:\t0\n");
        assert_eq!(none.unwrap().filters, 0);
    }
}
