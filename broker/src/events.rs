//! What the kernel tells of every task: forks, execves and ends (its process events
//! connector, `drivers/connector/cn_proc.c`).
//!
//! An event lies in our socket before the new task runs, before execve returns, and
//! before an end can be waited for. So whoever empties the socket before it carries out
//! a call knows of everything that came before that call, in its order.
//!
//! There is one socket for all domains of this process: each event of the machine is
//! copied into each socket that listens, and each domain picks out its own.

mod wire;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, send, setsockopt, sockopt};

use crate::server::Server;
use crate::tasks::Place;
use crate::{server, sys, worker};

/// Bytes asked for events that nobody has looked at yet. The kernel counts some 800 for
/// each, and gives an ordinary user less than this.
const BUFFER_LEN: usize = 8 << 20;
/// Events that wait for a domain. One more, and the domain looks for itself.
const WAITING_MAX: usize = 1 << 16;
/// Events taken before somebody else may go on.
const TAKEN_MAX: usize = 1 << 16;
/// How long events may gather before somebody looks who does not have to: one wake-up
/// for many of them.
const GATHERING: Duration = Duration::from_millis(2);

/// Something that has happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskNews {
    /// `child` is new: a process when its two ids are the same, else a thread. A
    /// process has `parent` as its parent; who made a thread the kernel does not say.
    Forked {
        /// The parent.
        parent: Place,
        /// The new task.
        child: Place,
    },
    /// The process runs another program, and has one thread.
    Execed {
        /// Its id.
        pid: u32,
    },
    /// The thread has ended.
    Ended(Place),
    /// What has happened here nobody knows: there was no room for it.
    Lost,
}

/// The events of this process's socket.
pub(crate) struct Feed {
    socket: OwnedFd,
    /// The domains that listen. Held while the socket is read, so that the order of
    /// events is the same for all.
    queues: Mutex<Vec<Weak<Queue>>>,
    servers: Mutex<Vec<Weak<Server>>>,
}

type Queue = Mutex<VecDeque<TaskNews>>;

/// What one domain hears.
pub(crate) struct Subscription {
    feed: Arc<Feed>,
    queue: Arc<Queue>,
}

impl Feed {
    /// The feed of this process, opened when it is first asked for. `None` where the
    /// kernel tells nothing: in a pid or network namespace other than the first, before
    /// Linux 6.6 without privileges, and where it is built without process events.
    pub(crate) fn shared() -> Option<Arc<Feed>> {
        static FEED: OnceLock<Option<Arc<Feed>>> = OnceLock::new();
        FEED.get_or_init(|| match Feed::open() {
            Ok(feed) => Some(feed),
            Err(errno) => {
                tracing::info!(%errno, "the kernel tells nothing of tasks; their lineage is inferred");
                None
            }
        })
        .clone()
    }

    fn open() -> Result<Arc<Feed>, Errno> {
        let socket = sys::connector_socket()?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_LEN).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_LEN)?;
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, wire::GROUP))?;
        let feed = Feed { socket, queues: Mutex::default(), servers: Mutex::default() };
        for wish in wire::wishes() {
            send(feed.socket.as_raw_fd(), &wish, MsgFlags::empty())?;
            if feed.speaks() {
                return Ok(Feed::attended(feed));
            }
        }
        Err(Errno::EOPNOTSUPP)
    }

    /// True when a thread of our own is heard of as soon as it has been there: where
    /// the kernel does not serve us it says nothing at all.
    fn speaks(&self) -> bool {
        let mut news = Vec::new();
        let thread = std::thread::spawn(|| nix::unistd::gettid().as_raw() as u32);
        let Ok(tid) = thread.join() else { return false };
        self.drain(&mut |one| news.push(one));
        let child = Place { pid: std::process::id(), tid };
        news.iter().any(|one| matches!(one, TaskNews::Forked { child: told, .. } if *told == child))
    }

    /// Starts the thread that keeps the socket from filling while nobody calls.
    fn attended(feed: Feed) -> Arc<Feed> {
        let feed = Arc::new(feed);
        let attended = Arc::clone(&feed);
        if let Err(fault) = server::spawn("task events".into(), move || attended.attend()) {
            // Without it events may be lost, which is noticed.
            tracing::warn!("{fault}");
        }
        feed
    }

    fn attend(&self) {
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            std::thread::sleep(GATHERING);
            self.fill_queues();
            let servers: Vec<Arc<Server>> = {
                let mut servers = lock(&self.servers);
                servers.retain(|server| server.strong_count() != 0);
                servers.iter().filter_map(Weak::upgrade).collect()
            };
            for server in servers {
                worker::look_at_changes(&server);
                worker::close_orphaned(&server);
            }
        }
    }

    /// Has that server's domain look at its events also when nobody calls.
    pub(crate) fn serve(&self, server: &Arc<Server>) {
        lock(&self.servers).push(Arc::downgrade(server));
    }

    /// Hears of everything from now on.
    pub(crate) fn subscribe(self: Arc<Feed>) -> Subscription {
        let queue = Arc::new(Queue::default());
        lock(&self.queues).push(Arc::downgrade(&queue));
        Subscription { feed: self, queue }
    }

    fn fill_queues(&self) {
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() != 0);
        let living: Vec<Arc<Queue>> = queues.iter().filter_map(Weak::upgrade).collect();
        self.drain(&mut |news| living.iter().for_each(|queue| push(&mut lock(queue), news)));
    }

    /// Takes whatever has happened so far.
    fn drain(&self, hear: &mut dyn FnMut(TaskNews)) {
        let mut message = [0; wire::MESSAGE_LEN_MAX];
        for _ in 0..TAKEN_MAX {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut message) {
                // Port 0 is the kernel.
                Ok((len, Some(sender))) if sender.pid() == 0 => {
                    if let Some(news) = message.get(..len).and_then(wire::parse) {
                        hear(news);
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => hear(TaskNews::Lost),
                Err(_) => return,
            }
        }
    }
}

/// Adds an event, or notes that there is no room for it.
fn push(queue: &mut VecDeque<TaskNews>, news: TaskNews) {
    if queue.len() < WAITING_MAX {
        queue.push_back(news);
    } else {
        queue.clear();
        queue.push_back(TaskNews::Lost);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic aborts the process, so no lock is ever poisoned.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscription {
    /// Everything that has happened since the last time, in its order.
    pub(crate) fn take(&self) -> VecDeque<TaskNews> {
        self.feed.fill_queues();
        std::mem::take(&mut lock(&self.queue))
    }

    /// The feed that it listens to.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn subscription() -> Option<Subscription> {
        let feed = Feed::shared();
        if feed.is_none() {
            eprintln!("skipped: the kernel tells nothing of tasks here");
        }
        feed.map(Feed::subscribe)
    }

    #[test]
    fn a_program_is_heard_of_from_its_fork_to_its_end() {
        let Some(subscription) = subscription() else { return };
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let news = subscription.take();
        let at = |wanted: &dyn Fn(&TaskNews) -> bool| news.iter().position(wanted).unwrap();
        let place = Place { pid, tid: pid };
        let own = std::process::id();
        let forked = at(
            &|one| matches!(one, TaskNews::Forked { parent, child } if parent.pid == own && *child == place),
        );
        let execed = at(&|one| *one == TaskNews::Execed { pid });
        let ended = at(&|one| *one == TaskNews::Ended(place));
        assert!(forked < execed && execed < ended);
    }

    #[test]
    fn two_domains_hear_the_same() {
        let (Some(one), Some(other)) = (subscription(), subscription()) else { return };
        let tid = std::thread::spawn(|| nix::unistd::gettid().as_raw() as u32).join().unwrap();
        let ended = TaskNews::Ended(Place { pid: std::process::id(), tid });
        assert!(one.take().contains(&ended));
        assert!(other.take().contains(&ended));
        assert!(!other.take().contains(&ended), "it happened once");
    }

    #[test]
    fn a_domain_that_does_not_listen_costs_no_memory() {
        let mut queue = VecDeque::new();
        let ended = TaskNews::Ended(Place { pid: 7, tid: 7 });
        for _ in 0..=WAITING_MAX {
            push(&mut queue, ended);
        }
        assert_eq!(queue, [TaskNews::Lost]);
    }
}
