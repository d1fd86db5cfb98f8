//! Starts the user's own broker when nobody answers at the default address.
//!
//! By a raw double fork, so that the program never sees a child of ours: the first
//! child raises no SIGCHLD and is waited for here, the second belongs to init. It
//! takes nothing of the program with it but its ids.
#![allow(unsafe_code)] // fork, exec, and what a child does between the two

use core::ffi::{CStr, c_char, c_long};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::environment::{self, BROKER, LIBRARY_DIRECTORY, RUNTIME_DIRECTORY};
use crate::fault::Fault;
use crate::quiet::Patience;
use crate::scratch::Scratch;
use crate::socket::Socket;
use crate::sys;
use crate::text::Text;

/// How long a new broker has to open its door.
const START_WAIT_MS: u32 = 2_000;
/// How often to look.
const LOOK_EVERY_MS: u32 = 5;
/// How soon after a vain start to try another.
const RETRY_AFTER_MS: u64 = 10_000;
/// Bytes of a path, its NUL included.
const PATH_LEN_MAX: usize = 4096;
/// Where the program may be, from the directory of this library.
const PLACES: [&[u8]; 3] = [b"/keyshim", b"/../bin/keyshim", b"/../../bin/keyshim"];

/// When a broker was last started; 0 is never.
static STARTED_MS: AtomicU64 = AtomicU64::new(0);

/// Starts a broker and waits until `connect` succeeds. `None` when the address was
/// given by hand, no program is found, or it does not come up in two seconds.
pub(crate) fn start(
    patience: &mut Patience<'_>,
    connect: impl Fn() -> Result<Socket, Fault>,
) -> Option<Socket> {
    if environment::default_of() != Some(sys::getuid()) || !may_try_again() {
        return None;
    }
    let mut room = Scratch::mapped(2 * PATH_LEN_MAX).ok()?;
    let (path_room, variable_room) = room.bytes().split_at_mut(PATH_LEN_MAX);
    let program = find_program(path_room)?;
    let variable = runtime_directory(variable_room);
    launch(program, variable);
    for _ in 0..START_WAIT_MS / LOOK_EVERY_MS {
        if let Ok(door) = connect() {
            return Some(door);
        }
        patience.sleep(LOOK_EVERY_MS).ok()?;
    }
    None
}

/// At most one start in ten seconds: each costs two of them when it is in vain.
fn may_try_again() -> bool {
    let now_ms = sys::clock_ms().max(1);
    let last_ms = STARTED_MS.load(Relaxed);
    if last_ms != 0 && now_ms.saturating_sub(last_ms) < RETRY_AFTER_MS {
        return false;
    }
    STARTED_MS.compare_exchange(last_ms, now_ms, Relaxed, Relaxed).is_ok()
}

/// `KEYSHIM_BROKER`, or a neighbour of this library.
fn find_program(room: &mut [u8]) -> Option<&CStr> {
    if !BROKER.get().is_empty() {
        let given = Text::within(room).with(BROKER.get()).finish();
        return given.filter(|path| sys::is_executable(path));
    }
    let directory = LIBRARY_DIRECTORY.get();
    if directory.is_empty() {
        return None;
    }
    let is_there = |room: &mut [u8], place: &[u8]| {
        let path = Text::within(room).with(directory).with(place).finish();
        path.is_some_and(sys::is_executable)
    };
    let place = PLACES.into_iter().find(|place| is_there(room, place))?;
    Text::within(room).with(directory).with(place).finish()
}

/// The broker must come to the same default address as we did.
fn runtime_directory(room: &mut [u8]) -> Option<&CStr> {
    let directory = RUNTIME_DIRECTORY.get();
    if directory.is_empty() {
        return None;
    }
    Text::within(room).with(b"XDG_RUNTIME_DIR=").with(directory).finish()
}

/// Runs the program as `keyshim broker --autostart`, a process of its own.
fn launch(program: &CStr, variable: Option<&CStr>) {
    match fork() {
        0 => {
            plain(libc::SYS_setsid, []);
            if fork() == 0 {
                become_broker(program, variable);
            }
            leave(0);
        }
        child if child > 0 => {
            plain(libc::SYS_wait4, [child, 0, c_long::from(libc::__WALL), 0]);
        }
        _ => {}
    }
}

/// 0 in the child. No signal is raised when it ends, so that only a wait which
/// asks for it finds it.
fn fork() -> c_long {
    // SAFETY: no flag, no stack: a plain fork. The child goes on with a copy of
    // everything and makes only bare system calls until it executes or leaves.
    unsafe { sys::bare(libc::SYS_clone, [0; 6]) }
}

/// A call whose arguments are numbers, or addresses of what outlives the call.
fn plain<const COUNT: usize>(number: c_long, given: [c_long; COUNT]) -> c_long {
    let mut args = [0; 6];
    args[..COUNT].copy_from_slice(&given);
    // SAFETY: only used below, in children that have nothing of the program to break,
    // and to wait for the first of them.
    unsafe { sys::bare(number, args) }
}

fn leave(status: c_long) -> ! {
    loop {
        plain(libc::SYS_exit_group, [status]);
    }
}

fn become_broker(program: &CStr, variable: Option<&CStr>) -> ! {
    const LAST: c_long = u32::MAX as c_long;
    if plain(libc::SYS_close_range, [3, LAST, 0]) < 0 {
        for fd in 3..c_long::try_from(sys::descriptors_max().min(65_536)).unwrap_or(65_536) {
            plain(libc::SYS_close, [fd]);
        }
    }
    if let Ok(null) = sys::open(c"/dev/null", libc::O_RDWR) {
        for standard in (0..3).filter(|&standard| standard != null) {
            plain(libc::SYS_dup3, [c_long::from(null), c_long::from(standard), 0]);
        }
        if null > 2 {
            sys::close(null);
        }
    }
    plain(libc::SYS_chdir, [c"/".as_ptr() as c_long]);
    (1..=64).for_each(sys::set_default_action);
    sys::set_signal_mask(0);
    let end = core::ptr::null::<c_char>();
    let arguments = [c"keyshim".as_ptr(), c"broker".as_ptr(), c"--autostart".as_ptr(), end];
    let variables = [variable.map_or(end, CStr::as_ptr), end];
    let [arguments, variables] = [arguments.as_ptr() as c_long, variables.as_ptr() as c_long];
    plain(libc::SYS_execve, [program.as_ptr() as c_long, arguments, variables]);
    leave(127)
}
