//! Calls of the kernel's that wait, and the helpers they bring.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ActorWorld, END_PATIENCE, Line, Road, plain_report};
use crate::wire::{Command, Progress, Report};
use crate::world::upcall::Sleep;
use crate::world::{kernel, upcall};

/// Which of the three calls is `request_key(2)`.
const REQUEST_KEY: u8 = 1;
/// Milliseconds after which a call that has no answer is looked into.
const GLANCE_MS: u16 = 2;
/// Milliseconds in which a helper begins and tells us so.
const START_MS: u16 = 150;

impl ActorWorld {
    /// Makes a call; comes back when it is done, or waits.
    pub(super) fn call_or_wait(
        &mut self,
        actor: &str,
        command: &Command,
        entry: u8,
    ) -> Result<Report> {
        let line = self.line(actor)?;
        let tid = line.tid;
        line.send(command, None)?;
        if entry == REQUEST_KEY {
            upcall::expect(tid);
        }
        let began = Instant::now();
        let mut stays = false;
        while began.elapsed() < END_PATIENCE {
            if let Some(report) = self.glance(actor)? {
                return Ok(report);
            }
            let tids: Vec<i64> = self.lines.values().map(|line| line.tid).collect();
            if let Some(arrival) = upcall::arrived(tids.into_iter()) {
                return self.helper_came(actor, arrival);
            }
            // A helper may have come since.
            if stays {
                self.waiting.insert(actor.to_owned(), None);
                return Ok(Report { progress: Progress::Waits, ..plain_report() });
            }
            stays = self.stays_waiting(actor)?;
        }
        bail!("{actor} neither answers nor waits")
    }

    /// The actor's report, if it comes within a moment.
    fn glance(&mut self, actor: &str) -> Result<Option<Report>> {
        let line = self.line(actor)?;
        let mut polled = [PollFd::new(line.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(GLANCE_MS))? {
            0 => Ok(None),
            _ => line.receive().map(Some).with_context(|| format!("actor {actor}")),
        }
    }

    /// True when the actor waits for what somebody else does: it sleeps, and goes on doing
    /// so.
    fn stays_waiting(&mut self, actor: &str) -> Result<bool> {
        let is_kernel = matches!(self.road, Road::Kernel);
        let line = self.line(actor)?;
        // Helpers of a preloaded domain may have a filter as well.
        let (sleep, long_ms) = match upcall::is_trapped(line.pid) {
            // It may as well be on its way to a helper.
            true => (Sleep::BeforeFilter, START_MS),
            false if is_kernel => (Sleep::InCall, GLANCE_MS),
            false => (Sleep::InLibrary, GLANCE_MS),
        };
        let Some(times) = upcall::sleeps(sleep, line.pid, line.tid) else {
            return Ok(false);
        };
        std::thread::sleep(Duration::from_millis(long_ms.into()));
        Ok(upcall::sleeps(sleep, line.pid, line.tid) == Some(times))
    }

    fn helper_came(&mut self, actor: &str, arrival: upcall::Arrival) -> Result<Report> {
        let arguments = arrival.arguments.clone();
        let serial = arguments.get(1).context("a helper without a key")?.parse()?;
        let (ours, theirs) = UnixStream::pair()?;
        arrival.give(OwnedFd::from(theirs))?;
        let mut line = Line { socket: ours, pid: 0, tid: 0 };
        line.tid = line.receive().context("a new helper does not answer")?.ret;
        line.pid = line.tid;
        let name = format!("h{}", self.helpers.len() + 1);
        self.tasks.helper(&name)?;
        self.lines.insert(name.clone(), line);
        self.helpers.insert(name.clone(), arguments);
        self.waiting.insert(actor.to_owned(), Some(name.clone()));
        Ok(Report { progress: Progress::Upcall(name, serial), ..plain_report() })
    }

    pub(super) fn answer(&mut self, actor: &str) -> Result<Report> {
        let own = self.waiting.get(actor).context("an actor that does not wait")?.clone();
        let waits = Report { progress: Progress::Waits, ..plain_report() };
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE {
            if let Some(report) = self.glance(actor)? {
                self.waiting.remove(actor);
                return Ok(report);
            }
            match &own {
                Some(helper) if self.tasks.get(helper).is_some() => return Ok(waits),
                None if self.stays_waiting(actor)? => return Ok(waits),
                _ => {}
            }
        }
        bail!("{actor} gets no answer")
    }

    /// The end of a helper has done what it does when its requester is answered.
    pub(super) fn upcall_ended(&mut self, helper: &str) -> Result<()> {
        let mut waiting = self.waiting.iter();
        let requester = waiting.find(|(_, brought)| brought.as_deref() == Some(helper));
        let Some(line) = requester.and_then(|(name, _)| self.lines.get(name)) else {
            return Ok(());
        };
        let patience = PollTimeout::try_from(END_PATIENCE)?;
        poll(&mut [PollFd::new(line.socket.as_fd(), PollFlags::POLLIN)], patience)?;
        Ok(())
    }

    pub(super) fn interrupt(&mut self, actor: &str) -> Result<Report> {
        let line = self.line(actor)?;
        kernel::interrupt(line.pid, line.tid).with_context(|| format!("a signal to {actor}"))?;
        Ok(plain_report())
    }

    pub(super) fn arguments(&self, actor: &str) -> Result<Report> {
        let arguments = self.helpers.get(actor).context("an actor that is no helper")?;
        Ok(Report { out: arguments.join(" ").into_bytes(), ..plain_report() })
    }

    /// Ends every helper, whatever it does, and so every wait.
    pub(super) fn end_upcalls(&mut self) {
        for name in self.helpers.keys() {
            if let Some(line) = self.lines.remove(name) {
                let _ = kill(Pid::from_raw(line.pid as i32), Signal::SIGKILL);
            }
        }
        let mut waiting: Vec<String> = self.waiting.keys().cloned().collect();
        waiting.retain(|name| !self.helpers.contains_key(name));
        let began = Instant::now();
        for actor in &waiting {
            while began.elapsed() < END_PATIENCE && matches!(self.glance(actor), Ok(None)) {}
        }
        upcall::forget(self.lines.values().map(|line| line.tid));
    }
}
