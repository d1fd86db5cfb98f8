//! What happens when the library is loaded: a few system calls, no allocation, and
//! nothing that can fail the program.
#![allow(unsafe_code)] // code before main

use crate::{door, environment, process};

ctor::declarative::ctor! {
    // SAFETY: runs before main in the only thread there is, uses neither the standard
    // library nor anything that another constructor must have set up.
    #[ctor(unsafe)]
    fn start() {
        environment::note();
        process::begin();
        door::open_early();
    }
}
