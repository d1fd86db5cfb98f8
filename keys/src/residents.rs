//! Users who are there, with their two keyrings, where a kernel makes these with the user
//! and not on demand (`alloc_uid_keyring` of old kernels).
//!
//! A user is there while a task has it for its real user; root always is.

use alloc::collections::BTreeMap;
use alloc::format;

use keyshim_abi::caller::{Gid, Uid};

use crate::create::NewKey;
use crate::key::KeyIx;
use crate::key_type::TypeIx;
use crate::process_keys::UserKeyrings;
use crate::profile::UserKeyringsLive;
use crate::quota::Charge;
use crate::service::KeyService;

struct Resident {
    rings: Option<UserKeyrings>,
    tasks: usize,
}

/// The users who are there; nobody where that does not matter.
#[derive(Default)]
pub(crate) struct Residents(BTreeMap<Uid, Resident>);

impl Residents {
    pub(crate) fn rings(&self, uid: Uid) -> Option<UserKeyrings> {
        self.0.get(&uid).and_then(|resident| resident.rings)
    }

    /// Every keyring that a user has because it is there.
    pub(crate) fn each_use(&self) -> impl Iterator<Item = KeyIx> {
        let rings = self.0.values().filter_map(|resident| resident.rings);
        rings.flat_map(|rings| [rings.user, rings.user_session])
    }
}

impl KeyService {
    fn has_residents(&self) -> bool {
        self.profile.user_keyrings == UserKeyringsLive::WithTheUser
    }

    /// A task more has that user for its real one.
    pub(crate) fn moves_in(&mut self, uid: Uid) {
        if !self.has_residents() {
            return;
        }
        if let Some(resident) = self.residents.0.get_mut(&uid) {
            resident.tasks += 1;
            return;
        }
        let rings = self.new_user_keyrings(uid);
        self.residents.0.insert(uid, Resident { rings, tasks: 1 });
    }

    /// A task less.
    pub(crate) fn moves_out(&mut self, uid: Uid) {
        let Some(resident) = self.residents.0.get_mut(&uid) else { return };
        resident.tasks -= 1;
        if resident.tasks > 0 {
            return;
        }
        let rings = resident.rings;
        self.residents.0.remove(&uid);
        for ring in rings.into_iter().flat_map(|rings| [rings.user, rings.user_session]) {
            self.put(ring);
        }
    }

    /// The session keyring first: so that of root has the serial 1. None if they cannot be
    /// made, which nothing can bring about: they overrun every quota.
    fn new_user_keyrings(&mut self, uid: Uid) -> Option<UserKeyrings> {
        let user_session = self.resident_keyring(&format!("_uid_ses.{}", uid.0), uid)?;
        let user = self.resident_keyring(&format!("_uid.{}", uid.0), uid)?;
        // A user who has used up its bytes elsewhere goes without the link.
        let _ = self.link(user_session, user);
        Some(UserKeyrings { user, user_session })
    }

    fn resident_keyring(&mut self, name: &str, uid: Uid) -> Option<KeyIx> {
        let (gid, charge) = match uid {
            Uid::ROOT => (Gid(0), Charge::Free),
            _ => (Gid::INVALID, Charge::Overrun),
        };
        let ring = self.allocate_keyring(&NewKey {
            key_type: TypeIx::KEYRING,
            description: name.as_bytes(),
            uid,
            gid,
            perm: self.profile.user_keyring_perm,
            charge,
            namespace: 0,
        });
        let ring = ring.ok()?;
        self.store.get_mut(ring).flags.uid_keyring = true;
        Some(ring)
    }
}
