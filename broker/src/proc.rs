//! What `/proc` says of tasks. All of it may have changed by the time it is read:
//! whoever uses it checks by a pidfd afterwards that the task is still the same.

use std::fs::{self, File};
use std::io::{self, Read};

use keyshim_abi::caller::{Gid, Ids, Uid};

use crate::host;

/// The part of `/proc/PID/task/TID/status` that a decision may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// The eight ids, as our user namespace numbers them.
    pub(crate) ids: Ids,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Effective capabilities, bit n for capability n.
    pub(crate) effective: u64,
    /// The thread's id in its own pid namespace.
    pub(crate) innermost_tid: u32,
    /// Threads of the process.
    pub(crate) thread_count: u32,
}

/// Bytes of a file in `/proc` that are read at once: all of most.
const PIECE_LEN: usize = 4096;
/// Bytes of a file in `/proc` that are read at all.
const LEN_MAX: u64 = 1 << 20;

/// The text of a file whose length nobody knows before: `fs::read` would feel its way.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(PIECE_LEN);
    File::open(path)?.take(LEN_MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn read_text(path: &str) -> Option<String> {
    String::from_utf8(read(path).ok()?).ok()
}

/// Reads a thread's status; `None` when it has gone.
pub(crate) fn status(pid: u32, tid: u32) -> Option<Status> {
    parse(&read_text(&format!("/proc/{pid}/task/{tid}/status"))?)
}

fn parse(text: &str) -> Option<Status> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim())
    };
    let numbers = |name: &str| -> Option<Vec<u32>> {
        field(name)?.split_whitespace().map(|word| word.parse().ok()).collect()
    };
    let [uid, euid, suid, fsuid] = <[u32; 4]>::try_from(numbers("Uid")?).ok()?;
    let [gid, egid, sgid, fsgid] = <[u32; 4]>::try_from(numbers("Gid")?).ok()?;
    Some(Status {
        ids: Ids {
            uid: Uid(uid),
            euid: Uid(euid),
            suid: Uid(suid),
            fsuid: Uid(fsuid),
            gid: Gid(gid),
            egid: Gid(egid),
            sgid: Gid(sgid),
            fsgid: Gid(fsgid),
        },
        groups: numbers("Groups")?,
        effective: u64::from_str_radix(field("CapEff")?, 16).ok()?,
        // A kernel without pid namespaces does not say.
        innermost_tid: *numbers("NSpid").or_else(|| numbers("Pid"))?.last()?,
        thread_count: *numbers("Threads")?.first()?,
    })
}

/// True when this process has that capability.
pub(crate) fn capable(capability: u32) -> bool {
    let own = std::process::id();
    status(own, own).is_some_and(|status| status.effective >> capability & 1 == 1)
}

/// True when a signal waits for that thread, whose call was trapped, and would interrupt
/// it. Since Linux 6.17 it has been woken by it, and then sleeps more soundly. Before, of
/// the signals for its whole process only the main thread is sure to be the one that they
/// wait for.
pub(crate) fn has_signal(tid: u32) -> bool {
    let text = read_text(&format!("/proc/{tid}/status")).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let set = |name: &str| field(name).and_then(|text| u64::from_str_radix(text, 16).ok());
    let is_meant = match host::kernel_is_at_least(6, 17) {
        true => field("State:").is_some_and(|state| state.starts_with('D')),
        false => field("Tgid:").and_then(|text| text.parse().ok()) == Some(tid),
    };
    let (own, shared) = (set("SigPnd:").unwrap_or(0), set("ShdPnd:").unwrap_or(0));
    let waiting = if is_meant { own | shared } else { own };
    waiting & !set("SigBlk:").unwrap_or(0) != 0
}

/// A process's place among the others (`/proc/PID/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its parent.
    pub(crate) parent: u32,
    /// Its process group.
    pub(crate) group: u32,
    /// Its session (of `setsid(2)`, nothing to do with keyrings).
    pub(crate) session: u32,
    /// When it began, in clock ticks since the machine did.
    pub(crate) started_ticks: u64,
    /// The program that it runs; `None` where we may not know.
    pub(crate) image: Option<Image>,
    /// Its main thread has ended; others of its threads may live.
    pub(crate) is_zombie: bool,
}

/// Where one execve has put a program in memory. Children share it until they
/// execute one themselves; the next execve draws it anew, unless addresses are not
/// random (`setarch -R`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    code: u64,
    arguments: u64,
    environment_end: u64,
}

/// Where a process stands; `None` when it has gone.
pub(crate) fn place(pid: u32) -> Option<Place> {
    let text = read(&format!("/proc/{pid}/stat")).ok()?;
    let fields = fields(&text)?;
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let id = |number: usize| u32::try_from(field(number)?).ok();
    let image = Image { code: field(26)?, arguments: field(48)?, environment_end: field(51)? };
    Some(Place {
        is_zombie: matches!(fields.first(), Some(&("Z" | "X"))),
        parent: id(4)?,
        group: id(5)?,
        session: id(6)?,
        started_ticks: field(22)?,
        // One for whom we could not trace, zero for kernel threads, for zombies, and in
        // execve, which writes this last of the three (`load_elf_binary`).
        image: Some(image).filter(|image| image.code > 1),
    })
}

/// True for a thread that has begun to end: it can be joined, but not much later it
/// is there no more.
pub(crate) fn is_ending(pid: u32, tid: u32) -> bool {
    /// `PF_EXITING` in field 9.
    const EXITING: u64 = 4;
    let text = read(&format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    let flags = fields(&text).and_then(|fields| fields.get(9 - 3)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

/// The fields of a `stat` from the third on (`proc_pid_stat(5)`).
fn fields(text: &[u8]) -> Option<Vec<&str>> {
    // The command's name may hold anything, also parentheses: count from the last one.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    Some(rest.split_whitespace().collect())
}

/// The threads of a process, its main thread first; none when it has gone.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut tids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable_by_key(|&tid| (tid != pid, tid));
    tids
}

/// The processes that a thread has forked, as far as they live.
pub(crate) fn children(pid: u32, tid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{tid}/children");
    let text = read_text(&path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The process that a thread belongs to; `None` when there is no such thread.
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let text = read_text(&format!("/proc/{tid}/status"))?;
    text.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// True while there is a process of that number and it is under a seccomp filter.
pub(crate) fn is_filtered(pid: u32) -> bool {
    let text = read_text(&format!("/proc/{pid}/status")).unwrap_or_default();
    let mode = text.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

/// True while that process has that thread.
pub(crate) fn is_thread_of(pid: u32, tid: u32) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// The thread of that process whose id in its own pid namespace is `claimed`, as
/// our namespace numbers it.
pub(crate) fn find_thread(pid: u32, claimed: u32) -> Option<u32> {
    let is_it = |tid: u32| status(pid, tid).is_some_and(|status| status.innermost_tid == claimed);
    if is_it(claimed) {
        return Some(claimed);
    }
    threads(pid).into_iter().find(|&tid| is_it(tid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_status_is_read() {
        let pid = std::process::id();
        let status = status(pid, pid).unwrap();
        assert_eq!(status.ids.euid.0, nix::unistd::geteuid().as_raw());
        assert_eq!(status.innermost_tid, pid);
        assert!(status.thread_count >= 1);
    }

    #[test]
    fn a_status_with_namespaces_groups_and_capabilities_is_taken_apart() {
        let text = "Name:\tUid: 7\nNSpid:\t4711\t12\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                    Groups:\t10 20 \nThreads:\t3\nCapEff:\t0000000000200080\n";
        let status = parse(text).unwrap();
        assert_eq!((status.ids.uid.0, status.ids.fsuid.0, status.ids.fsgid.0), (1, 4, 8));
        assert_eq!(status.groups, [10, 20]);
        assert_eq!(status.effective, 1 << 21 | 1 << 7);
        assert_eq!((status.innermost_tid, status.thread_count), (12, 3));
    }

    #[test]
    fn without_pid_namespaces_a_thread_has_one_id() {
        let text = "Pid:\t4711\nPPid:\t12\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                    Groups:\t \nThreads:\t1\nCapEff:\t0\n";
        assert_eq!(parse(text).unwrap().innermost_tid, 4711);
    }

    #[test]
    fn a_truncated_status_is_nothing() {
        assert_eq!(parse("Uid:\t1\t2\t3\nGid:\t1\t2\t3\t4\n"), None);
    }

    #[test]
    fn our_place_names_our_parent() {
        let place = place(std::process::id()).unwrap();
        assert_eq!(place.parent, nix::unistd::getppid().as_raw() as u32);
        let child = std::process::Command::new("sleep").arg("9").spawn();
        let mut child = child.unwrap();
        assert!(self::place(child.id()).unwrap().started_ticks >= place.started_ticks);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_program_is_told_from_the_one_before_it() {
        // A vforked child's parent goes on before the new program has its place.
        let often = |pid| std::iter::repeat_with(move || place(pid)?.image).take(100_000);
        let image = |pid| often(pid).flatten().next().unwrap();
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        assert_eq!(image(std::process::id()), image(std::process::id()));
        assert_ne!(image(std::process::id()), image(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn main_thread_comes_first() {
        let other = std::thread::spawn(std::thread::park);
        let tids = threads(std::process::id());
        assert_eq!(tids[0], std::process::id());
        assert!(tids.len() >= 2);
        other.thread().unpark();
        other.join().unwrap();
    }
}
