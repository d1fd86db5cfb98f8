//! What is hooked and what is not.
#![cfg_attr(not(test), no_std)]

mod autostart;
mod client;
mod door;
mod environment;
mod fault;
pub mod file_hooks;
mod files;
pub mod hooks;
mod memory;
mod process;
mod quiet;
mod real;
mod scratch;
mod seat;
mod slots;
mod socket;
mod start;
mod sys;
mod text;

/// Nothing here panics by design; a mistake of ours must not go on in somebody
/// else's process.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::abort()
}
