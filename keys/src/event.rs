//! What happens to tasks, as far as their keyrings depend on it.

use keyshim_abi::caller::{Ids, TaskId};

use crate::effect::UpcallId;

/// Something that happened to a thread. A shell reports it before it submits a
/// call that comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// What `/proc` calls a thread that is about to begin: comes before the event that says
    /// so, where the kernel names keyrings by these numbers ([`crate::Profile::ring_names`]).
    Numbered {
        /// The new thread.
        task: TaskId,
        /// Number of its process.
        pid: u32,
        /// Its own number.
        tid: u32,
    },
    /// A thread whose parent nobody knows: it starts without any keyring, but for a process
    /// keyring where every program has one.
    Appeared {
        /// The new thread.
        task: TaskId,
        /// Its ids.
        ids: Ids,
    },
    /// A new process (fork, vfork, clone without `CLONE_THREAD`): it gets the
    /// parent's session keyring, assumed authority and default destination.
    Forked {
        /// The thread that forked.
        parent: TaskId,
        /// The main thread of the new process.
        child: TaskId,
    },
    /// A new thread of the same process (`CLONE_THREAD`): besides, it shares the
    /// process keyring, and gets an empty thread keyring of its own if its maker
    /// had one.
    ThreadStarted {
        /// The thread that made it.
        parent: TaskId,
        /// The new thread.
        child: TaskId,
    },
    /// execve: the thread and process keyrings are dropped.
    Execed {
        /// The thread that goes on as the process's only one.
        task: TaskId,
    },
    /// The ids changed; the thread keyring's owner follows fsuid and fsgid. A call
    /// with new ids implies it.
    IdsChanged {
        /// The thread.
        task: TaskId,
        /// Its ids now.
        ids: Ids,
    },
    /// The helper of an upcall has begun: a process that nobody forked. It starts with
    /// the session keyring that holds its authority. Of an upcall that is unknown, or has
    /// ended: without any keyring.
    UpcallStarted {
        /// Which upcall.
        upcall: UpcallId,
        /// The helper's main thread.
        task: TaskId,
        /// Its ids.
        ids: Ids,
    },
    /// The thread has ended. Calls of its that wait end with EINTR, but for one that
    /// caused an upcall: that one is answered when the upcall ends.
    Exited {
        /// The thread.
        task: TaskId,
    },
}
