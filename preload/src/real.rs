//! What comes after us: the next symbol of a name, and errno.
#![allow(unsafe_code)] // symbols by name, errno by address

use core::ffi::{CStr, c_int, c_long};
use core::marker::PhantomData;
use core::num::NonZeroUsize;

use once_cell::race::OnceNonZeroUsize;

/// The next definition of a function that we define as well, looked up once.
pub(crate) struct Next<Function> {
    name: &'static CStr,
    address: OnceNonZeroUsize,
    function: PhantomData<Function>,
}

impl<Function: Copy> Next<Function> {
    /// The next function of that name.
    ///
    /// # Safety
    /// `Function` is a pointer to an `extern "C"` function, and the C library
    /// defines this name, if at all, with exactly those arguments and that result.
    pub(crate) const unsafe fn new(name: &'static CStr) -> Next<Function> {
        assert!(size_of::<Function>() == size_of::<usize>());
        Next { name, address: OnceNonZeroUsize::new(), function: PhantomData }
    }

    /// The function, or `None` where the C library does not have it.
    pub(crate) fn get(&self) -> Option<Function> {
        let found = self.address.get_or_try_init(|| {
            // SAFETY: a string; dlsym may be asked for any name.
            let symbol = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            NonZeroUsize::new(symbol as usize).ok_or(())
        });
        // SAFETY: by the promise made to `new`, what the name stands for is of this type.
        found.ok().map(|address| unsafe { core::mem::transmute_copy(&address.get()) })
    }
}

/// What tells the threads of this process apart.
pub(crate) fn thread() -> usize {
    // SAFETY: no arguments, no failure.
    unsafe { libc::pthread_self() as usize }
}

/// Gives the program a result as libc does: errno is set for an error, and left
/// alone otherwise.
pub(crate) fn returned(result: i64) -> c_long {
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result as c_long
}

/// The thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: libc gives the address of this thread's errno, always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets the thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
