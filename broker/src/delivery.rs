//! What the core wanted done, done: calls answered that have waited, helpers called.
//!
//! Whoever does it holds no lock: a caller's conversation may be somebody else's at the
//! moment, who waits for the domain.

use std::os::fd::{AsFd, OwnedFd};

use keyshim_abi::Errno;
use keyshim_abi::frame::encode_reply_head;
use keyshim_abi::reply::Answer;
use keyshim_keys::{Data, Made, UpcallId};

use crate::domain::Domain;
use crate::fault::CutOff;
use crate::server::Server;
use crate::waits::{Deed, Road};
use crate::worker;

impl Server {
    /// Does all that has arisen until now. Comes after everything that may have made
    /// some, without any lock.
    pub(crate) fn deliver(&self) {
        while let Some(deed) = self.outbox.pop() {
            match deed {
                Deed::Reply(Road::Connection(id), answer, data) => self.reply(id, answer, data),
                Deed::Reply(Road::Nobody, ..) => {}
                Deed::Reply(Road::Trapped(trapped), answer, data) => trapped.answer(answer, data),
                Deed::CallOut(upcall, requester) => match self.helpers.get() {
                    Some(helpers) => helpers.call_out(upcall, requester),
                    None => self.upcall_failed(upcall.id, Errno::ENOKEY),
                },
            }
        }
    }

    /// Answers a client that waits; one that has gone hears nothing.
    fn reply(&self, id: u64, answer: Answer, mut data: Data) {
        let Some(line) = self.connections.get(id) else { return };
        let mut talk = line.talk();
        let answer = worker::bound(answer, &mut data.0);
        let head = encode_reply_head(answer, data.0.len());
        let sent = line.connection.send(&mut talk, &head, &data.0, None);
        if sent.is_ok() && talk.has_output() {
            self.rearm(line.connection.socket.as_fd(), id, talk.interest());
        }
        let held_len = talk.held_len();
        drop(talk);
        let noted = || self.connections.note_held(id, line.connection.peer.uid, held_len);
        if let Err(reason) = sent.and_then(|()| noted()) {
            self.cut_off(id, reason);
        }
    }

    /// The helper of an upcall has begun, and is held back before it executes its program.
    pub(crate) fn upcall_started(
        &self,
        upcall: UpcallId,
        pid: u32,
        pidfd: OwnedFd,
    ) -> Result<(), CutOff> {
        let mut domain = self.domain();
        let started = domain.upcall_started(upcall, pid, pidfd);
        domain.let_go();
        self.deliver();
        started
    }

    /// The helper of an upcall has ended.
    pub(crate) fn upcall_exited(&self, upcall: UpcallId) {
        self.conclude(|domain| domain.upcall_exited(upcall));
    }

    /// What an upcall was for has been made without a helper.
    pub(crate) fn upcall_made(&self, upcall: UpcallId, made: Made) {
        self.conclude(|domain| domain.upcall_made(upcall, made));
    }

    /// The helper of an upcall could not be started.
    pub(crate) fn upcall_failed(&self, upcall: UpcallId, errno: Errno) {
        self.conclude(|domain| domain.upcall_failed(upcall, errno));
    }

    fn conclude(&self, concluded: impl FnOnce(&mut Domain)) {
        let mut domain = self.domain();
        concluded(&mut domain);
        domain.let_go();
        self.deliver();
    }
}
