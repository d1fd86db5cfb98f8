//! A payload in pieces, `struct iovec`, gathered.

use super::{Fetch, Width, within_user_half};
use crate::errno::Errno;
use crate::limits::{ADD_PAYLOAD_LEN_MAX, IOV_COUNT_MAX};
use crate::request::{Fetched, Payload};
use crate::user_memory::UserMemory;

/// Bytes of one segment as it is kept here, and as 64-bit programs have it.
const SEGMENT_LEN: usize = 16;

/// Bytes of scratch memory that a scattered payload takes at most.
pub(super) fn scratch_len(address: u64, count: u32) -> usize {
    match u64::from(count) {
        1..=IOV_COUNT_MAX if address != 0 => {
            ADD_PAYLOAD_LEN_MAX as usize + count as usize * SEGMENT_LEN
        }
        _ => 0,
    }
}

/// The payload behind an array of segments. Errors in order (`import_iovec`): more
/// than 1024 of them EINVAL; of each in turn, a bad address of the segment EFAULT, a
/// negative length EINVAL; of each in turn, bytes where no program has memory EFAULT;
/// then the total above 1 MiB - 1, EINVAL. That the bytes themselves cannot be read is
/// no error yet: Linux copies them after it has asked for authority.
pub(super) fn scattered<'s, M: UserMemory>(
    fetch: &mut Fetch<'_, 's, M>,
    address: u64,
    count: u32,
) -> Fetched<Payload<'s>> {
    let count = if address == 0 { 0 } else { u64::from(count) };
    if count > IOV_COUNT_MAX {
        return Err(Errno::EINVAL);
    }
    let segments = fetch.scratch.take(count as usize * SEGMENT_LEN)?;
    for (kept, index) in segments.chunks_exact_mut(SEGMENT_LEN).zip(0..) {
        let (base, len) = segment(fetch.memory, fetch.width, address, index)?;
        let (base_kept, len_kept) = kept.split_at_mut(8);
        base_kept.copy_from_slice(&base.to_le_bytes());
        len_kept.copy_from_slice(&len.to_le_bytes());
    }
    let mut total = 0u64;
    for (base, len) in each(segments) {
        within_user_half(base, len)?;
        total = total.saturating_add(len);
    }
    if total > ADD_PAYLOAD_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    gather(fetch, segments, total)
}

fn each(segments: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    segments.chunks_exact(SEGMENT_LEN).map(|kept| {
        let word = |from: usize| core::array::from_fn(|at| kept[from + at]);
        (u64::from_le_bytes(word(0)), u64::from_le_bytes(word(8)))
    })
}

/// The bytes of each segment behind those of the one before.
fn gather<'s, M: UserMemory>(
    fetch: &mut Fetch<'_, 's, M>,
    segments: &[u8],
    total: u64,
) -> Fetched<Payload<'s>> {
    let buffer = fetch.scratch.take(total as usize)?;
    let mut at = 0;
    for (base, len) in each(segments) {
        let piece = &mut buffer[at..at + len as usize];
        if !piece.is_empty() && fetch.memory.read(base, piece).is_err() {
            return Ok(Payload::Unreadable(total));
        }
        at += len as usize;
    }
    Ok(Payload::Carried(buffer))
}

/// Address and length in one `struct iovec` of an array, or `struct compat_iovec`.
fn segment(
    memory: &impl UserMemory,
    width: Width,
    address: u64,
    index: u64,
) -> Fetched<(u64, u64)> {
    let at = |size: u64| address.checked_add(index * size).ok_or(Errno::EFAULT);
    let (base, len) = match width {
        Width::Bits64 => {
            let mut segment = [[0u8; 8]; 2];
            memory.read(at(16)?, segment.as_flattened_mut())?;
            (u64::from_le_bytes(segment[0]), i64::from_le_bytes(segment[1]))
        }
        Width::Bits32 => {
            let mut segment = [[0u8; 4]; 2];
            memory.read(at(8)?, segment.as_flattened_mut())?;
            let len = i32::from_le_bytes(segment[1]);
            (u64::from(u32::from_le_bytes(segment[0])), i64::from(len))
        }
    };
    u64::try_from(len).map(|len| (base, len)).map_err(|_| Errno::EINVAL)
}
