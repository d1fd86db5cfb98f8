//! Threads that are used again, for work that comes often and takes its time: starting a
//! thread costs more than some of it.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use nix::sys::prctl;
use once_cell::sync::Lazy;

use crate::fault::Fault;
use crate::server;

/// How long a thread of [`run`] waits for more.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

static SHARED: Lazy<Pool> = Lazy::new(|| Pool::new(IDLE_MAX));

/// A thread that is to live, and the way back to who wants it.
type Birth = (&'static str, Box<dyn FnOnce() + Send>, Sender<Result<(), Fault>>);

/// A thread that starts all others. Some that want one are under a filter of the kernel's,
/// which what they started would inherit.
static STARTER: Lazy<Result<Sender<Birth>, Fault>> = Lazy::new(|| {
    let (wants, wanted) = unbounded::<Birth>();
    server::spawn("starter".into(), move || {
        for (name, life, tell) in wanted {
            let _ = tell.send(server::spawn(name.into(), life).map(drop));
        }
    })?;
    Ok(wants)
});

/// Prepares for [`Pool::run`] by threads that nobody is to inherit from.
pub(crate) fn prepare() -> Result<(), Fault> {
    match &*STARTER {
        Ok(_) => Ok(()),
        Err(fault) => Err(Fault::Told(fault.to_string())),
    }
}

fn start(name: &'static str, life: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    prepare()?;
    let gone = || Fault::Told("the thread that starts threads has gone; report this".into());
    let Ok(starter) = &*STARTER else { return Err(gone()) };
    let (tell, told) = bounded(1);
    starter.send((name, Box::new(life), tell)).map_err(|_| gone())?;
    told.recv().map_err(|_| gone())?
}

/// Has a thread of that name do the work, one that has nothing else to do or a new one.
pub(crate) fn run(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    SHARED.run(name, work)
}

/// Threads for one kind of work, which end with it.
pub(crate) struct Pool {
    /// From who has work to a thread that has none: nothing lies in between.
    hand: Sender<Work>,
    takes: Receiver<Work>,
    idle_max: Duration,
}

impl Pool {
    /// No thread yet; each will end when it has waited for work that long.
    pub(crate) fn new(idle_max: Duration) -> Pool {
        let (hand, takes) = bounded(0);
        Pool { hand, takes, idle_max }
    }

    /// As [`run`].
    pub(crate) fn run(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Fault> {
        let named = move || {
            if let Ok(name) = std::ffi::CString::new(name) {
                let _ = prctl::set_name(&name);
            }
            work();
        };
        match self.hand.try_send(Box::new(named)) {
            Ok(()) => Ok(()),
            Err(refused) => {
                let (work, takes) = (refused.into_inner(), self.takes.clone());
                let idle_max = self.idle_max;
                start(name, move || live(work, &takes, idle_max))
            }
        }
    }
}

fn live(first: Work, takes: &Receiver<Work>, idle_max: Duration) {
    let mut next = Some(first);
    while let Some(work) = next {
        work();
        next = takes.recv_timeout(idle_max).ok();
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
