//! The three system calls, under the names by which programs make them.
//!
//! The names are those of libkeyutils (whose own are weak) and libc. Variadic ones
//! are defined with all the arguments that they can have: on x86-64 and AArch64 the
//! callee finds them in the same registers, or reads a stack word that nobody set.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{c_int, c_long};

use keyshim_abi::marshal::{Entry, RawCall};
use keyshim_abi::uapi::NATIVE;

use crate::client;
use crate::exec_hooks;
use crate::real::returned;
use crate::road_hooks;
use crate::sys;

/// `add_key(2)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn add_key(
    type_name: c_long,
    description: c_long,
    payload: c_long,
    payload_len: c_long,
    keyring: c_long,
) -> c_long {
    key_call(Entry::AddKey, [type_name, description, payload, payload_len, keyring])
}

/// `request_key(2)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn request_key(
    type_name: c_long,
    description: c_long,
    callout: c_long,
    destination: c_long,
) -> c_long {
    key_call(Entry::RequestKey, [type_name, description, callout, destination, 0])
}

/// `keyctl(2)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn keyctl(operation: c_int, a: c_long, b: c_long, c: c_long, d: c_long) -> c_long {
    key_call(Entry::Keyctl, [c_long::from(operation), a, b, c, d])
}

/// `syscall(2)`: the three calls are ours, all others go to the kernel.
///
/// # Safety
/// As for the system call that the number names.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // The kernel looks at 32 bits of the number.
    let entered = i64::from(number as i32);
    match RawCall::from_number(&NATIVE, entered, registers([a, b, c, d, e])) {
        Some(raw) => returned(client::call(&raw)),
        None => {
            road_hooks::before(number);
            exec_hooks::before(number);
            // SAFETY: the program's own call, unchanged.
            returned(unsafe { sys::bare(number, [a, b, c, d, e, f]) })
        }
    }
}

fn key_call(entry: Entry, args: [c_long; 5]) -> c_long {
    returned(client::call(&RawCall::native(entry, registers(args))))
}

fn registers(args: [c_long; 5]) -> [u64; 5] {
    args.map(|arg| arg as u64)
}
