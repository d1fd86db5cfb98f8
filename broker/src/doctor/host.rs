//! What the kernel and this machine offer.

use std::fs;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::sockopt::PeerPidfd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socketpair};

use super::Finding;
use crate::events::Feed;
use crate::run::library::PRELOAD;
use crate::supervisor::notify;
use crate::{hardening, sys};

/// Everything about the machine.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![kernel(), pidfds(), peers(), credentials(), threads(), lineage()];
    findings.extend([children(), namespaces(), memory(), descriptors(), real_keys()]);
    findings
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    match release {
        Ok(release) => Finding::good("kernel", format!("Linux {}", release.trim())),
        Err(error) => Finding::broken(
            "kernel",
            format!("/proc: {error}"),
            "mount /proc; callers are told by it",
        ),
    }
}

fn pidfds() -> Finding {
    match sys::pidfd_open(std::process::id(), 0) {
        Ok(_) => Finding::good("pidfd", "processes can be held on to"),
        Err(errno) => Finding::broken(
            "pidfd",
            errno.to_string(),
            "Linux 5.3 or later is needed, or a sandbox \
             that allows pidfd_open",
        ),
    }
}

fn peers() -> Finding {
    const WHAT: &str = "socket peers";
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
    match pair.and_then(|(ours, _theirs)| getsockopt(&ours, PeerPidfd)) {
        Ok(_) => Finding::good(WHAT, "known by pidfd"),
        Err(Errno::ENOPROTOOPT) => Finding::lacking(
            WHAT,
            "known by number only",
            "from Linux 6.5 on the kernel tells them by pidfd",
        ),
        Err(errno) => Finding::broken(WHAT, errno.to_string(), "unix sockets are needed"),
    }
}

fn credentials() -> Finding {
    const WHAT: &str = "credentials";
    let pidfd = sys::pidfd_open(std::process::id(), 0);
    match pidfd.and_then(|pidfd| sys::pidfd_info(pidfd.as_fd())) {
        Ok(_) => Finding::good(WHAT, "read by PIDFD_GET_INFO"),
        Err(_) => Finding::lacking(
            WHAT,
            "read from /proc",
            "each call takes some 10 microseconds longer than with Linux 6.13 or later",
        ),
    }
}

fn threads() -> Finding {
    const WHAT: &str = "threads";
    match sys::pidfd_open(std::process::id(), libc::PIDFD_THREAD) {
        Ok(_) => Finding::good(WHAT, "known by pidfd"),
        Err(_) => Finding::lacking(
            WHAT,
            "known by number only",
            "before Linux 6.9 a thread's keyring is dropped when its process ends",
        ),
    }
}

fn lineage() -> Finding {
    const WHAT: &str = "lineage";
    match Feed::shared() {
        Some(_) => Finding::good(WHAT, "the kernel tells of every fork, execve and end"),
        None => Finding::lacking(
            WHAT,
            "inferred: whose session an unusual child has may be guessed wrong",
            "the kernel tells in the first pid and network namespaces, from Linux 6.6 on or to root",
        ),
    }
}

fn children() -> Finding {
    const WHAT: &str = "children";
    let own = std::process::id();
    match fs::read(format!("/proc/self/task/{own}/children")) {
        Ok(_) => Finding::good(WHAT, "listed by the kernel"),
        Err(_) => Finding::lacking(
            WHAT,
            "not listed (CONFIG_PROC_CHILDREN)",
            "a child that has not used keys before its parent changes session gets the new one",
        ),
    }
}

fn namespaces() -> Finding {
    const WHAT: &str = "user namespaces";
    if fs::read_link("/proc/self/ns/user").is_err() {
        let advice = "programs in containers count as the users that they are outside";
        return Finding::lacking(WHAT, "not in this kernel", advice);
    }
    match fs::read_to_string("/proc/sys/user/max_user_namespaces") {
        Ok(max) if max.trim() == "0" => {
            Finding::good(WHAT, "told apart; no new ones are allowed here")
        }
        _ => Finding::good(WHAT, "told apart"),
    }
}

fn memory() -> Finding {
    const WHAT: &str = "memory";
    if hardening::may_lock_memory() {
        return Finding::good(WHAT, "a broker keeps payloads out of swap");
    }
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(_, hard)| hard / 1024);
    Finding::lacking(
        WHAT,
        format!("not locked: RLIMIT_MEMLOCK is {limit} KiB"),
        "payloads may go to swap; allow it with `ulimit -l unlimited`, LimitMEMLOCK=infinity or \
         CAP_IPC_LOCK, or encrypt swap",
    )
}

fn descriptors() -> Finding {
    const WHAT: &str = "descriptors";
    const ENOUGH: u64 = 4096;
    match hardening::descriptor_limit() {
        limit if limit >= ENOUGH => Finding::good(WHAT, format!("{limit} files may be open")),
        limit => Finding::lacking(
            WHAT,
            format!("only {limit} files may be open"),
            "each thread that uses keys takes two or three; raise `ulimit -Hn`",
        ),
    }
}

/// The kernel's own service, which these keys are apart from.
fn real_keys() -> Finding {
    const WHAT: &str = "real key service";
    let preloaded = std::env::var_os(PRELOAD).unwrap_or_default();
    if preloaded.to_string_lossy().contains("libkeyshim") {
        return Finding::good(WHAT, "not asked: this process is under keyshim itself");
    }
    // Some kill whoever asks.
    if notify::is_under_filter() {
        return Finding::good(WHAT, "not asked: a filter is over this process");
    }
    match sys::keyctl_capabilities() {
        Ok(_) | Err(Errno::EOPNOTSUPP) => Finding::good(WHAT, "answers; not used by keyshim"),
        Err(Errno::ENOSYS) => Finding::good(WHAT, "absent (ENOSYS); not needed"),
        Err(errno) => Finding::good(WHAT, format!("refused ({errno}); not needed")),
    }
}
