//! A history taking place in a world.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::unrest::Unrest;
use super::{Deed, ProcText, World};
use crate::script;
use crate::step::{Action, Arg, Call, IdArg, Start, Step, Text, Which};
use crate::trace::Naming;
use crate::verb;
use crate::wire::{Progress, Report};

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
    /// The calls that have not been answered, by actor.
    waiting: HashMap<String, Step>,
}

impl<W: World> Run<W> {
    /// Begins a history: `r` is root in every way, `a` is the first user without any
    /// right; each has a fresh session keyring, unless the history starts bare.
    pub fn begin(world: W, start: Start) -> Result<Run<W>> {
        let naming = Naming::new(world.id_base());
        let mut run = Run {
            world,
            naming,
            unrest: Unrest::default(),
            quota_was_full: false,
            waiting: HashMap::new(),
        };
        for step in preamble(start) {
            run.step(&step)?;
        }
        Ok(run)
    }

    /// Does one step.
    pub fn step(&mut self, step: &Step) -> Result<Seen> {
        if !self.world.is_there(&step.actor, waits_for(&step.action)) {
            return Ok(Seen::skipped());
        }
        if self.unrest.matters_to(step, &self.naming) {
            self.settle()?;
        }
        let Some(deed) = self.deed(step) else {
            return Ok(Seen::skipped());
        };
        let mut report = self.world.act(&step.actor, &deed).with_context(|| script::line(step))?;
        if self.unrest.of_quota() && !may_call(step) && self.may_be_late_quota(&report) {
            self.settle()?;
            report = self.world.act(&step.actor, &deed)?;
        }
        let text = match step.action {
            Action::Answer => self.answer(step, &report)?,
            _ => self.naming.outcome(step, &report),
        };
        if report.progress != Progress::Done && !matches!(step.action, Action::Answer) {
            self.waiting.insert(step.actor.clone(), step.clone());
        }
        self.unrest.after(step, &report, &self.naming);
        Ok(Seen {
            text,
            ok: report.ret >= 0,
            second_before: report.second_before,
            second_after: report.second_after,
        })
    }

    /// What the call gave in which the actor waited, in the words of that call.
    fn answer(&mut self, step: &Step, report: &Report) -> Result<String> {
        if report.progress != Progress::Done {
            return Ok("waits".to_owned());
        }
        let mut asked = self.waiting.remove(&step.actor).context("an actor that does not wait")?;
        if step.bind.is_some() {
            asked.bind.clone_from(&step.bind);
        }
        Ok(self.naming.outcome(&asked, report))
    }

    fn settle(&mut self) -> Result<()> {
        self.unrest = Unrest::default();
        self.world.settle()
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
            Action::Status => Deed::Open(ProcText::Status),
            Action::Answer => Deed::Answer,
            Action::Interrupt => Deed::Interrupt,
            Action::Arguments => Deed::Arguments,
            Action::Wait(seconds) => Deed::Wait(*seconds),
        })
    }

    /// What a name stands for here, for the generator of histories.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        &self.naming
    }
}

/// True for steps that an actor can take while it waits in a call, and only then.
fn waits_for(action: &Action) -> bool {
    matches!(action, Action::Answer | Action::Interrupt)
}

/// True for a call that may bring a helper, and for the answer to one: made again, it
/// meets what the first left.
fn may_call(step: &Step) -> bool {
    let Action::Call(call) = &step.action else {
        return matches!(step.action, Action::Answer);
    };
    call.verb.name == "request_key" && call.args.get(2) != Some(&Arg::Text(Text::Null))
}

/// The steps before the first.
#[must_use]
pub fn preamble(start: Start) -> Vec<Step> {
    let own = IdArg::Own(1);
    let join = || {
        Action::Call(Call {
            verb: verb::get("join_session_keyring"),
            args: vec![Arg::Text(Text::Null)],
        })
    };
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
