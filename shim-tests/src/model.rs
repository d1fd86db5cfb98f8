//! The tasks of a history and their credentials, as its steps make them.
//!
//! The pure core is told who asks; the kernel knows. So this is the part of the
//! kernel that a history relies on outside the key service: `setresuid(2)` and its
//! kin, what they do to capabilities, who is whose parent and thread.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use keyshim_abi::caller::{
    Caller, Capability, Gid, Ids, NamespaceOf, Parent, Privileges, TaskId, Uid,
};

use crate::step::Which;

const NO_CHANGE: u32 = u32::MAX;

/// One thread.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its number for the core.
    pub id: TaskId,
    /// Number of its process: the id of its first thread.
    pub process: u64,
    /// True for the main thread: the first, or the one that last called execve.
    pub main: bool,
    /// The process that forked it; `None` when that is outside the history or gone.
    pub parent: Option<u64>,
    /// Its ids.
    pub ids: Ids,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// True when all capabilities are permitted; none are otherwise.
    pub permitted: bool,
    /// True when all are effective as well.
    pub effective: bool,
}

impl Privileges for Task {
    fn in_group(&self, gid: Gid) -> bool {
        self.groups.contains(&gid.0)
    }

    fn each_group(&self, visit: &mut dyn FnMut(Gid)) {
        self.groups.iter().copied().map(Gid).for_each(visit);
    }

    fn capable(&self, _capability: Capability) -> bool {
        self.effective
    }

    fn capable_in_own_namespace(&self, _capability: Capability) -> bool {
        self.effective
    }
}

impl Task {
    /// What `/proc/thread-self/status` says of it, as far as it is modelled.
    #[must_use]
    pub fn status(&self) -> String {
        let ids = &self.ids;
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        format!(
            "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nGroups:\t{}\nCapEff:\t{:x}\n",
            ids.uid.0,
            ids.euid.0,
            ids.suid.0,
            ids.fsuid.0,
            ids.gid.0,
            ids.egid.0,
            ids.sgid.0,
            ids.fsgid.0,
            groups.join(" "),
            i32::from(self.effective)
        )
    }

    /// `setresuid` and its kin. Errors as Linux: the number of EPERM, negative, is
    /// left to the kernel; here it is `false`.
    pub fn set_ids(&mut self, which: Which, ids: [u32; 3]) -> bool {
        match which {
            Which::Uids => self.set_resuid(ids),
            Which::Gids => self.set_resgid(ids),
            Which::FsUid => {
                let old = self.ids;
                let mine = [old.uid.0, old.euid.0, old.suid.0, old.fsuid.0];
                if self.effective || mine.contains(&ids[0]) {
                    self.ids.fsuid = Uid(ids[0]);
                }
                true
            }
            Which::FsGid => {
                let old = self.ids;
                let mine = [old.gid.0, old.egid.0, old.sgid.0, old.fsgid.0];
                if self.effective || mine.contains(&ids[0]) {
                    self.ids.fsgid = Gid(ids[0]);
                }
                true
            }
        }
    }

    fn allowed(&self, wanted: [u32; 3], mine: [u32; 3]) -> bool {
        self.effective || wanted.iter().all(|id| *id == NO_CHANGE || mine.contains(id))
    }

    fn set_resuid(&mut self, [real, effective, saved]: [u32; 3]) -> bool {
        let old = self.ids;
        if !self.allowed([real, effective, saved], [old.uid.0, old.euid.0, old.suid.0]) {
            return false;
        }
        let or = |new: u32, old: Uid| if new == NO_CHANGE { old } else { Uid(new) };
        self.ids.uid = or(real, old.uid);
        self.ids.euid = or(effective, old.euid);
        self.ids.suid = or(saved, old.suid);
        self.ids.fsuid = self.ids.euid;
        let had_root = [old.uid, old.euid, old.suid].contains(&Uid::ROOT);
        let has_root = [self.ids.uid, self.ids.euid, self.ids.suid].contains(&Uid::ROOT);
        if had_root && !has_root {
            self.permitted = false;
            self.effective = false;
        }
        if old.euid == Uid::ROOT && self.ids.euid != Uid::ROOT {
            self.effective = false;
        } else if old.euid != Uid::ROOT && self.ids.euid == Uid::ROOT {
            self.effective = self.permitted;
        }
        true
    }

    fn set_resgid(&mut self, [real, effective, saved]: [u32; 3]) -> bool {
        let old = self.ids;
        if !self.allowed([real, effective, saved], [old.gid.0, old.egid.0, old.sgid.0]) {
            return false;
        }
        let or = |new: u32, old: Gid| if new == NO_CHANGE { old } else { Gid(new) };
        self.ids.gid = or(real, old.gid);
        self.ids.egid = or(effective, old.egid);
        self.ids.sgid = or(saved, old.sgid);
        self.ids.fsgid = self.ids.egid;
        true
    }

    /// The credentials after execve of a program without set-user-ID bits.
    fn exec(&mut self) {
        self.ids.suid = self.ids.euid;
        self.ids.fsuid = self.ids.euid;
        self.ids.sgid = self.ids.egid;
        self.ids.fsgid = self.ids.egid;
        self.permitted = self.ids.euid == Uid::ROOT || self.ids.uid == Uid::ROOT;
        self.effective = self.ids.euid == Uid::ROOT;
    }
}

/// All tasks of a history by name.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tasks: HashMap<String, Task>,
    last_id: u64,
}

impl Tasks {
    fn next_id(&mut self) -> TaskId {
        self.last_id += 1;
        TaskId(self.last_id)
    }

    /// The first task: root, with everything.
    pub fn begin(&mut self, name: &str) -> TaskId {
        let id = self.next_id();
        let task = Task {
            id,
            process: id.0,
            main: true,
            parent: None,
            ids: Ids::all(Uid::ROOT, Gid(0)),
            groups: Vec::new(),
            permitted: true,
            effective: true,
        };
        self.tasks.insert(name.to_owned(), task);
        id
    }

    /// The task of that name, if it lives.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Task> {
        self.tasks.get(name)
    }

    /// The task of that name; a fault when there is none.
    pub fn find(&self, name: &str) -> Result<&Task> {
        self.tasks.get(name).with_context(|| format!("there is no actor {name}"))
    }

    /// The same, to change it.
    pub fn find_mut(&mut self, name: &str) -> Result<&mut Task> {
        self.tasks.get_mut(name).with_context(|| format!("there is no actor {name}"))
    }

    /// Names of all that live, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Names of the threads of one process.
    fn of_process(&self, process: u64) -> Vec<String> {
        let of = |task: &Task| task.process == process;
        self.tasks.iter().filter(|(_, task)| of(task)).map(|(name, _)| name.clone()).collect()
    }

    /// A helper, which nobody forked: root with everything.
    pub fn helper(&mut self, name: &str) -> Result<TaskId> {
        if self.tasks.contains_key(name) {
            bail!("actor {name} lives already");
        }
        Ok(self.begin(name))
    }

    /// A new process.
    pub fn fork(&mut self, parent: &str, child: &str) -> Result<TaskId> {
        self.start(parent, child, true)
    }

    /// A new thread.
    pub fn thread(&mut self, maker: &str, child: &str) -> Result<TaskId> {
        self.start(maker, child, false)
    }

    fn start(&mut self, parent: &str, child: &str, process: bool) -> Result<TaskId> {
        if self.tasks.contains_key(child) {
            bail!("actor {child} lives already: give the new one another name");
        }
        let mut task = self.find(parent)?.clone();
        task.id = self.next_id();
        if process {
            task.parent = Some(task.process);
            task.process = task.id.0;
        }
        task.main = process;
        let id = task.id;
        self.tasks.insert(child.to_owned(), task);
        Ok(id)
    }

    /// execve: the other threads end, and this one is the main thread from now on.
    /// Gives the tasks that ended.
    pub fn exec(&mut self, name: &str) -> Result<Vec<TaskId>> {
        let process = self.find(name)?.process;
        let mut ended = Vec::new();
        for other in self.of_process(process) {
            if other != name {
                ended.extend(self.tasks.remove(&other).map(|task| task.id));
            }
        }
        let task = self.find_mut(name)?;
        task.exec();
        task.main = true;
        Ok(ended)
    }

    /// True when this task stands for its whole process: it ends with it.
    pub fn ends_process(&self, name: &str) -> Result<bool> {
        let task = self.find(name)?;
        Ok(task.main || self.of_process(task.process).len() == 1)
    }

    /// The thread ends, or with the main thread the process. Gives the tasks that
    /// ended.
    pub fn exit(&mut self, name: &str) -> Result<Vec<TaskId>> {
        let process = self.find(name)?.process;
        let whole = self.ends_process(name)?;
        let names = if whole { self.of_process(process) } else { vec![name.to_owned()] };
        let ended = names.iter().filter_map(|name| self.tasks.remove(name)).map(|t| t.id).collect();
        if whole {
            for task in self.tasks.values_mut().filter(|task| task.parent == Some(process)) {
                task.parent = None;
            }
        }
        Ok(ended)
    }

    /// The name of the main thread of this task's parent, if it belongs to the history.
    #[must_use]
    pub fn parent_of(&self, name: &str) -> Option<&str> {
        let process = self.tasks.get(name)?.parent?;
        self.tasks
            .iter()
            .find(|(_, task)| task.process == process && task.main)
            .map(|(name, _)| name.as_str())
    }

    /// This task as the core sees it.
    pub fn caller<'a>(&'a self, name: &str) -> Result<Caller<'a>> {
        let task = self.find(name)?;
        let parent = self.parent_of(name).and_then(|parent| self.tasks.get(parent));
        let parent = parent.map(|parent| Parent {
            task: parent.id,
            ids: parent.ids,
            unfit: self.of_process(parent.process).len() > 1,
        });
        Ok(Caller {
            task: task.id,
            tid: task.id.0 as u32,
            ids: task.ids,
            namespace: NamespaceOf::OUTERMOST,
            parent,
            privileges: task,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_root_for_good_drops_every_capability() {
        let mut tasks = Tasks::default();
        tasks.begin("r");
        let task = tasks.find_mut("r").unwrap();
        assert!(task.set_ids(Which::Uids, [NO_CHANGE, 7, NO_CHANGE]));
        assert!(task.permitted && !task.effective);
        assert!(task.set_ids(Which::Uids, [NO_CHANGE, 0, NO_CHANGE]));
        assert!(task.effective);
        assert!(task.set_ids(Which::Uids, [7, 7, 7]));
        assert!(!task.permitted && !task.effective);
        assert!(!task.set_ids(Which::Uids, [0, 7, 7]));
    }

    #[test]
    fn the_main_thread_takes_its_process_along() {
        let mut tasks = Tasks::default();
        tasks.begin("r");
        tasks.fork("r", "a").unwrap();
        tasks.thread("a", "t").unwrap();
        tasks.fork("a", "b").unwrap();
        assert_eq!(tasks.parent_of("b"), Some("a"));
        assert_eq!(tasks.exit("a").unwrap().len(), 2);
        assert_eq!(tasks.parent_of("b"), None);
        assert!(tasks.get("t").is_none());
    }
}
