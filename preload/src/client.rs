//! One call, or one opening of a file, from beginning to end.

use keyshim_abi::Errno;
use keyshim_abi::frame::{
    LENGTH_LEN, Message, REPLY_HEAD_LEN, decode_reply, encode_message, reply_len,
};
use keyshim_abi::limits::STRINGS_LEN_MAX;
use keyshim_abi::marshal::{self, RawCall};
use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::reply::{Answer, Reply};
use keyshim_abi::request::Request;

use crate::door;
use crate::fault::Fault;
use crate::memory::{Further, OwnMemory};
use crate::process;
use crate::quiet::{Patience, Quiet};
use crate::scratch::wipe;
use crate::seat::Seat;
use crate::socket::Socket;
use crate::sys;
use crate::wait::{Wait, delay_of};

/// How long a request waits for its reply.
const REPLY_WAIT_MS: u32 = 30_000;
/// Bytes of a frame before its payload: the strings of the call once more, and
/// numbers. Replies come through it as well, piece by piece.
const FRAME_LEN: usize = STRINGS_LEN_MAX + 128;

/// Carries out one of the three system calls. The value as the kernel returns it,
/// negative for an error; ENOSYS when there is no broker, or it does not answer in
/// thirty seconds.
pub(crate) fn call(raw: &RawCall) -> i64 {
    if let Some(errno) = raw.refused_by_length().filter(|_| door::is_known()) {
        return negative(errno);
    }
    loop {
        let quiet = Quiet::begin();
        let mut seat = Seat::take();
        let value = carry(raw, &mut seat, &quiet).unwrap_or_else(|fault| negative(fault.answer()));
        if value != negative(Errno::EINTR) || !quiet.begins_anew() {
            return value;
        }
    }
}

/// The contents of a file, handed to `take` in order and in pieces.
pub(crate) fn read_file(file: ProcFile, mut take: impl FnMut(&[u8])) -> Result<Answer, Fault> {
    let quiet = Quiet::begin();
    let mut seat = Seat::take();
    let mut scratch = seat.scratch(FRAME_LEN)?;
    let mut answer = Ok(0);
    converse(&mut seat, &quiet, &Message::Open(file), scratch.bytes(), |_, reply| {
        answer = reply.answer;
        take(reply.data);
    })?;
    Ok(answer)
}

/// A descriptor whose every write is a write to that knob.
pub(crate) fn open_knob(knob: Knob) -> Result<Result<i32, Errno>, Fault> {
    let quiet = Quiet::begin();
    let mut seat = Seat::take();
    for may_repeat in [true, false] {
        let socket = seat.connect(&quiet)?;
        match exchange_knob(socket, knob, &quiet) {
            Err(Fault::Unheard) if may_repeat => seat.disconnect(),
            Err(fault) => {
                seat.disconnect();
                return Err(fault);
            }
            outcome => return outcome,
        }
    }
    Err(Fault::Unheard)
}

/// Tells the broker that this thread is about to execute a program, if the broker
/// knows its process. It must hear of it from us: nobody else sees an execve.
pub(crate) fn announce_execve() {
    if process::has_attached() {
        tell(&Message::Execute);
    }
}

/// Tells the broker that this thread, not the main one, starts another or has, if such
/// a thread has talked to it: the new one gets the keyrings of its maker. True when
/// there is somebody to tell.
pub(crate) fn announce_thread(done: bool) -> bool {
    let is_told = process::has_attached_aside();
    if is_told {
        tell(&Message::StartThread { done });
    }
    is_told
}

/// Unheard, the broker makes out by itself what it can.
fn tell(message: &Message<'_>) {
    let quiet = Quiet::begin();
    let mut seat = Seat::take();
    let mut room = [0; 64];
    let _ = converse(&mut seat, &quiet, message, &mut room, |_, _| {});
}

/// True when there is a broker; made certain by a connection.
pub(crate) fn is_served() -> bool {
    let quiet = Quiet::begin();
    Seat::take().connect(&quiet).is_ok()
}

const fn negative(errno: Errno) -> i64 {
    -(errno.raw() as i64)
}

fn carry(raw: &RawCall, seat: &mut Seat, quiet: &Quiet) -> Result<i64, Fault> {
    seat.connect(quiet)?;
    let mut scratch = seat.scratch(raw.scratch_len() + FRAME_LEN)?;
    let (fetched, frame) = scratch.bytes().split_at_mut(raw.scratch_len());
    let mut value = None;
    let holds_secret;
    let outcome = match marshal::request(raw, &OwnMemory, fetched) {
        Err(errno) => return Ok(negative(errno)),
        Ok(request) => {
            holds_secret = request.carries_payload();
            converse(seat, quiet, &Message::Call(request), frame, |from, reply| {
                // A broker's mistake must not become the program's memory corruption.
                if from + reply.data.len() as u64 > room(&request) {
                    value = None;
                } else if value.is_none_or(|value| value >= 0) {
                    value = Some(marshal::deliver(raw, reply, &Further { from }));
                }
            })
        }
    };
    // Memory that nothing was copied to is not worth a page fault.
    if holds_secret {
        wipe(fetched);
    }
    outcome?;
    value.ok_or(Fault::Garbled)
}

/// Bytes of data that may come back.
fn room(request: &Request<'_>) -> u64 {
    match *request {
        Request::Describe { room, .. } => room.map_or(0, u64::from),
        Request::Read { room, .. } | Request::GetSecurity { room, .. } => room.unwrap_or(0),
        Request::Capabilities { room } => room,
        _ => 0,
    }
}

/// Puts a message and hands its reply to `take`: the answer with a piece of the
/// data, and how many bytes of data came before it. A request that the broker has
/// not read is put once more over a new connection.
fn converse(
    seat: &mut Seat,
    quiet: &Quiet,
    message: &Message<'_>,
    frame: &mut [u8],
    mut take: impl FnMut(u64, &Reply<'_>),
) -> Result<(), Fault> {
    for may_repeat in [true, false] {
        let socket = seat.connect(quiet)?;
        let mut patience = Patience::new(quiet, REPLY_WAIT_MS);
        let sent = send(socket, message, frame, &mut patience);
        match sent.and_then(|()| receive(socket, frame, &mut patience, &mut take)) {
            Err(Fault::Unheard) if may_repeat => seat.disconnect(),
            Err(fault) => {
                if fault == Fault::Silent {
                    door::distrust();
                }
                seat.disconnect();
                return Err(fault);
            }
            Ok(()) => return Ok(()),
        }
    }
    Err(Fault::Unheard)
}

/// Sends a message whose head fits into `frame`.
pub(crate) fn send(
    socket: Socket,
    message: &Message<'_>,
    frame: &mut [u8],
    patience: &mut Patience<'_>,
) -> Result<(), Fault> {
    let encoded = encode_message(message, frame).map_err(|_| Fault::Garbled)?;
    let (head_len, trailing) = (encoded.head_len, encoded.trailing);
    socket.send([&frame[..head_len], trailing], patience)
}

fn receive(
    socket: Socket,
    room: &mut [u8],
    patience: &mut Patience<'_>,
    take: &mut impl FnMut(u64, &Reply<'_>),
) -> Result<(), Fault> {
    let mut filled = socket.receive(room, patience)?;
    fill_head(socket, room, &mut filled, patience)?;
    let mut wait = None;
    if let Some(delay) = delay_of(room)? {
        // The reply may have come with it.
        room.copy_within(REPLY_HEAD_LEN..filled, 0);
        filled -= REPLY_HEAD_LEN;
        if filled == 0 {
            let wait = wait.insert(Wait::begin(socket, patience.quiet()));
            wait.for_reply(delay, room)?;
            filled = REPLY_HEAD_LEN;
        }
        fill_head(socket, room, &mut filled, patience)?;
    }
    let frame_len = frame_len(room)?;
    if filled > frame_len {
        return Err(Fault::Garbled);
    }
    let reply = decode_reply(&room[LENGTH_LEN..filled]).map_err(|_| Fault::Garbled)?;
    let answer = reply.answer;
    take(0, &reply);
    let mut high_water = filled;
    while filled < frame_len {
        let piece_len = room.len().min(frame_len - filled);
        let len = rest(socket, &mut room[..piece_len], patience)?;
        take((filled - REPLY_HEAD_LEN) as u64, &Reply { answer, data: &room[..len] });
        filled += len;
        high_water = high_water.max(len);
    }
    if high_water > REPLY_HEAD_LEN {
        wipe(&mut room[..high_water]);
    }
    wait.map_or(Ok(()), |wait| wait.end(room))
}

fn fill_head(
    socket: Socket,
    room: &mut [u8],
    filled: &mut usize,
    patience: &mut Patience<'_>,
) -> Result<(), Fault> {
    while *filled < REPLY_HEAD_LEN {
        *filled += rest(socket, &mut room[*filled..], patience)?;
    }
    Ok(())
}

/// The broker has answered in part, so it has read the request: it was heard.
fn rest(socket: Socket, room: &mut [u8], patience: &mut Patience<'_>) -> Result<usize, Fault> {
    let outcome = socket.receive(room, patience);
    outcome.map_err(|fault| if fault == Fault::Unheard { Fault::Cut } else { fault })
}

/// Length of the reply frame that begins with these bytes, its length field included.
fn frame_len(frame: &[u8]) -> Result<usize, Fault> {
    let length = frame.first_chunk().ok_or(Fault::Garbled)?;
    let len = reply_len(*length).map_err(|_| Fault::Garbled)? + LENGTH_LEN;
    if len < REPLY_HEAD_LEN { Err(Fault::Garbled) } else { Ok(len) }
}

fn exchange_knob(socket: Socket, knob: Knob, quiet: &Quiet) -> Result<Result<i32, Errno>, Fault> {
    let mut patience = Patience::new(quiet, REPLY_WAIT_MS);
    let mut room = [0; 64];
    send(socket, &Message::OpenKnob(knob), &mut room, &mut patience)?;
    let (mut filled, fd) = socket.receive_descriptor(&mut room[..REPLY_HEAD_LEN], &mut patience)?;
    let reply = loop {
        if filled == REPLY_HEAD_LEN {
            break decode_reply(&room[LENGTH_LEN..filled]).map_err(|_| Fault::Garbled);
        }
        match rest(socket, &mut room[filled..REPLY_HEAD_LEN], &mut patience) {
            Ok(len) => filled += len,
            Err(fault) => break Err(fault),
        }
    };
    match (reply.map(|reply| reply.answer), fd) {
        (Ok(Ok(_)), Some(fd)) => Ok(Ok(fd)),
        (outcome, fd) => {
            fd.into_iter().for_each(sys::close);
            outcome.and_then(|answer| answer.err().map(Err).ok_or(Fault::Garbled))
        }
    }
}
