//! The names by which programs open and look at files.
//!
//! Only exact absolute paths of the key service are answered here; everything else
//! goes on to the C library's own function, which is looked up once. They are
//! points where a thread may be cancelled, so they let an unwinding pass.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{CStr, c_char, c_int, c_uint};

use crate::files;
use crate::real::{Next, errno, returned, set_errno};
use crate::sys;

/// Defines a function under the C library's name. `ours` is an answer, or `None`
/// for the next function of that name; `after` sees what that one found.
macro_rules! hook {
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty, ours $ours:expr, else $absent:expr) => {
        hook!(@define $name($($arg: $type),*) -> $result, next, {
            if let Some(result) = $ours {
                return result;
            }
            match next {
                // SAFETY: the program's own call, unchanged.
                Some(next) => unsafe { next($($arg),*) },
                None => $absent,
            }
        });
    };
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty, after $after:expr) => {
        hook!(@define $name($($arg: $type),*) -> $result, next, {
            let errno_before = errno();
            // SAFETY: the program's own call, unchanged.
            let found = next.map_or_else(absent, |next| unsafe { next($($arg),*) });
            $after(found, errno_before)
        });
    };
    (@define $name:ident($($arg:ident: $type:ty),*) -> $result:ty, $next:ident, $body:block) => {
        #[doc = concat!("`", stringify!($name), "` of the C library.")]
        ///
        /// # Safety
        /// As for the C library's.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $result {
            type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
            const NAME: &CStr = c_name(concat!(stringify!($name), "\0"));
            // SAFETY: the C library declares this name with these arguments; a variadic
            // one takes its last from the same register.
            static NEXT: Next<Function> = unsafe { Next::new(NAME) };
            let $next = NEXT.get();
            $body
        }
    };
}

const fn c_name(name: &str) -> &CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => c"",
    }
}

/// The C library has no such function, so nobody can have called it there.
fn absent() -> c_int {
    set_errno(libc::ENOSYS);
    -1
}

fn opened(path: *const c_char, flags: c_int) -> Option<c_int> {
    files::open(path, flags).map(|result| returned(result) as c_int)
}

fn stream(path: *const c_char, mode: *const c_char) -> Option<*mut libc::FILE> {
    let fd = returned(files::open_by_mode(path, mode)?) as c_int;
    if fd < 0 {
        return Some(core::ptr::null_mut());
    }
    // SAFETY: a descriptor that nobody else has, and the program's own mode.
    let stream = unsafe { libc::fdopen(fd, mode) };
    if stream.is_null() {
        sys::close(fd);
    }
    Some(stream)
}

fn accessible(path: *const c_char, wanted: c_int, user: fn() -> u32) -> Option<c_int> {
    files::access(path, wanted, user).map(|result| returned(result) as c_int)
}

const CREATED: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

hook!(open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int,
    ours opened(path, flags), else absent());
hook!(open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int,
    ours opened(path, flags), else absent());
hook!(__open_2(path: *const c_char, flags: c_int) -> c_int,
    ours opened(path, flags), else absent());
hook!(__open64_2(path: *const c_char, flags: c_int) -> c_int,
    ours opened(path, flags), else absent());
hook!(openat(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int,
    ours opened(path, flags), else absent());
hook!(openat64(directory: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int,
    ours opened(path, flags), else absent());
hook!(__openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int,
    ours opened(path, flags), else absent());
hook!(__openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int,
    ours opened(path, flags), else absent());
hook!(creat(path: *const c_char, mode: c_uint) -> c_int,
    ours opened(path, CREATED), else absent());
hook!(creat64(path: *const c_char, mode: c_uint) -> c_int,
    ours opened(path, CREATED), else absent());
hook!(fopen(path: *const c_char, mode: *const c_char) -> *mut libc::FILE,
    ours stream(path, mode), else core::ptr::null_mut());
hook!(fopen64(path: *const c_char, mode: *const c_char) -> *mut libc::FILE,
    ours stream(path, mode), else core::ptr::null_mut());

hook!(access(path: *const c_char, wanted: c_int) -> c_int,
    ours accessible(path, wanted, sys::getuid), else absent());
hook!(eaccess(path: *const c_char, wanted: c_int) -> c_int,
    ours accessible(path, wanted, sys::geteuid), else absent());
hook!(euidaccess(path: *const c_char, wanted: c_int) -> c_int,
    ours accessible(path, wanted, sys::geteuid), else absent());
hook!(faccessat(directory: c_int, path: *const c_char, wanted: c_int, flags: c_int) -> c_int,
    ours accessible(path, wanted, user_by(flags)), else absent());

fn user_by(flags: c_int) -> fn() -> u32 {
    if flags & libc::AT_EACCESS != 0 { sys::geteuid } else { sys::getuid }
}

hook!(stat(path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(stat64(path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(lstat(path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(lstat64(path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(fstatat(directory: c_int, path: *const c_char, buffer: *mut libc::stat, flags: c_int) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(fstatat64(directory: c_int, path: *const c_char, buffer: *mut libc::stat, flags: c_int) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__xstat(version: c_int, path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__xstat64(version: c_int, path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__lxstat(version: c_int, path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__lxstat64(version: c_int, path: *const c_char, buffer: *mut libc::stat) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__fxstatat(version: c_int, directory: c_int, path: *const c_char, buffer: *mut libc::stat,
    flags: c_int) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(__fxstatat64(version: c_int, directory: c_int, path: *const c_char, buffer: *mut libc::stat,
    flags: c_int) -> c_int,
    after |found, before| files::correct_stat(path, buffer, found, before));
hook!(statx(directory: c_int, path: *const c_char, flags: c_int, mask: c_uint,
    buffer: *mut libc::statx) -> c_int,
    after |found, before| files::correct_statx(path, buffer, found, before));
