//! What of earlier steps may still be going on.
//!
//! Linux drops a link, and a task its credentials, after a grace period, and destroys
//! keys in a work queue. A history looks at the result, not at the race; but waiting
//! after every step would take a night, so a step is only waited for when a later one
//! could tell the difference.

use std::collections::HashSet;

use crate::step::{Action, Call, Step};
use crate::trace::{Likeness, Naming, likeness_of};
use crate::wire::{Progress, Report};

/// What may be unfinished.
#[derive(Debug, Default)]
pub struct Unrest {
    /// Keys of any kind may become unknown, or links vanish.
    anything: bool,
    /// Keys of these types and descriptions may become unknown.
    unlinked: HashSet<Likeness>,
    /// Quota may come back.
    quota: bool,
}

impl Unrest {
    /// True when quota may come back.
    #[must_use]
    pub fn of_quota(&self) -> bool {
        self.quota || self.anything || !self.unlinked.is_empty()
    }

    /// True when this step could see something unfinished.
    #[must_use]
    pub fn matters_to(&self, step: &Step, naming: &Naming) -> bool {
        match &step.action {
            _ if self.anything => true,
            Action::Call(call) if call.verb.name == "request_key" && self.of_quota() => true,
            Action::ProcKeys | Action::KeyUsers => self.of_quota(),
            Action::Call(call) => call.args.iter().any(|arg| {
                naming.likeness(Some(arg)).is_some_and(|alike| self.unlinked.contains(&alike))
            }),
            _ => false,
        }
    }

    /// Takes note of a step and what it gave.
    pub fn after(&mut self, step: &Step, report: &Report, naming: &Naming) {
        match &step.action {
            Action::Exec | Action::Exit | Action::Answer | Action::Interrupt => {
                self.anything = true;
            }
            _ if report.progress != Progress::Done => self.anything = true,
            // A key that was made before its link failed.
            Action::Call(_) if report.ret < 0 => self.quota = true,
            Action::Call(call) => self.after_call(call, naming),
            _ => {}
        }
    }

    fn after_call(&mut self, call: &Call, naming: &Naming) {
        match call.verb.name {
            "clear"
            | "invalidate"
            | "join_session_keyring"
            | "session_to_parent"
            | "instantiate"
            | "instantiate_iov"
            | "negate"
            | "reject"
            | "assume_authority" => {
                self.anything = true;
            }
            "revoke" if naming.is_keyring(call.args.first()) => self.anything = true,
            "unlink" | "link" | "move" => match naming.likeness(call.args.first()) {
                Some(alike) if !naming.is_keyring(call.args.first()) => {
                    self.unlinked.insert(alike);
                }
                _ => self.anything = true,
            },
            "add_key" | "request_key" => self.displaced(call, 0),
            "search" => self.displaced(call, 1),
            "get_persistent" => self.quota = true,
            _ => {}
        }
    }

    fn displaced(&mut self, call: &Call, type_index: usize) {
        match likeness_of(call, type_index) {
            Some(alike) if !alike.is_keyring() => {
                self.unlinked.insert(alike);
            }
            _ => self.anything = true,
        }
    }
}
