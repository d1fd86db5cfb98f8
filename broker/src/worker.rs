//! What a worker does with a knock and with a request.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_abi::frame::{
    Delay, Message, REPLY_HEAD_LEN, Welcome, decode_message, encode_delay, encode_reply_head,
    encode_welcome,
};
use keyshim_abi::limits::REPLY_FRAME_LEN_MAX;
use keyshim_abi::reply::Answer;
use keyshim_abi::{Errno, Request};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use zeroize::Zeroize;

use crate::connection::{CHUNK_LEN, Connection, Incoming, Scratch, Talk};
use crate::connections::Line;
use crate::door::{self, Knock};
use crate::fault::CutOff;
use crate::housekeeping::Note;
use crate::identity::Peer;
use crate::proc;
use crate::server::{Admission, Event, Locked, Server};
use crate::supervisor::handover;
use crate::waits::{Progress, Road};

/// Knocks answered before others have their turn.
const KNOCKS_AT_ONCE: usize = 16;
/// Ancestors looked at before a process counts as none of ours.
const ANCESTORS_MAX: usize = 1024;
/// Bytes of data that fit into a reply.
const DATA_LEN_MAX: usize = REPLY_FRAME_LEN_MAX - REPLY_HEAD_LEN;

/// A worker's own memory, used again for each event.
pub(crate) struct Desk {
    scratch: Scratch,
    data: Vec<u8>,
}

impl Desk {
    /// Memory for one worker.
    pub(crate) fn new() -> Desk {
        Desk { scratch: Scratch::new(), data: Vec::new() }
    }
}

/// A worker's life.
pub(crate) fn work(server: &Arc<Server>) {
    let mut desk = Desk::new();
    loop {
        match server.wait() {
            Event::Stop => return,
            event => attend(server, event, &mut desk),
        }
    }
}

/// Does what there is to do for one event.
pub(crate) fn attend(server: &Arc<Server>, event: Event, desk: &mut Desk) {
    match event {
        Event::Stop => return,
        Event::Changes => {
            look_at_changes(server);
            server.rearm_changes();
        }
        Event::Door(number) => {
            answer_door(server, number);
            server.rearm_door(number);
        }
        Event::Connection(id) => serve(server, id, &mut desk.scratch, &mut desk.data),
    }
    close_orphaned(server);
    server.deliver();
}

pub(crate) fn look_at_changes(server: &Server) {
    let mut domain = server.domain();
    let was_empty = domain.tasks.is_empty();
    domain.sweep();
    // Not each time that others' tasks come and go: then nobody would be idle long enough.
    if domain.tasks.is_empty() && !was_empty {
        server.notes.leave(Note::Left);
    }
}

pub(crate) fn close_orphaned(server: &Server) {
    let orphaned = server.domain().take_orphaned();
    for id in orphaned {
        server.cut_off(id, CutOff::Gone);
    }
}

fn answer_door(server: &Arc<Server>, number: usize) {
    let Some(door) = server.door(number) else { return };
    for _ in 0..KNOCKS_AT_ONCE {
        match door::next(door) {
            None => return,
            Some(Knock::Client(peer, socket)) => let_in(server, peer, socket),
            Some(Knock::Handover(peer, socket, handed)) if is_of_our_user(&peer) => {
                let unwanted = handover::take_over(server, &socket, handed);
                close(server, unwanted.into_iter().collect());
            }
            Some(Knock::Handover(peer, socket, handed)) => {
                tracing::info!(pid = peer.pid, uid = peer.uid, "not taken over: a stranger's");
                close(server, vec![socket, handed.fd]);
            }
            Some(Knock::Unwanted(reason, descriptors)) => {
                tracing::info!("a knock is not answered: {reason}");
                close(server, descriptors);
            }
        }
    }
}

/// Closes descriptors of unknown kind elsewhere.
fn close(server: &Server, descriptors: Vec<OwnedFd>) {
    if !descriptors.is_empty() {
        // With the closing thread stuck and its queue full they are closed here.
        let _ = server.to_close.try_send(descriptors);
    }
}

fn let_in(server: &Server, peer: Peer, socket: OwnedFd) {
    if !is_admitted(server, &peer) {
        tracing::info!(pid = peer.pid, uid = peer.uid, "not let in: not of this run");
        return;
    }
    let connection = Connection { id: server.next_connection(), peer, socket };
    match server.connections.add(connection) {
        Ok(line) => watch(server, &line),
        Err(refused) => {
            tracing::warn!(uid = refused.peer.uid, "not let in: too many connections");
        }
    }
}

fn watch(server: &Server, line: &Arc<Line>) {
    let id = line.connection.id;
    let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, id);
    if let Err(errno) = server.epoll.add(&line.connection.socket, event) {
        server.cut_off(id, CutOff::Kernel(errno));
    }
    server.notes.leave(Note::Stalled);
}

fn is_admitted(server: &Server, peer: &Peer) -> bool {
    let is_family = || {
        let own = std::process::id();
        let domain = server.domain();
        std::iter::successors(Some(peer.pid), |&pid| proc::place(pid).map(|p| p.parent))
            .take(ANCESTORS_MAX)
            .take_while(|&pid| pid > 1)
            .any(|pid| pid == own || domain.tasks.knows_pid(pid))
    };
    server.admission == Admission::Anyone || is_of_our_user(peer) || is_family()
}

fn is_of_our_user(peer: &Peer) -> bool {
    peer.uid == nix::unistd::geteuid().as_raw()
}

/// Serves a connection that is ready: what waits to be sent, then what has come.
fn serve(server: &Server, id: u64, scratch: &mut Scratch, data: &mut Vec<u8>) {
    let Some(line) = server.connections.get(id) else { return };
    let mut talk = line.talk();
    let held_len = talk.held_len();
    let done = converse(server, &line.connection, &mut talk, scratch, data);
    let now_held_len = talk.held_len();
    let done = done.and_then(|()| match now_held_len == held_len {
        true => Ok(()),
        false => server.connections.note_held(id, line.connection.peer.uid, now_held_len),
    });
    let is_stalled = talk.stalled_since.is_some();
    if done.is_ok() {
        // Before anybody else may send: what is left to be sent decides.
        server.rearm(line.connection.socket.as_fd(), id, talk.interest());
    }
    drop(talk);
    clear(data);
    if let Err(reason) = done {
        server.cut_off(id, reason);
    }
    if is_stalled {
        server.notes.leave(Note::Stalled);
    }
}

/// Clears what was sent; memory of an unusual size is given back.
pub(crate) fn clear(data: &mut Vec<u8>) {
    data.as_mut_slice().zeroize();
    data.clear();
    if data.capacity() > CHUNK_LEN {
        *data = Vec::new();
    }
}

fn converse(
    server: &Server,
    connection: &Connection,
    talk: &mut Talk,
    scratch: &mut Scratch,
    data: &mut Vec<u8>,
) -> Result<(), CutOff> {
    if talk.has_output() {
        connection.flush(talk)?;
        if talk.has_output() {
            return Ok(());
        }
    }
    let Incoming::Frame(frame) = connection.receive(talk, scratch)? else { return Ok(()) };
    let message = decode_message(frame.bytes()).map_err(|_| CutOff::Malformed)?;
    match (message, talk.task) {
        (Message::Hello { tid, origin }, None) => {
            let hello = server.domain().hello(&connection.peer, connection.id, tid, origin);
            let (task, token) = hello?;
            talk.task = Some(task);
            talk.stalled_since = None;
            connection.send(talk, &encode_welcome(&Welcome { token }), &[], None)
        }
        (Message::Hello { .. }, Some(_)) | (_, None) => Err(CutOff::Malformed),
        (Message::Interrupt, Some(task)) => {
            server.domain().interrupt(task);
            connection.send(talk, &encode_delay(Delay::Heard), &[], None)
        }
        (message, Some(task)) => {
            let (progress, descriptor) = carry_out(server, connection.id, task, &message, data)?;
            let answer = match progress {
                Progress::Answered(answer) => answer,
                Progress::Waits { interruptible: true } => {
                    return connection.send(talk, &encode_delay(Delay::Interruptible), &[], None);
                }
                Progress::Waits { interruptible: false } => {
                    return connection.send(talk, &encode_delay(Delay::Uninterruptible), &[], None);
                }
            };
            let answer = match message {
                Message::Open(_) => bound_listing(answer, data),
                _ => bound(answer, data),
            };
            let head = encode_reply_head(answer, data.len());
            let raw = descriptor.as_ref().map(AsRawFd::as_raw_fd);
            connection.send(talk, &head, data, raw)
        }
    }
}

/// Carries out a message of a known thread under the domain's lock.
pub(crate) fn carry_out(
    server: &Server,
    connection: u64,
    task: TaskId,
    message: &Message<'_>,
    data: &mut Vec<u8>,
) -> Result<(Progress, Option<OwnedFd>), CutOff> {
    let mut domain = server.domain();
    let answered = |answer| (Progress::Answered(answer), None);
    let outcome = match message {
        Message::Call(request) => {
            (domain.call(task, request, data, || Road::Connection(connection))?, None)
        }
        Message::Open(file) => answered(domain.open(task, *file, data)?),
        Message::OpenKnob(knob) => match domain.open_knob(task, *knob)? {
            Ok(descriptor) => (Progress::Answered(Ok(0)), Some(descriptor)),
            Err(errno) => answered(Err(errno)),
        },
        Message::Execute => {
            domain.announce_execve(task)?;
            server.notes.leave(Note::Execve);
            answered(Ok(0))
        }
        Message::StartThread { done } => {
            domain.start_thread(task, *done)?;
            answered(Ok(0))
        }
        Message::Hello { .. } | Message::Interrupt => return Err(CutOff::Malformed),
    };
    domain.let_go();
    Ok(outcome)
}

/// Carries out a call of a thread that has been looked up under this lock, and not
/// let go of it since.
pub(crate) fn carry_out_found(
    mut domain: Locked<'_>,
    task: TaskId,
    request: &Request<'_>,
    data: &mut Vec<u8>,
    road: impl FnOnce() -> Road,
) -> Result<Progress, CutOff> {
    let progress = domain.call_found(task, request, data, road)?;
    domain.let_go();
    Ok(progress)
}

/// Keeps a reply within a frame. Data of a call are never cut, since half a keyring is a
/// wrong answer: ENOMEM, as the kernel says when it has no buffer that large.
pub(crate) fn bound(answer: Answer, data: &mut Vec<u8>) -> Answer {
    if data.len() <= DATA_LEN_MAX {
        return answer;
    }
    tracing::warn!(len = data.len(), "a reply is longer than a frame");
    data.zeroize();
    Err(Errno::ENOMEM)
}

/// The same for a listing, which loses the lines that do not fit.
fn bound_listing(answer: Answer, data: &mut Vec<u8>) -> Answer {
    if data.len() > DATA_LEN_MAX {
        tracing::warn!(len = data.len(), "a listing is longer than a frame");
        data.truncate(DATA_LEN_MAX);
        let end = data.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        data.truncate(end);
    }
    answer
}
