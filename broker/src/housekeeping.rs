//! The thread that does what nobody calls for: collects garbage when it is due, and
//! cuts off clients that stall. It sleeps for as long as there is nothing of either.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, after, bounded, never};
use crossbeam::select;
use keyshim_keys::Now;

use crate::fault::CutOff;
use crate::host;
use crate::server::Server;

/// How long half a frame, or an unread reply, may lie without progress.
const STALL_MAX: Duration = Duration::from_secs(10);

/// What a worker tells the housekeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The time of the next collection may have changed.
    Collect = 1,
    /// A connection holds half a frame or an unread reply.
    Stalled = 2,
    /// A connection has ended.
    Left = 4,
    /// The end.
    Stop = 8,
}

/// Notes that have not been read: each kind at most once, so that no number of
/// them can fill anything.
pub(crate) struct Notes {
    unread: AtomicU8,
    bell: Sender<()>,
}

impl Notes {
    /// None yet, and the bell that rings for each.
    pub(crate) fn new() -> (Notes, Receiver<()>) {
        let (bell, hears) = bounded(1);
        (Notes { unread: AtomicU8::new(0), bell }, hears)
    }

    /// Leaves a note.
    pub(crate) fn leave(&self, note: Note) {
        self.unread.fetch_or(note as u8, Ordering::AcqRel);
        // A bell that has not been heard yet rings for this note as well.
        let _ = self.bell.try_send(());
    }

    fn read(&self) -> impl Fn(Note) -> bool {
        let notes = self.unread.swap(0, Ordering::AcqRel);
        move |note| notes & note as u8 != 0
    }
}

/// The housekeeper's life.
pub(crate) fn keep(server: &Server, bell: &Receiver<()>) {
    let mut collection = None;
    let mut stalled_since = None;
    loop {
        let look = stalled_since.map(|since: Instant| since + STALL_MAX);
        let wait = [collection.map(until), look].into_iter().flatten().min();
        let due = wait.map_or(never(), |at| after(at.saturating_duration_since(Instant::now())));
        select! {
            recv(bell) -> _ => {
                let has = server.notes.read();
                if has(Note::Stop) {
                    return;
                }
                if has(Note::Collect) {
                    collection = server.domain().service.next_collection();
                }
                if has(Note::Stalled) {
                    stalled_since = stalled_since.or(Some(Instant::now()));
                }
            }
            recv(due) -> _ => {
                if collection.is_some_and(|at: Now| at <= host::now()) {
                    collection = server.domain().collect();
                }
                if look.is_some_and(|at| at <= Instant::now()) {
                    stalled_since = cut_off_stalled(server);
                }
            }
        }
    }
}

/// The moment of a collection on the clock that we sleep by. Half a second later,
/// because the kernel's seconds are whole.
fn until(at: Now) -> Instant {
    let seconds = u64::try_from(at.0 - host::now().0).unwrap_or_default();
    // An hour at most: the clock may be set, and the date of expiry with it.
    Instant::now() + Duration::from_secs(seconds.min(3600)) + Duration::from_millis(500)
}

/// Cuts off who has stalled for too long; since when the longest of the others has.
fn cut_off_stalled(server: &Server) -> Option<Instant> {
    let mut longest: Option<Instant> = None;
    for line in server.connections.all() {
        let Some(since) = line.talk().stalled_since else { continue };
        if since.elapsed() >= STALL_MAX {
            server.cut_off(line.connection.id, CutOff::Stalled);
        } else {
            longest = Some(longest.map_or(since, |longest| longest.min(since)));
        }
    }
    longest
}
