//! The threads that serve all domains together: for those who look, and for what is
//! due without anybody calling. The containers' own calls never come here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, after, never};
use crossbeam::select;
use nix::sys::epoll::EpollTimeout;

use super::containers::Containers;
use crate::housekeeping::Agenda;
use crate::server::Server;
use crate::worker::{self, Desk};

/// Threads for those who look: one may be at it while a listing takes its time.
pub(crate) const WORKERS: usize = 2;
/// Events of one domain before others have their turn.
const EVENTS_AT_ONCE: usize = 16;

/// A worker's life.
pub(crate) fn work(containers: &Containers) {
    let mut desk = Desk::new();
    while let Some((number, server)) = containers.wait() {
        let Some(server) = server else { continue };
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = server.next(EpollTimeout::ZERO) else { break };
            worker::attend(&server, event, &mut desk);
        }
        containers.rearm(number, &server);
    }
}

/// The housekeeper's life.
pub(crate) fn keep(containers: &Containers, bell: &Receiver<()>) {
    let mut agendas: HashMap<u64, Agenda> = HashMap::new();
    loop {
        let due = next(containers, &mut agendas);
        let due = due.map_or(never(), |at| after(at.saturating_duration_since(Instant::now())));
        let is_rung = select! {
            recv(bell) -> rung => match rung {
                Ok(()) => true,
                Err(_) => return,
            },
            recv(due) -> _ => false,
        };
        for (number, server) in containers.servers() {
            let agenda = agendas.entry(number).or_insert_with(|| Agenda::new(&server));
            match is_rung {
                true => agenda.read_notes(&server),
                false => agenda.look(&server),
            }
            server.deliver();
        }
    }
}

/// When there is something to do next in any domain; forgets those that have ended.
fn next(containers: &Containers, agendas: &mut HashMap<u64, Agenda>) -> Option<Instant> {
    let servers: HashMap<u64, Arc<Server>> = containers.servers().into_iter().collect();
    agendas.retain(|number, _| servers.contains_key(number));
    let next = |(number, agenda): (&u64, &Agenda)| agenda.next(servers.get(number)?);
    agendas.iter().filter_map(next).min()
}
