//! What a program that embeds the key service supplies in the plainest case. The
//! programs are in `examples/`.

use keyshim_abi::caller::{Caller, Capability, Gid, Ids, Privileges, TaskId, Uid, UserNamespace};
use keyshim_keys::Entropy;

/// The user that the programs pretend to be.
pub const ALICE: Ids = Ids::all(Uid(1000), Gid(1000));

/// Numbers from a seed (splitmix64), so that every run has the same serials. A service
/// for real users takes the system's randomness instead: serials are not to be guessed.
#[derive(Debug)]
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// No supplementary group and no capability.
#[derive(Debug)]
pub struct Unprivileged;

impl Privileges for Unprivileged {
    fn in_group(&self, _gid: Gid) -> bool {
        false
    }

    fn capable(&self, _capability: Capability) -> bool {
        false
    }

    fn capable_in_own_namespace(&self, _capability: Capability) -> bool {
        false
    }
}

/// A thread of [`ALICE`]'s, without privileges or a known parent. The service must be
/// told of the thread by a task event before it calls.
#[must_use]
pub fn alice(task: TaskId) -> Caller<'static> {
    Caller {
        task,
        ids: ALICE,
        namespace: UserNamespace::OUTERMOST,
        parent: None,
        privileges: &Unprivileged,
    }
}
