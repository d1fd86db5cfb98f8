//! What fork, clone, execve and exit do to keyrings (`copy_creds`,
//! `prepare_exec_creds`, `exit_creds`).

use keyshim_abi::caller::{Ids, TaskId};
use keyshim_abi::uapi::reqkey_default;

use crate::TaskEvent;
use crate::effect::UpcallId;
use crate::key::KeyIx;
use crate::process_keys::{Image, ImageIx, Numbers, Subscriptions, Task};
use crate::quota::Charge;
use crate::service::KeyService;
use crate::task_keyrings::{TaskKeyring, Whose};

impl KeyService {
    pub(crate) fn apply(&mut self, event: TaskEvent) {
        match event {
            TaskEvent::Numbered { task, pid, tid } => {
                self.numbers.insert(task, Numbers { pid, tid });
            }
            TaskEvent::Appeared { task, ids } => {
                self.take_up(task, ids);
                self.process_keyring_at_once(task);
            }
            TaskEvent::Forked { parent, child } => self.forked(parent, child),
            TaskEvent::ThreadStarted { parent, child } => self.thread_started(parent, child),
            TaskEvent::Execed { task } => self.execed(task),
            TaskEvent::IdsChanged { task, ids } => self.ids_changed(task, ids),
            TaskEvent::UpcallStarted { upcall, task, ids } => {
                self.upcall_started(upcall, task, ids);
            }
            TaskEvent::Exited { task } => self.exited(task),
        }
    }

    /// A process keeps the session and what it was told about requests.
    fn forked(&mut self, parent: TaskId, child: TaskId) {
        let Some(maker) = self.tasks.get(&parent).copied() else { return };
        if self.add_task(child, Task { rings: maker.rings.inherited(), ..maker })
            && maker.rings.process.is_some()
        {
            self.process_keyring_at_once(child);
        }
    }

    /// A helper begins as a kernel thread that executes a program: with a session of its
    /// own and nothing else, and the thread keyring as its default destination
    /// (`prepare_kernel_cred`).
    fn upcall_started(&mut self, upcall: UpcallId, id: TaskId, ids: Ids) {
        let construction = self.constructions.running.get(&upcall);
        let session = construction.and_then(|construction| construction.session);
        let rings = Subscriptions { session, ..Subscriptions::default() };
        let reqkey_default = match session {
            Some(_) => reqkey_default::THREAD,
            None => reqkey_default::DEFAULT,
        };
        self.add_task(id, Task { rings, reqkey_default, ..Task::new(ids) });
        self.execed(id);
    }

    /// A thread shares the process keyring too, and has a thread keyring of its own
    /// at once if its maker has one.
    fn thread_started(&mut self, parent: TaskId, child: TaskId) {
        let Some(maker) = self.tasks.get(&parent).copied() else { return };
        let of_maker = maker.rings.thread.filter(|_| self.profile.thread_keyring_begets);
        let thread = of_maker.and_then(|of_maker| self.twin(child, &maker, of_maker));
        let rings = Subscriptions { thread: None, ..maker.rings };
        self.add_task(child, Task { rings, ..maker });
        match (thread, self.tasks.get_mut(&child)) {
            (Some(ring), Some(task)) if task.rings.thread.is_none() => {
                task.rings.thread = Some(ring);
            }
            (Some(ring), _) => self.put(ring),
            (None, _) => {}
        }
    }

    /// An empty thread keyring beside the maker's. A ring that may overrun its quota
    /// is never refused.
    fn twin(&mut self, task: TaskId, maker: &Task, of_maker: KeyIx) -> Option<KeyIx> {
        let namespace = self.store.get(of_maker).namespace;
        let whose = Whose { task, ids: maker.ids, namespace };
        self.new_task_keyring(whose, TaskKeyring::Thread, Charge::Overrun).ok()
    }

    /// False if it is there already.
    fn add_task(&mut self, id: TaskId, task: Task) -> bool {
        if self.tasks.contains_key(&id) {
            return false;
        }
        self.moves_in(task.ids.uid);
        for ring in task.rings.each() {
            self.hold(ring);
        }
        if let Some(image) = task.image.and_then(|image| self.images.get_mut(&image)) {
            image.users += 1;
        }
        self.tasks.insert(id, task);
        true
    }

    /// Thread and process keyrings go, the session stays; but the new program's file
    /// was opened with the credentials of before and keeps all three alive, where files
    /// have credentials.
    fn execed(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).copied() else { return };
        if let Some(numbers) = self.numbers.get_mut(&id) {
            numbers.tid = numbers.pid;
        }
        let image = self.profile.programs_keep_keyrings.then(|| self.new_image(&task));
        if let Some(record) = self.tasks.get_mut(&id) {
            record.rings = task.rings.inherited();
            record.image = image;
        }
        for ring in [task.rings.thread, task.rings.process].into_iter().flatten() {
            self.put(ring);
        }
        self.leave_image(task.image);
        self.process_keyring_at_once(id);
    }

    /// What the file of a new program keeps.
    fn new_image(&mut self, task: &Task) -> ImageIx {
        for ring in task.rings.each() {
            self.hold(ring);
        }
        let image = ImageIx(self.next_image);
        self.next_image += 1;
        self.images.insert(image, Image { users: 1, rings: task.rings });
        image
    }

    fn leave_image(&mut self, image: Option<ImageIx>) {
        let Some(ix) = image else { return };
        let Some(image) = self.images.get_mut(&ix) else { return };
        image.users -= 1;
        if image.users > 0 {
            return;
        }
        let rings = image.rings;
        self.images.remove(&ix);
        for ring in rings.each() {
            self.put(ring);
        }
    }

    fn exited(&mut self, id: TaskId) {
        self.interrupt_task(id);
        self.numbers.remove(&id);
        let Some(task) = self.tasks.remove(&id) else { return };
        for ring in task.rings.each() {
            self.put(ring);
        }
        self.leave_image(task.image);
        self.moves_out(task.ids.uid);
    }
}
