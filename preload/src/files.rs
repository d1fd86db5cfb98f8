//! The files under `/proc` as this key universe has them.
//!
//! An open file for reading is a file in memory with the text of that moment; the
//! kernel's own makes its text at the first read. A knob open for writing is a
//! socket to the broker, so that plain writes reach it; it cannot be read, and a
//! value that the kernel would refuse at the write is passed over in silence.
#![allow(unsafe_code)] // two plain structures of the kernel's, zeroed

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;

use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::user_memory::UserMemory;

use crate::client;
use crate::fault::Fault;
use crate::memory::{self, OwnMemory, proc_file};
use crate::real;
use crate::sys;
use crate::text::Text;

/// Block size of files under `/proc`.
const BLOCK_LEN: u32 = 1024;

/// Opens a path: the descriptor, or an error as a negative number. `None` when the
/// real file is to be opened: the path is not ours, or nobody serves us, or the
/// kernel's own refusal is the right one.
pub(crate) fn open(path: *const c_char, flags: c_int) -> Option<i64> {
    let file = proc_file(path)?;
    if flags & libc::O_PATH != 0 {
        return None;
    }
    let outcome = match (file, flags & libc::O_ACCMODE) {
        _ if flags & libc::O_DIRECTORY != 0 => refused(libc::ENOTDIR)?,
        _ if flags & libc::O_CREAT != 0 && flags & libc::O_EXCL != 0 => refused(libc::EEXIST)?,
        (file, libc::O_RDONLY) => open_text(file, flags),
        (ProcFile::Knob(knob), access) => open_knob(knob, access, flags),
        // The kernel's file takes no writes either: EACCES, for root EIO at the write.
        (_, libc::O_WRONLY) => return None,
        (file, _) if sys::geteuid() == 0 => open_text(file, flags),
        _ => refused(libc::EACCES)?,
    };
    match outcome {
        Err(Fault::NoBroker) => None,
        Err(_) => Some(-i64::from(libc::EIO)),
        Ok(result) => Some(result),
    }
}

/// The same for `fopen(3)`, whose mode becomes the flags of open. The descriptor.
pub(crate) fn open_by_mode(path: *const c_char, mode: *const c_char) -> Option<i64> {
    proc_file(path)?;
    let mut letters = [0; 16];
    let len = OwnMemory.read_string(mode as u64, &mut letters).ok()?.unwrap_or(letters.len());
    let has = |letter: u8| letters[..len].contains(&letter);
    let access = match (has(b'+'), letters[0]) {
        (true, _) => libc::O_RDWR,
        (false, b'r') => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    };
    let cloexec = if has(b'e') { libc::O_CLOEXEC } else { 0 };
    let exclusive = if has(b'x') { libc::O_CREAT | libc::O_EXCL } else { 0 };
    open(path, access | cloexec | exclusive)
}

/// A refusal that stands only where we are served.
fn refused(errno: c_int) -> Option<Result<i64, Fault>> {
    client::is_served().then_some(Ok(-i64::from(errno)))
}

fn open_text(file: ProcFile, flags: c_int) -> Result<i64, Fault> {
    // First, so that it gets the number that the program counts on: the lowest.
    let fd = sys::memory_file(c"keys", libc::MFD_CLOEXEC).map_err(|_| Fault::NoRoom)?;
    let mut is_written = true;
    let answer = client::read_file(file, |piece| {
        is_written &= piece.is_empty() || sys::write(fd, piece) == Ok(piece.len());
    });
    let refusal = match answer {
        Ok(Ok(_)) if is_written => {
            finish_text(fd, flags);
            return Ok(i64::from(fd));
        }
        Ok(Ok(_)) => Ok(-i64::from(libc::ENOMEM)),
        Ok(Err(errno)) => Ok(-i64::from(errno.raw())),
        Err(fault) => Err(fault),
    };
    sys::close(fd);
    refusal
}

/// Puts the position at the beginning and takes away the right to write.
fn finish_text(fd: i32, flags: c_int) {
    sys::rewind(fd);
    let cloexec = flags & libc::O_CLOEXEC;
    let mut room = [0; 32];
    let name = Text::within(&mut room).with(b"/proc/self/fd/").with_number(fd as u32).finish();
    let is_readable_only = flags & libc::O_ACCMODE == libc::O_RDONLY;
    match name.filter(|_| is_readable_only).map(|name| sys::open(name, libc::O_CLOEXEC)) {
        Some(Ok(reopened)) => {
            sys::replace(fd, reopened, cloexec);
            sys::close(reopened);
        }
        // Without a /proc, as after a chroot, it stays writable: only to the program itself.
        _ if cloexec == 0 => sys::keep_over_exec(fd),
        _ => {}
    }
}

fn open_knob(knob: Knob, access: c_int, flags: c_int) -> Result<i64, Fault> {
    let fd = match client::open_knob(knob)? {
        Ok(fd) => fd,
        Err(errno) => return Ok(-i64::from(errno.raw())),
    };
    if access == libc::O_RDWR {
        // A reader finds an end, and does not wait for what never comes.
        sys::shutdown(fd, libc::SHUT_RD);
    }
    if flags & libc::O_CLOEXEC == 0 {
        sys::keep_over_exec(fd);
    }
    Ok(i64::from(fd))
}

/// The file that a path names, where we are served.
fn served(path: *const c_char) -> Option<ProcFile> {
    proc_file(path).filter(|_| client::is_served())
}

/// What `access(2)` says to a user about a file: 0, or an error as a negative number.
pub(crate) fn access(path: *const c_char, wanted: c_int, user: fn() -> u32) -> Option<i64> {
    let file = served(path)?;
    let writable = user() == 0 || file.mode() & 0o002 != 0;
    let errno = match wanted {
        _ if wanted & !(libc::R_OK | libc::W_OK | libc::X_OK) != 0 => libc::EINVAL,
        _ if wanted & libc::X_OK != 0 => libc::EACCES,
        _ if wanted & libc::W_OK != 0 && !writable => libc::EACCES,
        _ => 0,
    };
    Some(-i64::from(errno))
}

/// Corrects what `stat(2)` and its kin found. The number that they are to return.
pub(crate) fn correct_stat(
    path: *const c_char,
    buffer: *mut libc::stat,
    found: c_int,
    errno_before: c_int,
) -> c_int {
    let Some(file) = served(path) else { return found };
    // SAFETY: all zeroes is a value of this plain structure.
    let mut stat: libc::stat = unsafe { MaybeUninit::zeroed().assume_init() };
    if found != 0 || !memory::read_plain(buffer as u64, &mut stat) {
        // SAFETY: as above; a buffer that cannot be read may hold half of it.
        stat = unsafe { MaybeUninit::zeroed().assume_init() };
        stat.st_dev = sys::lstat(c"/proc").map_or(0, |facts| facts.device);
        stat.st_blksize = BLOCK_LEN as _;
    }
    stat.st_mode = libc::S_IFREG | file.mode();
    (stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_rdev) = (1, 0, 0, 0);
    (stat.st_size, stat.st_blocks) = (0, 0);
    corrected(memory::write_plain(buffer as u64, &stat), errno_before)
}

/// The same for `statx(2)`.
pub(crate) fn correct_statx(
    path: *const c_char,
    buffer: *mut libc::statx,
    found: c_int,
    errno_before: c_int,
) -> c_int {
    let Some(file) = served(path) else { return found };
    // SAFETY: all zeroes is a value of this plain structure.
    let mut statx: libc::statx = unsafe { MaybeUninit::zeroed().assume_init() };
    if found != 0 || !memory::read_plain(buffer as u64, &mut statx) {
        // SAFETY: as above.
        statx = unsafe { MaybeUninit::zeroed().assume_init() };
        statx.stx_blksize = BLOCK_LEN;
    }
    statx.stx_mask |= libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_NLINK | libc::STATX_UID;
    statx.stx_mask |= libc::STATX_GID | libc::STATX_SIZE | libc::STATX_BLOCKS;
    statx.stx_mode = (libc::S_IFREG | file.mode()) as u16;
    (statx.stx_nlink, statx.stx_uid, statx.stx_gid) = (1, 0, 0);
    (statx.stx_size, statx.stx_blocks) = (0, 0);
    (statx.stx_rdev_major, statx.stx_rdev_minor) = (0, 0);
    corrected(memory::write_plain(buffer as u64, &statx), errno_before)
}

fn corrected(is_written: bool, errno_before: c_int) -> c_int {
    real::set_errno(if is_written { errno_before } else { libc::EFAULT });
    if is_written { 0 } else { -1 }
}
