//! Those who write what a late answer brings into its caller's memory.
//!
//! That may take for as long as the caller likes, or somebody whom it has asked to fill its
//! pages. Whoever has made the key that it waited for has other callers to attend to; so
//! threads of its filter's own write, and only calls under that filter wait for one of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyshim_abi::Errno;
use keyshim_abi::reply::Answer;
use keyshim_keys::Data;

use super::{Supervisor, Trapped};
use crate::server;

/// Threads that write for one filter.
const SCRIBES_MAX: usize = 8;
/// Answers that wait until one of them has time.
const QUEUE_MAX: usize = 4096;

/// An answer with data.
pub(super) struct Late {
    pub(super) trapped: Box<Trapped>,
    pub(super) answer: Answer,
    pub(super) data: Data,
}

impl Late {
    fn write(self) {
        self.trapped.write(self.answer, &self.data.0);
    }

    /// There is nobody who could write it.
    fn refuse(self) {
        tracing::warn!("a late answer is dropped: too many wait to be written");
        self.trapped.write(Err(Errno::ENOMEM), &[]);
    }
}

/// One filter's, of whom there are none unless there is something to write.
#[derive(Default)]
pub(super) struct Scribes(Mutex<Desk>);

#[derive(Default)]
struct Desk {
    queue: VecDeque<Late>,
    at_work: usize,
}

impl Scribes {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has an answer written. Never waits.
pub(super) fn write(supervisor: &Arc<Supervisor>, late: Late) {
    let mut desk = supervisor.scribes.desk();
    if desk.queue.len() >= QUEUE_MAX {
        drop(desk);
        return late.refuse();
    }
    desk.queue.push_back(late);
    if desk.at_work == SCRIBES_MAX {
        return;
    }
    let own = Arc::clone(supervisor);
    match server::spawn("scribe".into(), move || work(&own)) {
        Ok(_) => desk.at_work += 1,
        // Without anybody at work nobody would ever look for it.
        Err(fault) if desk.at_work == 0 => {
            tracing::error!("no scribe: {fault}");
            let left = desk.queue.pop_back();
            drop(desk);
            left.into_iter().for_each(Late::refuse);
        }
        Err(fault) => tracing::info!("no further scribe: {fault}"),
    }
}

/// A scribe's life: until there is nothing more to write.
fn work(supervisor: &Supervisor) {
    loop {
        let mut desk = supervisor.scribes.desk();
        let Some(late) = desk.queue.pop_front() else {
            desk.at_work -= 1;
            return;
        };
        drop(desk);
        late.write();
    }
}
