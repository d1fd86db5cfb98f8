//! The thread that does what nobody calls for: collects garbage when it is due, looks
//! how an execve came out, and cuts off clients that stall. It sleeps for as long as there is nothing of either.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, after, bounded, never};
use crossbeam::select;
use keyshim_keys::{CallId, Now};

use crate::fault::CutOff;
use crate::host;
use crate::proc;
use crate::server::{Lifetime, Server};

/// How long half a frame, or an unread reply, may lie without progress, and how
/// long a client may be silent before its hello.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How soon to look whether an execve has happened, and how soon again.
const EXECVE_LOOK: Duration = Duration::from_micros(500);
/// Looks after which each further one takes twice as long to come: an execve that has
/// not happened by then has failed, or waits for something.
const EXECVE_LOOKS: u32 = 20;

/// How often to look whether a signal has come for a trapped call that waits.
const SIGNAL_LOOK: Duration = Duration::from_millis(20);

/// What a worker tells the housekeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The time of the next collection may have changed.
    Collect = 1,
    /// A connection holds half a frame or an unread reply, or has not said hello.
    Stalled = 2,
    /// A connection has ended.
    Left = 4,
    /// The end.
    Stop = 8,
    /// A thread is about to execute a program.
    Execve = 16,
    /// A trapped call waits, and a signal would end that.
    Trapped = 32,
    /// Something is to be done outside the domain.
    Deeds = 64,
}

/// Notes that have not been read: each kind at most once, so that no number of
/// them can fill anything.
pub(crate) struct Notes {
    unread: AtomicU8,
    bell: Sender<()>,
    /// True while the housekeeper is going to look for stalled clients anyway.
    is_watching: AtomicBool,
    /// When the housekeeper looks for the next collection, in seconds; written and read by
    /// who has the domain.
    collection: AtomicI64,
}

impl Notes {
    /// None yet, and the bell that rings for each.
    pub(crate) fn new() -> (Notes, Receiver<()>) {
        let (bell, hears) = bounded(1);
        (Notes::with_bell(bell), hears)
    }

    /// None yet; each rings a bell of others too, which has room for one.
    pub(crate) fn with_bell(bell: Sender<()>) -> Notes {
        let is_watching = AtomicBool::new(false);
        let collection = AtomicI64::new(i64::MAX);
        Notes { unread: AtomicU8::new(0), bell, is_watching, collection }
    }

    /// Leaves a note.
    pub(crate) fn leave(&self, note: Note) {
        if note == Note::Stalled && self.is_watching.load(Ordering::SeqCst) {
            return;
        }
        self.unread.fetch_or(note as u8, Ordering::AcqRel);
        // A bell that has not been heard yet rings for this note as well.
        let _ = self.bell.try_send(());
    }

    /// True if a collection is due before the one that the housekeeper waits for: to be told
    /// to it by a note. One that comes later, or not at all, it finds out when it looks. For
    /// who has the domain.
    pub(crate) fn is_sooner(&self, due: Option<Now>) -> bool {
        let is_sooner = due.is_some_and(|due| due.0 < self.collection.load(Ordering::Relaxed));
        if is_sooner {
            self.expect(due);
        }
        is_sooner
    }

    /// When the next collection is. For who has the domain.
    fn expect(&self, due: Option<Now>) {
        self.collection.store(due.map_or(i64::MAX, |due| due.0), Ordering::Relaxed);
    }

    fn read(&self) -> impl Fn(Note) -> bool {
        let notes = self.unread.swap(0, Ordering::AcqRel);
        move |note| notes & note as u8 != 0
    }
}

/// What the housekeeper waits for.
pub(crate) struct Agenda {
    /// The next collection.
    collection: Option<Now>,
    /// Since when a client may have stalled.
    stalled_since: Option<Instant>,
    /// Since when nobody has needed the server.
    idle_since: Option<Instant>,
    /// The next look after an execve, and which it is.
    execve: Option<(Instant, u32)>,
    /// The next look after signals for trapped calls.
    signals: Option<Instant>,
}

/// The housekeeper's life.
pub(crate) fn keep(server: &Server, bell: &Receiver<()>) {
    let mut agenda = Agenda::new(server);
    loop {
        let wait = agenda.next(server);
        let due = wait.map_or(never(), |at| after(at.saturating_duration_since(Instant::now())));
        select! {
            recv(bell) -> _ => {
                let has = server.notes.read();
                if has(Note::Stop) {
                    return;
                }
                agenda.take_note(server, &has);
            }
            recv(due) -> _ => agenda.look(server),
        }
        server.deliver();
    }
}

impl Agenda {
    /// Nothing yet.
    pub(crate) fn new(server: &Server) -> Agenda {
        let idle_since = is_mortal(server).then(Instant::now);
        Agenda { collection: None, stalled_since: None, idle_since, execve: None, signals: None }
    }

    /// Reads the notes that were left.
    pub(crate) fn read_notes(&mut self, server: &Server) {
        let has = server.notes.read();
        self.take_note(server, &has);
    }

    /// When there is something to do next.
    pub(crate) fn next(&self, server: &Server) -> Option<Instant> {
        let stalled = self.stalled_since.map(|since| since + STALL_MAX);
        let idle = self.idle_since.map(|since| since + grace(server.lifetime));
        let execve = self.execve.map(|(at, _)| at);
        [self.collection.map(until), stalled, idle, execve, self.signals]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_note(&mut self, server: &Server, has: &impl Fn(Note) -> bool) {
        if has(Note::Collect) {
            let domain = server.domain();
            self.collection = domain.service.next_collection();
            server.notes.expect(self.collection);
        }
        if has(Note::Stalled) {
            self.stalled_since = self.stalled_since.or(Some(Instant::now()));
            server.notes.is_watching.store(true, Ordering::SeqCst);
        }
        if has(Note::Execve) {
            self.execve = Some((Instant::now() + EXECVE_LOOK, 0));
        }
        if has(Note::Trapped) {
            self.signals = self.signals.or(Some(Instant::now() + SIGNAL_LOOK));
        }
        if has(Note::Left) && is_mortal(server) {
            self.idle_since = Some(Instant::now());
        }
    }

    /// A second execve in silence must not be taken for the first.
    fn look_after_execve(&mut self, server: &Server) {
        let Some((at, turn)) = self.execve else { return };
        let now = Instant::now();
        if at <= now {
            let mut domain = server.domain();
            domain.look_for_execves();
            let wait = EXECVE_LOOK * (1 << turn.saturating_sub(EXECVE_LOOKS).min(15));
            self.execve = domain.awaits_execve().then_some((now + wait, turn + 1));
        }
    }

    /// Does what is due.
    pub(crate) fn look(&mut self, server: &Server) {
        self.look_after_execve(server);
        if self.signals.is_some_and(|at| at <= Instant::now()) {
            let waits = look_for_signals(server);
            self.signals = waits.then(|| Instant::now() + SIGNAL_LOOK);
        }
        if self.collection.is_some_and(|at| at <= host::now()) {
            let mut domain = server.domain();
            self.collection = domain.collect();
            server.notes.expect(self.collection);
            drop(domain);
            // The last key may have gone with it.
            self.idle_since = self.idle_since.or(is_mortal(server).then(Instant::now));
        }
        if self.stalled_since.is_some_and(|since| since.elapsed() >= STALL_MAX) {
            // Before the look: whoever stalls after it leaves a note.
            server.notes.is_watching.store(false, Ordering::SeqCst);
            self.stalled_since = cut_off_stalled(server);
            server.notes.is_watching.fetch_or(self.stalled_since.is_some(), Ordering::SeqCst);
        }
        if self.idle_since.is_some_and(|since| since.elapsed() >= grace(server.lifetime)) {
            self.idle_since = None;
            if !server.is_needed() {
                server.declare_over();
            }
        }
    }
}

fn is_mortal(server: &Server) -> bool {
    server.lifetime != Lifetime::UntilStopped
}

/// How long nobody must have needed the server before it is over: long enough for
/// the next program of a script, or for one that is just being started.
const fn grace(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::UntilStopped | Lifetime::WhileUsed => Duration::from_secs(60),
        Lifetime::WithPrograms => Duration::from_secs(2),
    }
}

/// The moment of a collection on the clock that we sleep by. Half a second later,
/// because the kernel's seconds are whole.
fn until(at: Now) -> Instant {
    let seconds = u64::try_from(at.0 - host::now().0).unwrap_or_default();
    // An hour at most: the clock may be set, and the date of expiry with it.
    Instant::now() + Duration::from_secs(seconds.min(3600)) + Duration::from_millis(500)
}

/// Looks whether signals have come for trapped calls that wait, a few of which have their
/// turn. True while there are such calls. To ask for them takes long, and nobody need wait
/// for it: what is interrupted is a call, which goes by a number of its own.
fn look_for_signals(server: &Server) -> bool {
    let watched = server.domain().waits.next_watched();
    let has_signal = |&&(_, tid): &&(CallId, u32)| proc::has_signal(tid);
    let signalled: Vec<_> = watched.iter().filter(has_signal).collect();
    if !signalled.is_empty() {
        let mut domain = server.domain();
        for &&(call, _) in &signalled {
            domain.interrupt_call(call);
        }
    }
    !watched.is_empty()
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
