//! Threads that are used again, for work that comes often and takes its time: starting a
//! thread costs more than some of it.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::sys::prctl;
use once_cell::sync::Lazy;

use crate::fault::Fault;
use crate::server;

/// How long a thread waits for more.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// From who has work to a thread that has none: nothing lies in between.
static HAND: Lazy<(Sender<Work>, Receiver<Work>)> = Lazy::new(|| bounded(0));

/// Has a thread of that name do the work, one that has nothing else to do or a new one.
pub(crate) fn run(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let named = move || {
        if let Ok(name) = std::ffi::CString::new(name) {
            let _ = prctl::set_name(&name);
        }
        work();
    };
    match HAND.0.try_send(Box::new(named)) {
        Ok(()) => Ok(()),
        Err(refused) => {
            let work = refused.into_inner();
            server::spawn(name.into(), move || live(work)).map(drop)
        }
    }
}

fn live(first: Work) {
    let mut next = Some(first);
    while let Some(work) = next {
        work();
        next = HAND.1.recv_timeout(IDLE_MAX).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    fn run_and_tell() -> ThreadId {
        let (tell, told) = bounded(1);
        run("told", move || tell.send(thread::current().id()).unwrap()).unwrap();
        told.recv().unwrap()
    }

    #[test]
    fn a_thread_is_used_again_and_none_waits_for_another() {
        let (let_go, hold) = bounded::<()>(0);
        run("held", move || assert!(hold.recv().is_err())).unwrap();
        let first = run_and_tell();
        // It may not have come back yet.
        assert!(std::iter::repeat_with(run_and_tell).take(1000).any(|id| id == first));
        drop(let_go);
    }
}
