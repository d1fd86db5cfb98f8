//! The names by which programs give up the road to their broker.
//!
//! Another root or network, another user, a filter of system calls: afterwards the
//! broker's address may mean nothing, or may not be connected to. Most programs make
//! no key call at all, so the door is not opened when they start, but at their first
//! key call, or here, when it may be the last chance.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{c_char, c_int, c_long, c_ulong};

use crate::door;
use crate::hook::{absent, hook};

/// System calls by number that give up the road.
const GIVING_UP: [c_long; 10] = [
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_landlock_restrict_self,
];

/// Opens the door before such a call.
pub(crate) fn before(number: c_long) {
    if GIVING_UP.contains(&number) {
        door::open_early();
    }
}

/// Opens the door, and answers nothing.
fn opened_first<T>() -> Option<T> {
    door::open_early();
    None
}

/// The same for the operations of prctl that forbid system calls.
fn opened_before<T>(operation: c_int) -> Option<T> {
    match operation {
        libc::PR_SET_SECCOMP | libc::PR_SET_NO_NEW_PRIVS => opened_first(),
        _ => None,
    }
}

hook!(chroot(path: *const c_char) -> c_int, ours opened_first(), else absent());
hook!(unshare(flags: c_int) -> c_int, ours opened_first(), else absent());
hook!(setns(namespace: c_int, kind: c_int) -> c_int, ours opened_first(), else absent());
hook!(setuid(user: libc::uid_t) -> c_int, ours opened_first(), else absent());
hook!(seteuid(user: libc::uid_t) -> c_int, ours opened_first(), else absent());
hook!(setreuid(real: libc::uid_t, effective: libc::uid_t) -> c_int,
    ours opened_first(), else absent());
hook!(setresuid(real: libc::uid_t, effective: libc::uid_t, saved: libc::uid_t) -> c_int,
    ours opened_first(), else absent());
hook!(prctl(operation: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int,
    ours opened_before(operation), else absent());
