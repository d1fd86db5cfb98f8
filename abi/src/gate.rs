//! Every way by which a program can enter the three calls of one machine.
//!
//! A 64-bit kernel also takes calls of its 32-bit relatives, and not from 32-bit
//! programs alone: `int 0x80` works in any. Whoever would catch a program's key calls
//! must catch all of these.

use crate::marshal::{RawCall, Width};
use crate::uapi::{self, CallNumbers};

/// One way in: the architecture as `struct seccomp_data` names it, and the numbers
/// and pointers that go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub arch: u32,
    /// The numbers of the three calls.
    pub numbers: CallNumbers,
    /// How wide pointers are in the structures that a call points to.
    pub width: Width,
}

/// `AUDIT_ARCH_X86_64`, x32 included.
pub const AUDIT_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`.
pub const AUDIT_I386: u32 = 0x4000_0003;
/// `AUDIT_ARCH_AARCH64`.
pub const AUDIT_AARCH64: u32 = 0xc000_00b7;
/// `AUDIT_ARCH_ARM`.
pub const AUDIT_ARM: u32 = 0x4000_0028;

/// The gates of an x86-64 kernel. The calls of x32 are those of x86-64 in all but
/// their numbers, structures included (`syscall_64.tbl` marks them `common`).
pub const GATES_X86_64: [Gate; 3] = [
    Gate { arch: AUDIT_X86_64, numbers: uapi::X86_64, width: Width::Bits64 },
    Gate { arch: AUDIT_X86_64, numbers: uapi::X32, width: Width::Bits64 },
    Gate { arch: AUDIT_I386, numbers: uapi::I386, width: Width::Bits32 },
];

/// The gates of an AArch64 kernel.
pub const GATES_AARCH64: [Gate; 2] = [
    Gate { arch: AUDIT_AARCH64, numbers: uapi::GENERIC, width: Width::Bits64 },
    Gate { arch: AUDIT_ARM, numbers: uapi::ARM, width: Width::Bits32 },
];

/// The gates of the machine that this crate is compiled for.
#[cfg(target_arch = "x86_64")]
pub const GATES: &[Gate] = &GATES_X86_64;
/// The gates of the machine that this crate is compiled for.
#[cfg(target_arch = "aarch64")]
pub const GATES: &[Gate] = &GATES_AARCH64;
/// The gates of the machine that this crate is compiled for: none is known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const GATES: &[Gate] = &[];

/// The key call that entered by one of these gates, if it is one. Registers of a
/// narrow gate count in their low halves.
#[must_use]
pub fn entered(gates: &[Gate], arch: u32, number: i32, args: [u64; 5]) -> Option<RawCall> {
    let number = i64::from(number);
    gates.iter().filter(|gate| gate.arch == arch).find_map(|gate| {
        let args = match gate.width {
            Width::Bits64 => args,
            Width::Bits32 => args.map(|arg| arg & u64::from(u32::MAX)),
        };
        let call = RawCall::from_number(&gate.numbers, number, args)?;
        Some(RawCall { width: gate.width, ..call })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marshal::Entry;

    const JUNK_ABOVE: [u64; 5] = [0xdead_0000_0000_0001, 2, 3, 4, 5];

    #[test]
    fn the_same_number_is_another_call_by_another_gate() {
        let by = |arch, number| entered(&GATES_X86_64, arch, number, [0; 5]);
        assert_eq!(by(AUDIT_X86_64, 250).map(|call| call.entry), Some(Entry::Keyctl));
        assert_eq!(by(AUDIT_I386, 250), None);
        assert_eq!(by(AUDIT_I386, 286).map(|call| call.entry), Some(Entry::AddKey));
        assert_eq!(by(AUDIT_X86_64, 286), None);
        assert_eq!(by(AUDIT_X86_64, (1 << 30) + 249).map(|c| c.entry), Some(Entry::RequestKey));
        assert_eq!(by(AUDIT_AARCH64, 219), None);
    }

    #[test]
    fn a_narrow_gate_has_narrow_registers_and_pointers() {
        let narrow = entered(&GATES_X86_64, AUDIT_I386, 288, JUNK_ABOVE).unwrap();
        assert_eq!((narrow.args[0], narrow.width), (1, Width::Bits32));
        let wide = entered(&GATES_X86_64, AUDIT_X86_64, 250, JUNK_ABOVE).unwrap();
        assert_eq!((wide.args[0], wide.width), (JUNK_ABOVE[0], Width::Bits64));
    }

    #[test]
    fn our_own_machine_has_its_native_gate_first() {
        let native = GATES.first().unwrap();
        assert_eq!((native.numbers, native.width), (uapi::NATIVE, Width::Bits64));
    }
}
