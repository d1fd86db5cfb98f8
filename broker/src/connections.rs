//! The connections there are, counted by user: one user's clients never take what
//! another's need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::{Connection, Talk};
use crate::fault::CutOff;

/// Bytes that the conversations of one user may hold: half frames and replies that
/// have not been read.
const HELD_PER_USER_MAX: usize = 128 * 1024 * 1024;
/// Bytes that all conversations may hold.
const HELD_MAX: usize = 512 * 1024 * 1024;
/// A conversation that holds no more than this is not counted.
const HELD_FREE: usize = 64 * 1024;

/// A connection with the conversation over it.
pub(crate) struct Line {
    /// Who, and over which socket.
    pub(crate) connection: Connection,
    talk: Mutex<Talk>,
}

impl Line {
    /// The conversation. Only the worker that the epoll woke for it, or
    /// housekeeping, asks for it.
    pub(crate) fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Use {
    connections: usize,
    held_len: usize,
}

#[derive(Default)]
struct Table {
    lines: HashMap<u64, Arc<Line>>,
    held_by_line: HashMap<u64, usize>,
    by_user: HashMap<u32, Use>,
    held_len: usize,
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) total_max: usize,
    /// Of one user.
    pub(crate) per_user_max: usize,
}

impl Limits {
    /// What a number of file descriptors allows: a connection comes with up to two
    /// pidfds, and half of all is for any one user.
    pub(crate) fn for_descriptors(descriptor_count: u64) -> Limits {
        let total_max = usize::try_from(descriptor_count.saturating_sub(128) / 3);
        let total_max = total_max.unwrap_or(usize::MAX).clamp(16, 64 * 1024);
        Limits { total_max, per_user_max: total_max / 2 }
    }
}

/// Every connection.
pub(crate) struct Connections {
    limits: Limits,
    table: Mutex<Table>,
}

impl Connections {
    /// None yet.
    pub(crate) fn new(limits: Limits) -> Connections {
        Connections { limits, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up a connection; gives it back when its user, or everybody together,
    /// has too many.
    pub(crate) fn add(&self, connection: Connection) -> Result<Arc<Line>, Connection> {
        let mut table = self.table();
        let total = table.lines.len();
        let used = table.by_user.entry(connection.peer.uid).or_default();
        if total >= self.limits.total_max || used.connections >= self.limits.per_user_max {
            return Err(connection);
        }
        used.connections += 1;
        let id = connection.id;
        let line = Arc::new(Line { connection, talk: Mutex::new(Talk::begin()) });
        table.lines.insert(id, Arc::clone(&line));
        Ok(line)
    }

    /// The connection of that number, as long as it stands.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Line>> {
        self.table().lines.get(&id).cloned()
    }

    /// Takes a connection out; `None` when it is out already.
    pub(crate) fn remove(&self, id: u64) -> Option<Arc<Line>> {
        let mut table = self.table();
        let line = table.lines.remove(&id)?;
        let held_len = table.held_by_line.remove(&id).unwrap_or_default();
        table.held_len -= held_len;
        let uid = line.connection.peer.uid;
        if let Some(used) = table.by_user.get_mut(&uid) {
            used.connections -= 1;
            used.held_len -= held_len;
            if used.connections == 0 {
                table.by_user.remove(&uid);
            }
        }
        Some(line)
    }

    /// Every connection, for housekeeping.
    pub(crate) fn all(&self) -> Vec<Arc<Line>> {
        self.table().lines.values().cloned().collect()
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table().lines.is_empty()
    }

    /// Notes what a conversation holds between two looks. Greedy when that is too
    /// much together with what its user's others hold.
    pub(crate) fn note_held(&self, id: u64, uid: u32, held_len: usize) -> Result<(), CutOff> {
        let counted_len = if held_len > HELD_FREE { held_len } else { 0 };
        let mut table = self.table();
        let before = match counted_len {
            0 => table.held_by_line.remove(&id),
            _ => table.held_by_line.insert(id, counted_len),
        }
        .unwrap_or_default();
        table.held_len = table.held_len - before + counted_len;
        let total = table.held_len;
        let used = table.by_user.entry(uid).or_default();
        used.held_len = used.held_len - before + counted_len;
        let fits = used.held_len <= HELD_PER_USER_MAX && total <= HELD_MAX;
        if fits { Ok(()) } else { Err(CutOff::Greedy) }
    }
}
