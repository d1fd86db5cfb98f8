//! The session keyring that a container begins with.
//!
//! Runtimes make one in the kernel, before they install the filter. Without it each
//! program in the container would have one of its own.

use keyshim_abi::caller::TaskId;
use keyshim_abi::perm::{Need, Perm};
use keyshim_abi::reply::Answer;
use keyshim_abi::{KeyId, Request};

use crate::domain::{Domain, submit};
use crate::fault::CutOff;
use crate::{proc, visitor};

/// The name that runtimes give to the session keyring of a container.
pub(crate) fn name(container: &str) -> String {
    format!("_ses.{container}")
}

impl Domain {
    /// Gives a container's program a session keyring of that name, and all that it has
    /// forked: nobody of them has been answered yet. Gone when there is no such
    /// program under a filter, as for a runtime in another pid namespace.
    pub(crate) fn begin_session(&mut self, pid: u32, name: &str) -> Result<Answer, CutOff> {
        if !proc::is_filtered(pid) {
            return Err(CutOff::Gone);
        }
        self.sweep();
        if !self.is_told() || self.tasks.knows_pid(pid) {
            let task = self.task_of(pid)?;
            return self.join_session(task, name);
        }
        let mut joined = Err(CutOff::Gone);
        let (pid, pidfd) = visitor::process_of(pid)?;
        self.meet_first(pid, pidfd, |domain, task| joined = domain.join_session(task, name))?;
        joined
    }

    /// Others of the same user are to find the keyring by its name, which one that is
    /// merely joined does not allow: so that a program that is put into a container
    /// later joins it.
    fn join_session(&mut self, task: TaskId, name: &str) -> Result<Answer, CutOff> {
        let join = Request::JoinSessionKeyring { name: Some(Ok(name.as_bytes())) };
        let perm = Perm::POSSESSOR_ALL
            .with(Perm::user(Need::View).with(Perm::user(Need::Read)))
            .with(Perm::user(Need::Search).with(Perm::user(Need::Link)));
        let to_be_found = Request::Setperm { key: KeyId::SESSION, perm };
        self.as_caller(task, None, |service, caller| {
            let given = service.profile().named_session_perm;
            let is_found_anyway = given.meets(Perm::user(Need::Search));
            let mut ask = |request| submit(service, caller, request, &mut Vec::new());
            let joined = ask(&join);
            if is_found_anyway { joined } else { joined.and_then(|_| ask(&to_be_found)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_nobodys_begins_nothing() {
        let mut domain = Domain::plain(Some(1)).unwrap();
        for pid in [0, i32::MAX as u32, std::process::id()] {
            assert_eq!(domain.begin_session(pid, &name("x")), Err(CutOff::Gone), "{pid}");
        }
        assert!(domain.tasks.is_empty());
    }
}
