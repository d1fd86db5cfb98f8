//! A file operation as calls: in the name of the thread that the kernel holds in it, under
//! the domain's lock from the first call to the last.

use fuser::{Errno, Request};
use keyshim_abi::caller::TaskId;
use keyshim_abi::{Errno as Answer, Serial};
use keyshim_keys::{KeyService, Standing, View};
use zeroize::Zeroizing;

use super::name::{KeyName, Name};
use crate::fault::CutOff;
use crate::host;
use crate::server::{Locked, Server};

/// The largest error that the kernel takes for an answer to a file operation.
const ERRNO_MAX: i32 = 511;

/// A thread and what it does.
pub(super) struct Act<'a> {
    domain: Locked<'a>,
    task: TaskId,
}

/// Any error of a call as the kernel takes it. ENOSYS would mean that nobody need ask for
/// such an operation again.
pub(super) fn errno(answer: Answer) -> Errno {
    match answer {
        Answer::ENOSYS => Errno::EIO,
        // Nobody interrupts a call but us: it would have waited for a helper.
        Answer::EINTR => Errno::EAGAIN,
        other if other.raw() > ERRNO_MAX => Errno::EIO,
        other => Errno::from_i32(other.raw()),
    }
}

fn unanswered(reason: CutOff) -> Errno {
    tracing::info!("a file operation is not carried out: {reason}");
    match reason {
        CutOff::Gone => Errno::EACCES,
        _ => Errno::EIO,
    }
}

/// The error of a key that cannot be used any more.
pub(super) fn usable(view: &View) -> Result<(), Errno> {
    match view.standing {
        Standing::Invalidated => Err(Errno::ENOENT),
        Standing::Revoked => Err(errno(Answer::EKEYREVOKED)),
        Standing::Expired => Err(errno(Answer::EKEYEXPIRED)),
        Standing::UnderConstruction => Err(Errno::EAGAIN),
        Standing::Valid | Standing::Negative => Ok(()),
    }
}

impl<'a> Act<'a> {
    /// Begins. EACCES for a thread that has no number in our pid namespace.
    pub(super) fn begin(server: &'a Server, who: &Request) -> Result<Act<'a>, Errno> {
        if who.pid() == 0 {
            return Err(Errno::EACCES);
        }
        let mut domain = server.domain();
        let task = domain.task_of(who.pid()).map_err(unanswered)?;
        Ok(Act { domain, task })
    }

    /// Makes a call that brings no bytes.
    pub(super) fn call(&mut self, request: &keyshim_abi::Request<'_>) -> Result<u32, Errno> {
        self.try_call(request, &mut Vec::new())?.map_err(errno)
    }

    /// Makes a call that brings bytes.
    pub(super) fn fetch(
        &mut self,
        request: &keyshim_abi::Request<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let mut data = Zeroizing::new(Vec::new());
        self.try_call(request, &mut data)?.map_err(errno)?;
        Ok(data)
    }

    /// Makes a call; its own error stays apart from ours.
    pub(super) fn try_call(
        &mut self,
        request: &keyshim_abi::Request<'_>,
        data: &mut Vec<u8>,
    ) -> Result<Result<u32, Answer>, Errno> {
        self.domain.call_at_once(self.task, request, data).map_err(unanswered)
    }

    /// The key of that serial as the caller sees it. ENOENT when there is none.
    pub(super) fn view(&mut self, serial: Serial) -> Result<View, Errno> {
        let seen = self.domain.as_caller(self.task, None, |service, caller| {
            service.view(host::now(), caller, serial)
        });
        seen.map_err(unanswered)?.map_err(|_| Errno::ENOENT)
    }

    /// The number that the caller's namespace has for a user and a group of ours. EINVAL for
    /// one that it does not have.
    pub(super) fn inward(&mut self, uid: u32, gid: u32) -> Result<(u32, u32), Errno> {
        let ids = self.domain.as_caller(self.task, None, |_, caller| {
            let namespace = caller.namespace();
            let same = |id: u32| (id == u32::MAX).then_some(id);
            let uid = same(uid).or_else(|| namespace.uids.inward(uid));
            uid.zip(same(gid).or_else(|| namespace.gids.inward(gid)))
        });
        ids.map_err(unanswered)?.ok_or(Errno::EINVAL)
    }

    /// The core, for what is asked without anybody's rights.
    pub(super) fn service(&self) -> &KeyService {
        &self.domain.service
    }

    /// A keyring that the caller may look names up in: one that it may search or read.
    pub(super) fn directory(&mut self, ring: Serial) -> Result<View, Errno> {
        let directory = self.view(ring)?;
        usable(&directory)?;
        let may = may_list(&directory) || may_search(&directory);
        if may { Ok(directory) } else { Err(Errno::EACCES) }
    }

    /// What a keyring links by that name. ENOENT also for what the caller may not find: by
    /// its description without VIEW, unless a search would find it.
    pub(super) fn find(&mut self, ring: Serial, name: &Name) -> Result<View, Errno> {
        let directory = self.directory(ring)?;
        match name {
            Name::Number(serial) => {
                let is_linked = self.service().links_to(ring, *serial);
                if is_linked && may_list(&directory) {
                    self.view(*serial)
                } else {
                    Err(Errno::ENOENT)
                }
            }
            Name::Key(name) => {
                let key = self.view(self.linked(ring, name).ok_or(Errno::ENOENT)?)?;
                let is_listed = may_list(&directory) && key.about.is_some();
                let is_found = may_search(&directory) && may_search(&key);
                if is_listed || is_found { Ok(key) } else { Err(Errno::ENOENT) }
            }
            Name::Draft(_) | Name::Unfit => Err(Errno::ENOENT),
        }
    }

    /// What a keyring links by that name, whether or not the caller may know.
    pub(super) fn linked(&self, ring: Serial, name: &KeyName) -> Option<Serial> {
        self.service().linked_as(ring, &name.type_name, &name.description)
    }
}

fn may_list(keyring: &View) -> bool {
    keyring.may(keyshim_abi::Need::Read)
}

fn may_search(key: &View) -> bool {
    key.may(keyshim_abi::Need::Search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_of_a_call_confuses_the_kernel() {
        assert_eq!(errno(Answer::EKEYREVOKED).code(), 128);
        assert_eq!(errno(Answer::ENOSYS), Errno::EIO);
        for raw in [512, 4094] {
            assert_eq!(errno(Answer::new(raw).unwrap()), Errno::EIO);
        }
    }
}
