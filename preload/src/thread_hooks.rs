//! The names by which programs start threads.
//!
//! A thread begins with the session and process keyrings of the one that started it,
//! and the kernel tells nobody which one that was. Nearly always it is the main thread,
//! or one that has the same; the broker is told of the others.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{c_int, c_void};

use crate::client;
use crate::hook::hook;

/// What a thread begins with, in POSIX and in C.
type PosixStart = Option<extern "C" fn(*mut c_void) -> *mut c_void>;
type CStart = Option<extern "C" fn(*mut c_void) -> c_int>;
type Attributes = *const libc::pthread_attr_t;

/// `thrd_error` of `threads.h`.
const THREAD_ERROR: c_int = 2;

fn announced() -> bool {
    client::announce_thread(false)
}

fn done(is_told: bool) {
    if is_told {
        client::announce_thread(true);
    }
}

hook!(pthread_create(
    thread: *mut libc::pthread_t, attributes: Attributes, start: PosixStart, argument: *mut c_void
) -> c_int, before announced(), then done, else libc::EAGAIN);
hook!(thrd_create(thread: *mut libc::pthread_t, start: CStart, argument: *mut c_void) -> c_int,
    before announced(), then done, else THREAD_ERROR);
