//! How a function of the C library is replaced.
#![allow(unsafe_code)] // names that the program binds to, and its own calls passed on

use core::ffi::{CStr, c_int};

use crate::real::set_errno;

/// Defines a function under the C library's name. `ours` is an answer, or `None`
/// for the next function of that name; `after` sees what that one found; `then` hears
/// what `before` said, when that one is done.
macro_rules! hook {
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty, ours $ours:expr, else $absent:expr) => {
        $crate::hook::hook!(@define $name($($arg: $type),*) -> $result, next, {
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
        $crate::hook::hook!(@define $name($($arg: $type),*) -> $result, next, {
            let errno_before = $crate::real::errno();
            // SAFETY: the program's own call, unchanged.
            let found = next.map_or_else($crate::hook::absent, |next| unsafe { next($($arg),*) });
            $after(found, errno_before)
        });
    };
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty, before $before:expr, then $then:expr,
        else $absent:expr) => {
        $crate::hook::hook!(@define $name($($arg: $type),*) -> $result, next, {
            let before = $before;
            // SAFETY: the program's own call, unchanged.
            let result = next.map_or_else(|| $absent, |next| unsafe { next($($arg),*) });
            $then(before);
            result
        });
    };
    (@define $name:ident($($arg:ident: $type:ty),*) -> $result:ty, $next:ident, $body:block) => {
        #[doc = concat!("`", stringify!($name), "` of the C library.")]
        ///
        /// # Safety
        /// As for the C library's.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $result {
            use $crate::real::Next;
            type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
            const NAME: &core::ffi::CStr = $crate::hook::c_name(concat!(stringify!($name), "\0"));
            // SAFETY: the C library declares this name with these arguments; a variadic
            // one takes its last from the same register.
            static NEXT: Next<Function> = unsafe { Next::new(NAME) };
            let $next = NEXT.get();
            $body
        }
    };
}

/// A name as C has it; the literal ends in its NUL.
pub(crate) const fn c_name(name: &str) -> &CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => c"",
    }
}

/// The C library has no such function, so nobody can have called it there.
pub(crate) fn absent() -> c_int {
    set_errno(libc::ENOSYS);
    -1
}

pub(crate) use hook;
