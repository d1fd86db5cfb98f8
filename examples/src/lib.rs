//! What a program that embeds the key service supplies in the plainest case. The
//! programs are in `examples/`.

use keyshim_abi::caller::{Caller, Gid, Ids, NamespaceOf, TaskId, Uid, Unprivileged};

use keyshim_abi::reply::Answer;
use keyshim_keys::Outcome;

/// The user that the programs pretend to be.
pub const ALICE: Ids = Ids::all(Uid(1000), Gid(1000));

/// A thread of [`ALICE`]'s, without privileges or a known parent. The service must be
/// told of the thread by a task event before it calls.
#[must_use]
pub fn alice(task: TaskId) -> Caller<'static> {
    Caller {
        task,
        tid: 1,
        ids: ALICE,
        namespace: NamespaceOf::OUTERMOST,
        parent: None,
        privileges: &Unprivileged,
    }
}

/// The answer to a call, where nobody is called for keys that are not there: such calls
/// never wait.
pub fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Done(answer) => answer,
        Outcome::Waiting => unreachable!("without upcalls no call waits"),
    }
}
