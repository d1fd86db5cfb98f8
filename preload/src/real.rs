//! What comes after us: the next symbol of a name, and errno.
#![allow(unsafe_code)] // symbols by name, errno by address

use core::ffi::{CStr, c_int, c_long};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The next definition of a function that we define as well, looked up once.
pub(crate) struct Next<Function> {
    name: &'static CStr,
    /// Its address, 0 until it was looked up.
    address: AtomicUsize,
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
        Next { name, address: AtomicUsize::new(0), function: PhantomData }
    }

    /// The function, or `None` where the C library does not have it.
    pub(crate) fn get(&self) -> Option<Function> {
        let mut address = self.address.load(Relaxed);
        if address == 0 {
            // SAFETY: a string; dlsym may be asked for any name.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) } as usize;
            self.address.store(address, Relaxed);
        }
        // SAFETY: by the promise made to `new`, what the name stands for is of this type.
        (address != 0).then(|| unsafe { core::mem::transmute_copy(&address) })
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
