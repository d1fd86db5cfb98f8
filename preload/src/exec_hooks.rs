//! The names by which programs execute others.
//!
//! execve takes a thread's own keyrings away, and nobody sees it but the one who does
//! it: so the broker is told right before, if it knows the process at all. Children
//! that were just forked to execute something else cost nothing.
//!
//! libc's functions do not call each other by these names: each has to be hooked. Not
//! `execl` and its kin, whose arguments nobody counts: of what they execute the broker
//! learns when it speaks.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{c_char, c_int, c_long};

use crate::client;
use crate::hook::{absent, hook};

/// A list of strings that ends with NULL.
type Strings = *const *const c_char;

/// Tells the broker before such a system call.
pub(crate) fn before(number: c_long) {
    if [libc::SYS_execve, libc::SYS_execveat].contains(&number) {
        client::announce_execve();
    }
}

/// Tells the broker, and answers nothing.
fn announced() -> Option<c_int> {
    client::announce_execve();
    None
}

hook!(execve(path: *const c_char, args: Strings, environment: Strings) -> c_int,
    ours announced(), else absent());
hook!(execv(path: *const c_char, args: Strings) -> c_int, ours announced(), else absent());
hook!(execvp(file: *const c_char, args: Strings) -> c_int, ours announced(), else absent());
hook!(execvpe(file: *const c_char, args: Strings, environment: Strings) -> c_int,
    ours announced(), else absent());
hook!(fexecve(file: c_int, args: Strings, environment: Strings) -> c_int,
    ours announced(), else absent());
hook!(execveat(at: c_int, path: *const c_char, args: Strings, environment: Strings, flags: c_int)
    -> c_int, ours announced(), else absent());
