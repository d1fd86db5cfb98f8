//! The filter that hands key calls to the supervisor and lets all others pass.
//!
//! Compiled by seccompiler, which knows neither the action that we need nor 32-bit
//! gates: it compiles one part for each architecture with a marker in place of the
//! action and, where the architecture differs, the end of the program; both are
//! rewritten here.
//!
//! Nothing but the three calls is trapped. A program under a filter whose supervisor
//! has died gets ENOSYS for what is trapped; if fork, execve or exit were, it could
//! not even end.

use std::collections::{BTreeMap, BTreeSet};

use keyshim_abi::gate::Gate;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

use crate::fault::Fault;

/// `SECCOMP_RET_USER_NOTIF`.
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// In place of [`NOTIFY`] until the program is compiled: to be traced with this datum.
const MARKER: u16 = 0x6b73;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// Where each part compares the architecture, and where it gives up on another.
const ARCH_AT: usize = 1;
const STRANGER_AT: usize = 2;

/// The program for these gates: key calls notify, everything else is allowed.
pub(crate) fn program(gates: &[Gate]) -> Result<BpfProgram, Fault> {
    let archs: BTreeSet<u32> = gates.iter().map(|gate| gate.arch).collect();
    let mut whole = BpfProgram::new();
    for arch in archs {
        let mut part = compile(gates.iter().filter(|gate| gate.arch == arch))?;
        adapt(&mut part, arch)?;
        whole.append(&mut part);
    }
    // Reached from the last part, for an architecture that has no gate.
    whole.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW });
    Ok(whole)
}

fn compile<'a>(gates: impl Iterator<Item = &'a Gate>) -> Result<BpfProgram, Fault> {
    let numbers = gates
        .flat_map(|gate| [gate.numbers.add_key, gate.numbers.request_key, gate.numbers.keyctl]);
    let rules: BTreeMap<i64, Vec<_>> = numbers.map(|number| (number, Vec::new())).collect();
    let marker = SeccompAction::Trace(u32::from(MARKER));
    SeccompFilter::new(rules, SeccompAction::Allow, marker, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(|error| Fault::Told(format!("cannot compile a filter: {error}; report this")))
}

/// Makes a compiled part compare this architecture, go on behind its own end for
/// any other, and notify where it has the marker.
fn adapt(part: &mut BpfProgram, arch: u32) -> Result<(), Fault> {
    let len = part.len();
    let is_as_expected = len > STRANGER_AT && part[STRANGER_AT].code == RETURN;
    if !is_as_expected {
        return Err(Fault::Told("seccompiler begins a filter otherwise; report this".to_owned()));
    }
    part[ARCH_AT].k = arch;
    let to_end = (len - STRANGER_AT - 1) as u32;
    part[STRANGER_AT] = sock_filter { code: JUMP, jt: 0, jf: 0, k: to_end };
    let marked = libc::SECCOMP_RET_TRACE | u32::from(MARKER);
    for step in part.iter_mut().filter(|step| step.code == RETURN && step.k == marked) {
        step.k = NOTIFY;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keyshim_abi::gate::{
        AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64, GATES_AARCH64, GATES_X86_64, entered,
    };

    use super::*;

    /// What the kernel would do with a call: the instructions that seccompiler uses,
    /// interpreted.
    fn verdict(program: &BpfProgram, arch: u32, number: u32) -> u32 {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                LOAD => loaded = if step.k == 0 { number } else { arch },
                EQUAL => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                JUMP => at += step.k as usize,
                RETURN => return step.k,
                other => panic!("instruction {other}"),
            }
        }
    }

    fn agrees(gates: &[Gate], archs: &[u32]) {
        let program = program(gates).unwrap();
        for &arch in archs {
            for number in (0..600).chain((1 << 30)..(1 << 30) + 600) {
                let caught = entered(gates, arch, number as i32, [0; 5]).is_some();
                let expected = if caught { NOTIFY } else { libc::SECCOMP_RET_ALLOW };
                assert_eq!(verdict(&program, arch, number), expected, "{arch:x} {number}");
            }
        }
    }

    #[test]
    fn the_filter_catches_exactly_what_enters_by_a_gate() {
        let archs = [AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64, AUDIT_ARM, 0, u32::MAX];
        agrees(&GATES_X86_64, &archs);
        agrees(&GATES_AARCH64, &archs);
    }

    #[test]
    fn no_marker_is_left_and_nobody_is_killed() {
        let returns = |gates: &[Gate]| -> BTreeSet<u32> {
            let program = program(gates).unwrap();
            program.iter().filter(|step| step.code == RETURN).map(|step| step.k).collect()
        };
        let expected = BTreeSet::from([NOTIFY, libc::SECCOMP_RET_ALLOW]);
        assert_eq!(returns(&GATES_X86_64), expected);
        assert_eq!(returns(&GATES_AARCH64), expected);
    }
}
