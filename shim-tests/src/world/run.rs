//! A history taking place in a world.

use anyhow::Result;

use super::{Deed, ProcText, Unrest, World};
use crate::step::{Action, Arg, Call, IdArg, Start, Step, Text, Which};
use crate::trace::Naming;
use crate::verb;
use crate::wire::Report;

/// What one step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// In words, see [`crate::trace`].
    pub text: String,
    /// True when it was no error.
    pub ok: bool,
    /// The second of the world's clock before it.
    pub second_before: i64,
    /// And after it.
    pub second_after: i64,
}

impl Seen {
    /// Of a step that names a key which was never made: nobody did anything.
    fn skipped() -> Seen {
        Seen { text: "skipped".to_owned(), ok: false, second_before: 0, second_after: 0 }
    }
}

/// A world with the names of one history.
pub struct Run<W> {
    /// Where it happens.
    pub world: W,
    naming: Naming,
    unrest: Unrest,
    quota_was_full: bool,
}

impl<W: World> Run<W> {
    /// Begins a history: `r` is root in every way, `a` is the first user without any
    /// right; each has a fresh session keyring, unless the history starts bare.
    pub fn begin(world: W, start: Start) -> Result<Run<W>> {
        let naming = Naming::new(world.id_base());
        let mut run = Run { world, naming, unrest: Unrest::None, quota_was_full: false };
        for step in preamble(start) {
            run.step(&step)?;
        }
        Ok(run)
    }

    /// Does one step.
    pub fn step(&mut self, step: &Step) -> Result<Seen> {
        if self.unrest == Unrest::Keys || self.looks_at_quota(step) {
            self.settle()?;
        }
        let Some(deed) = self.deed(step) else {
            return Ok(Seen::skipped());
        };
        let mut report = self.world.act(&step.actor, &deed)?;
        if self.unrest == Unrest::Quota && self.may_be_late_quota(&report) {
            self.settle()?;
            report = self.world.act(&step.actor, &deed)?;
        }
        let text = self.naming.outcome(step, &report);
        self.unrest = self.unrest.max(self.unrest_after(step, &report));
        Ok(Seen {
            text,
            ok: report.ret >= 0,
            second_before: report.second_before,
            second_after: report.second_after,
        })
    }

    fn settle(&mut self) -> Result<()> {
        self.unrest = Unrest::None;
        self.world.settle()
    }

    fn looks_at_quota(&self, step: &Step) -> bool {
        self.unrest != Unrest::None && matches!(step.action, Action::ProcKeys | Action::KeyUsers)
    }

    /// A call that fails for want of quota changes nothing, so it can be made again
    /// once the quota of destroyed keys is back. ENOKEY is how the lookup of a user
    /// keyring shows the same.
    fn may_be_late_quota(&mut self, report: &Report) -> bool {
        let full = report.ret == -i64::from(libc::EDQUOT);
        self.quota_was_full |= full;
        full || (self.quota_was_full && report.ret == -i64::from(libc::ENOKEY))
    }

    fn deed(&self, step: &Step) -> Option<Deed> {
        let id = |id: &IdArg| self.naming.id(*id);
        Some(match &step.action {
            Action::Call(call) => {
                let (entry, registers) = self.naming.registers(call)?;
                Deed::Call(entry, registers)
            }
            Action::Fork(name) => Deed::Fork(name.clone()),
            Action::Thread(name) => Deed::Thread(name.clone()),
            Action::Exec => Deed::Exec,
            Action::Exit => Deed::Exit,
            Action::SetIds(which, ids) => {
                Deed::SetIds(*which, [id(&ids[0]), id(&ids[1]), id(&ids[2])])
            }
            Action::SetGroups(groups) => Deed::SetGroups(groups.iter().map(id).collect()),
            Action::ProcKeys => Deed::Open(ProcText::Keys),
            Action::KeyUsers => Deed::Open(ProcText::KeyUsers),
            Action::Wait(seconds) => Deed::Wait(*seconds),
        })
    }

    fn unrest_after(&self, step: &Step, report: &Report) -> Unrest {
        match &step.action {
            Action::Exec | Action::Exit => Unrest::Keys,
            Action::Call(_) if report.ret < 0 => Unrest::Quota,
            Action::Call(call) => self.unrest_of(call),
            _ => Unrest::None,
        }
    }

    fn unrest_of(&self, call: &Call) -> Unrest {
        let of_keyring = match self.naming.is_keyring(call.args.first()) {
            true => Unrest::Keys,
            false => Unrest::Quota,
        };
        match call.verb.name {
            "clear" | "invalidate" | "join" | "session_to_parent" => Unrest::Keys,
            "unlink" | "revoke" | "link" | "move" => of_keyring,
            "add_key" if call.args.first() == Some(&Arg::Text(Text::new("keyring"))) => {
                Unrest::Keys
            }
            "add_key" | "request_key" | "search" | "get_persistent" => Unrest::Quota,
            _ => Unrest::None,
        }
    }

    /// What a name stands for here, for the generator of histories.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        &self.naming
    }
}

/// The steps before the first.
#[must_use]
pub fn preamble(start: Start) -> Vec<Step> {
    let own = IdArg::Own(1);
    let join = || Action::Call(Call { verb: verb::get("join"), args: vec![Arg::Text(Text::Null)] });
    let mut steps = vec![
        Step::new("r", Action::SetGroups(Vec::new())),
        Step::new("r", Action::Fork("a".to_owned())),
        Step::new("a", Action::SetIds(Which::Gids, [own; 3])),
        Step::new("a", Action::SetIds(Which::Uids, [own; 3])),
    ];
    if start == Start::Sessions {
        steps.insert(1, Step { bind: Some("rs".to_owned()), ..Step::new("r", join()) });
        steps.push(Step { bind: Some("s".to_owned()), ..Step::new("a", join()) });
    }
    steps
}
