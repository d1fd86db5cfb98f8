//! Threads that never say hello: those of programs without the library, known only
//! by the number that the kernel gives with what they do (an open file, a trapped
//! system call).

use std::os::fd::{AsFd, OwnedFd};

use keyshim_abi::caller::TaskId;
use nix::errno::Errno;

use crate::domain::Domain;
use crate::fault::CutOff;
use crate::tasks::Place;
use crate::{identity, proc, sys};

impl Domain {
    /// The task of the thread with that id in our pid namespace; takes it up, with
    /// what it inherited, if it is new.
    ///
    /// A number is all that there is, so whoever calls must hold the thread fast
    /// until this returns: stopped in the system call that is being answered, it can
    /// neither end nor lose its number to another. Gone when it has ended all the
    /// same, or is none that we can see (number 0).
    pub(crate) fn task_of(&mut self, tid: u32) -> Result<TaskId, CutOff> {
        self.sweep();
        if let Some(place) = self.tasks.held(tid) {
            return self.visited_again(place);
        }
        let (pid, pidfd) = process_of(tid)?;
        if self.is_told() {
            return self.meet(Place { pid, tid }, pidfd);
        }
        let place = Place { pid, tid };
        if self.tasks.knows_process(pid, &pidfd) {
            return self.visited_again(place);
        }
        let parent = identity::parent(pid, pidfd.as_fd()).ok_or(CutOff::Gone)?;
        let forker = self.ancestor(pid, parent);
        self.take_up(pid, pidfd, forker)?;
        self.known_or_started(place)
    }

    fn visited_again(&mut self, place: Place) -> Result<TaskId, CutOff> {
        // Nobody announces what a program without the library executes.
        if let Some(task) = self.tasks.representative(place.pid) {
            self.notice_execve(task);
        }
        self.known_or_started(place)
    }
}

/// The process of a thread, held by its pidfd.
pub(crate) fn process_of(tid: u32) -> Result<(u32, OwnedFd), CutOff> {
    let pid = proc::process_of(tid).ok_or(CutOff::Gone)?;
    let pidfd = sys::pidfd_open(pid, 0).map_err(|errno| match errno {
        Errno::ESRCH | Errno::EINVAL => CutOff::Gone,
        errno => CutOff::Kernel(errno),
    })?;
    // Still a thread of a living process with that number: so it is that process
    // which the pidfd holds, and not a later one.
    let is_still = proc::is_thread_of(pid, tid) && identity::is_alive(pidfd.as_fd());
    if is_still { Ok((pid, pidfd)) } else { Err(CutOff::Gone) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use keyshim_abi::{KeyId, Request};
    use keyshim_keys::{Config, Profile, Upcalls};

    use super::*;
    use crate::descent::Lineage;
    use crate::host;
    use crate::waits::{Progress, Road};

    /// One that infers lineage, and one that is told where the kernel tells.
    fn domains() -> [Domain; 2] {
        [Lineage::Inferred, Lineage::best()].map(|lineage| {
            Domain::with_lineage(
                Config {
                    entropy: host::entropy(Some(1)),
                    upcalls: Upcalls::Off,
                    profile: Profile::default(),
                },
                lineage,
            )
            .unwrap()
        })
    }

    /// Waits for what may take the kernel a moment.
    fn eventually(mut holds: impl FnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !holds() {
            assert!(begun.elapsed().as_secs() < 20, "not in time");
            std::thread::yield_now();
        }
    }

    fn answer(domain: &mut Domain, task: TaskId, request: &Request<'_>) -> u32 {
        let nobody = || Road::Connection(0);
        match domain.call(task, request, &mut Vec::new(), nobody).unwrap() {
            Progress::Answered(answer) => answer.unwrap(),
            Progress::Waits { .. } => panic!("it waits"),
        }
    }

    fn session_of(domain: &mut Domain, task: TaskId) -> i64 {
        let request = Request::GetKeyringId { id: KeyId::SESSION, create: true };
        answer(domain, task, &request).into()
    }

    #[test]
    fn a_visitor_is_the_same_task_at_its_next_visit() {
        domains().into_iter().for_each(visit_twice);
    }

    fn visit_twice(mut domain: Domain) {
        let mut child = Command::new("sleep").arg("9").spawn().unwrap();
        let task = domain.task_of(child.id()).unwrap();
        assert_eq!(domain.task_of(child.id()), Ok(task));
        assert_eq!(domain.tasks.place(task), Ok(Place { pid: child.id(), tid: child.id() }));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(domain.task_of(child.id()), Err(CutOff::Gone));
        assert_eq!(domain.tasks.place(task), Err(CutOff::Gone));
    }

    #[test]
    fn nobody_is_at_a_number_that_cannot_be_seen() {
        for mut domain in domains() {
            for tid in [0, i32::MAX as u32, u32::MAX] {
                assert_eq!(domain.task_of(tid), Err(CutOff::Gone), "{tid}");
            }
        }
    }

    #[test]
    fn a_thread_is_found_by_its_own_number() {
        domains().into_iter().for_each(find_thread);
    }

    fn find_thread(mut domain: Domain) {
        let (say, heard) = mpsc::channel();
        let other = std::thread::spawn(move || {
            say.send(nix::unistd::gettid().as_raw() as u32).unwrap();
            std::thread::park();
        });
        let (pid, tid) = (std::process::id(), heard.recv().unwrap());
        let task = domain.task_of(tid).unwrap();
        assert_eq!(domain.tasks.place(task), Ok(Place { pid, tid }));
        assert_ne!(domain.task_of(pid), Ok(task));
        other.thread().unpark();
        other.join().unwrap();
        // It is joined before it has quite ended.
        eventually(|| domain.task_of(tid) == Err(CutOff::Gone));
    }

    #[test]
    fn a_visitor_has_the_session_of_whoever_forked_it() {
        domains().into_iter().for_each(inherit);
    }

    fn inherit(mut domain: Domain) {
        let script = "read go; sleep 9 & echo $!; wait";
        let mut parent = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let forker = domain.task_of(parent.id()).unwrap();
        answer(&mut domain, forker, &Request::JoinSessionKeyring { name: None });
        let session = session_of(&mut domain, forker);
        parent.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        let task = domain.task_of(child).unwrap();
        assert_eq!(session_of(&mut domain, task), session);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child as i32), nix::sys::signal::SIGKILL)
            .unwrap();
        parent.wait().unwrap();
    }

    #[test]
    fn a_visitor_that_has_executed_a_program_has_no_process_keyring_any_more() {
        domains().into_iter().for_each(execute);
    }

    fn execute(mut domain: Domain) {
        let mut child = Command::new("sh")
            .args(["-c", "read go; exec sleep 9"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let task = domain.task_of(child.id()).unwrap();
        let ring = Request::GetKeyringId { id: KeyId::PROCESS, create: true };
        answer(&mut domain, task, &ring);
        assert!(domain.service.has_process_keyring(task));
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        eventually(|| {
            assert_eq!(domain.task_of(child.id()), Ok(task));
            !domain.service.has_process_keyring(task)
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
