//! What the environment said at the start.
//!
//! Copied in the constructor, because a program may clear or rewrite its environment
//! at any time, with no lock that a hook could take.
#![allow(unsafe_code)] // statics written once, getenv, dladdr

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::sys;
use crate::text::Text;

/// Bytes that are written once, before there is a second thread, and then only read.
pub(crate) struct Note<const LEN: usize> {
    bytes: UnsafeCell<[u8; LEN]>,
    /// How many there are; 0 until they are written.
    len: AtomicUsize,
}

// SAFETY: `set` runs in the constructor only, once; readers see nothing before its
// final store of `len`.
unsafe impl<const LEN: usize> Sync for Note<LEN> {}

impl<const LEN: usize> Note<LEN> {
    const fn new() -> Note<LEN> {
        Note { bytes: UnsafeCell::new([0; LEN]), len: AtomicUsize::new(0) }
    }

    /// Notes a text; one that is too long is left out.
    fn set(&self, text: &[u8]) {
        if self.len.load(Ordering::Relaxed) == 0 && text.len() <= LEN {
            // SAFETY: nobody reads while `len` is 0, and only the constructor writes.
            unsafe { (&mut *self.bytes.get())[..text.len()].copy_from_slice(text) };
            self.len.store(text.len(), Ordering::Release);
        }
    }

    /// The text, empty where nothing was noted.
    pub(crate) fn get(&self) -> &[u8] {
        let len = self.len.load(Ordering::Acquire);
        // SAFETY: written before `len` was set, and never again.
        unsafe { &(&*self.bytes.get())[..len] }
    }
}

/// `KEYSHIM_SOCKET`, or the user's default address.
pub(crate) static ADDRESSES: Note<1024> = Note::new();
/// `KEYSHIM_BROKER`.
pub(crate) static BROKER: Note<4096> = Note::new();
/// The directory that this library was loaded from.
pub(crate) static LIBRARY_DIRECTORY: Note<4096> = Note::new();
/// `XDG_RUNTIME_DIR`, where the default address was made of it.
pub(crate) static RUNTIME_DIRECTORY: Note<256> = Note::new();
/// True when the address is the user's default: then a broker may be started.
static IS_DEFAULT: AtomicBool = AtomicBool::new(false);
/// Whose default.
static USER: AtomicU32 = AtomicU32::new(0);

/// Notes everything. Once, in the constructor.
pub(crate) fn note() {
    if let Some(addresses) = variable(c"KEYSHIM_SOCKET") {
        ADDRESSES.set(addresses);
        return;
    }
    let user = sys::getuid();
    USER.store(user, Ordering::Relaxed);
    let mut room = [0; 108];
    let text = Text::within(&mut room);
    let address = match variable(c"XDG_RUNTIME_DIR").filter(|text| text.starts_with(b"/")) {
        Some(directory) => {
            RUNTIME_DIRECTORY.set(directory);
            text.with(directory).with(b"/keyshim/default")
        }
        None => text.with(b"/tmp/keyshim-").with_number(user).with(b"/default"),
    };
    ADDRESSES.set(address.finish().unwrap_or_default().to_bytes());
    IS_DEFAULT.store(true, Ordering::Release);
    match variable(c"KEYSHIM_BROKER") {
        Some(broker) => BROKER.set(broker),
        None => note_library_directory(),
    }
}

/// The user whose default address we use; `None` when the address was given.
pub(crate) fn default_of() -> Option<u32> {
    IS_DEFAULT.load(Ordering::Acquire).then(|| USER.load(Ordering::Relaxed))
}

fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: in the constructor there is one thread, and nobody changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: getenv gives NULL or a string, which stays for the constructor's time.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_bytes())
}

/// The loader's name for us may be relative to where the program was started.
fn note_library_directory() {
    let mut about = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked about; the result lies in `about`.
    let found = unsafe { libc::dladdr(core::ptr::from_ref(&ADDRESSES).cast(), about.as_mut_ptr()) };
    // SAFETY: zeroes are a value of this plain structure.
    let name = unsafe { about.assume_init_ref() }.dli_fname;
    if found == 0 || name.is_null() {
        return;
    }
    // SAFETY: dladdr gave a string of the loader's, which stays while we are loaded.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let directory = name.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |at| &name[..at]);
    if name.starts_with(b"/") {
        LIBRARY_DIRECTORY.set(directory);
        return;
    }
    let mut here = [0; 4096];
    let len = sys::working_directory(&mut here).unwrap_or_default();
    let here = here[..len].strip_suffix(b"\0").unwrap_or_default();
    let mut room = [0; 4096];
    let absolute = Text::within(&mut room).with(here).with(b"/").with(directory).finish();
    LIBRARY_DIRECTORY.set(absolute.unwrap_or_default().to_bytes());
}
