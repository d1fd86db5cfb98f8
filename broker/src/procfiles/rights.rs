//! What a thread may do with the files under `/proc`, and what it finds there.

use keyshim_abi::Errno;
use keyshim_abi::caller::{
    Caller, Gid, Ids, NamespaceOf, TaskId, Uid, Unprivileged, UserNamespace,
};
use keyshim_abi::procfs::{Knob, ProcFile};

use crate::domain::Domain;
use crate::fault::CutOff;
use crate::host;

/// `CAP_DAC_OVERRIDE`: opens a file for writing whatever its mode.
const CAP_DAC_OVERRIDE: u32 = 1;
/// A task that there is none of.
const NOBODY: TaskId = TaskId(0);

impl Domain {
    /// True for a thread that may write to knobs: whose effective user is the outermost
    /// root. Neither fsuid nor a capability counts (`sysctl_perm`, whose mode is 0644).
    pub(crate) fn may_tune(&mut self, task: TaskId) -> Result<bool, CutOff> {
        self.as_caller(task, None, |_, caller| caller.ids.euid == Uid::ROOT)
    }

    /// True for a thread that may open for writing what nobody may write to.
    pub(crate) fn may_override(&mut self, task: TaskId) -> Result<bool, CutOff> {
        let is_outermost =
            self.as_caller(task, None, |_, caller| caller.namespace() == UserNamespace::OUTERMOST)?;
        let place = self.tasks.place(task)?;
        let effective = self.tasks.thread_ref(place)?.status()?.effective;
        Ok(is_outermost && effective >> CAP_DAC_OVERRIDE & 1 == 1)
    }

    /// Writes to a knob, as write(2) at the beginning of its file: how many bytes were
    /// taken. EPERM for a writer who may not, whoever opened it (`proc_sys_call_handler`);
    /// EINVAL for what is no value.
    pub(crate) fn write_knob(
        &mut self,
        task: TaskId,
        knob: Knob,
        written: &[u8],
    ) -> Result<Result<usize, Errno>, CutOff> {
        self.sweep();
        self.goes_on(task);
        let may = self.may_tune(task)?;
        Ok(if may { self.service.knob_write(knob, written) } else { Err(Errno::EPERM) })
    }

    /// The text of a file as a thread with that user and group and without any keyring
    /// of its own sees it.
    pub(crate) fn open_for_stranger(
        &mut self,
        uid: u32,
        gid: u32,
        file: ProcFile,
        text: &mut Vec<u8>,
    ) {
        self.sweep();
        let caller = Caller {
            task: NOBODY,
            tid: 0,
            ids: Ids::all(Uid(uid), Gid(gid)),
            namespace: NamespaceOf::OUTERMOST,
            parent: None,
            privileges: &Unprivileged,
        };
        self.service.proc_read(host::now(), &caller, file, text);
    }
}
