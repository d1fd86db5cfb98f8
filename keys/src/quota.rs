//! What each user may have, and has (`struct key_user`).
//!
//! A key is charged to its owner: one key, and bytes for description, payload and
//! links. A total that is greater than the maximum is EDQUOT; one that meets it is
//! not. The counts belong to the user of the outermost namespace, whatever
//! namespaces their keys were made in.

use alloc::collections::BTreeMap;

use keyshim_abi::Errno;
use keyshim_abi::caller::Uid;
use keyshim_abi::procfs::Knob;

use crate::profile::{Profile, QuotaTest};

/// The values of `/proc/sys/kernel/keys/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) maxkeys: u32,
    pub(crate) maxbytes: u32,
    pub(crate) root_maxkeys: u32,
    pub(crate) root_maxbytes: u32,
    pub(crate) gc_delay_s: u32,
    pub(crate) persistent_keyring_expiry_s: u32,
    /// No knob, but what the others are for.
    pub(crate) test: QuotaTest,
}

impl Knobs {
    /// As they are until somebody writes to them.
    pub(crate) const fn of(profile: &Profile) -> Knobs {
        Knobs {
            maxkeys: profile.maxkeys,
            maxbytes: profile.maxbytes,
            root_maxkeys: profile.root_maxkeys,
            root_maxbytes: profile.root_maxbytes,
            gc_delay_s: 300,
            persistent_keyring_expiry_s: 3 * 24 * 3600,
            test: profile.quota_test,
        }
    }

    pub(crate) fn get(&self, knob: Knob) -> u32 {
        match knob {
            Knob::Maxkeys => self.maxkeys,
            Knob::Maxbytes => self.maxbytes,
            Knob::RootMaxkeys => self.root_maxkeys,
            Knob::RootMaxbytes => self.root_maxbytes,
            Knob::GcDelay => self.gc_delay_s,
            Knob::PersistentKeyringExpiry => self.persistent_keyring_expiry_s,
        }
    }

    pub(crate) fn set(&mut self, knob: Knob, value: u32) {
        let place = match knob {
            Knob::Maxkeys => &mut self.maxkeys,
            Knob::Maxbytes => &mut self.maxbytes,
            Knob::RootMaxkeys => &mut self.root_maxkeys,
            Knob::RootMaxbytes => &mut self.root_maxbytes,
            Knob::GcDelay => &mut self.gc_delay_s,
            Knob::PersistentKeyringExpiry => &mut self.persistent_keyring_expiry_s,
        };
        *place = value;
    }

    /// Keys and bytes that this user may have.
    pub(crate) fn maxima(&self, uid: Uid) -> (u32, u32) {
        if uid == Uid::ROOT {
            (self.root_maxkeys, self.root_maxbytes)
        } else {
            (self.maxkeys, self.maxbytes)
        }
    }
}

/// One user's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct User {
    /// Keys owned, in quota or not.
    pub(crate) keys: u32,
    /// Of those, instantiated, positively or negatively.
    pub(crate) instantiated: u32,
    /// Keys in quota.
    pub(crate) quota_keys: u32,
    /// Bytes in quota.
    pub(crate) quota_len: u32,
}

impl User {
    /// Nothing at all.
    pub(crate) const NONE: User = User { keys: 0, instantiated: 0, quota_keys: 0, quota_len: 0 };
}

/// Whether a key counts against its owner's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It counts, and must fit.
    Limited,
    /// It counts, but may overrun (`KEY_ALLOC_QUOTA_OVERRUN`).
    Overrun,
    /// It does not count (`KEY_ALLOC_NOT_IN_QUOTA`).
    Free,
}

/// Every user's counts, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<Uid, User>);

impl Users {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uid, &User)> {
        self.0.iter().map(|(&uid, user)| (uid, user))
    }

    /// Counts a new key with `len` bytes of description.
    pub(crate) fn add_key(
        &mut self,
        uid: Uid,
        len: u32,
        charge: Charge,
        knobs: &Knobs,
    ) -> Result<(), Errno> {
        if charge == Charge::Limited {
            self.fits(uid, 1, len, knobs)?;
        }
        let user = self.0.entry(uid).or_default();
        user.keys += 1;
        if charge != Charge::Free {
            user.quota_keys += 1;
            user.quota_len += len;
        }
        Ok(())
    }

    fn fits(&self, uid: Uid, keys: u32, len: u32, knobs: &Knobs) -> Result<(), Errno> {
        let (max_keys, max_len) = knobs.maxima(uid);
        let user = self.0.get(&uid).copied().unwrap_or_default();
        let keys = user.quota_keys.saturating_add(keys);
        let len = user.quota_len.saturating_add(len);
        let is_full = match knobs.test {
            QuotaTest::Either => keys > max_keys || len > max_len,
            QuotaTest::BothReached => keys >= max_keys && len >= max_len,
        };
        if is_full { Err(Errno::EDQUOT) } else { Ok(()) }
    }

    pub(crate) fn key_instantiated(&mut self, uid: Uid) {
        self.0.entry(uid).or_default().instantiated += 1;
    }

    /// Charges `new_len` bytes where `old_len` were charged. Only growth can be
    /// refused, and only by the limit on bytes (`key_payload_reserve`).
    pub(crate) fn recharge(
        &mut self,
        uid: Uid,
        old_len: u32,
        new_len: u32,
        knobs: &Knobs,
    ) -> Result<(), Errno> {
        let user = self.0.entry(uid).or_default();
        let len = user.quota_len.saturating_sub(old_len).saturating_add(new_len);
        if new_len > old_len && len > knobs.maxima(uid).1 {
            return Err(Errno::EDQUOT);
        }
        user.quota_len = len;
        Ok(())
    }

    /// Gives back the quota of a key that nobody uses any more.
    pub(crate) fn release(&mut self, uid: Uid, len: u32) {
        let user = self.0.entry(uid).or_default();
        user.quota_keys = user.quota_keys.saturating_sub(1);
        user.quota_len = user.quota_len.saturating_sub(len);
    }

    /// Forgets a key; with its last key a user is forgotten too, but for root.
    pub(crate) fn remove_key(&mut self, uid: Uid, instantiated: bool) {
        let user = self.0.entry(uid).or_default();
        user.keys = user.keys.saturating_sub(1);
        user.instantiated = user.instantiated.saturating_sub(u32::from(instantiated));
        if user.keys == 0 && uid != Uid::ROOT {
            self.0.remove(&uid);
        }
    }

    /// Moves a key with `len` bytes from one owner to another. EDQUOT when it is in
    /// quota and does not fit (`keyctl_chown_key`).
    pub(crate) fn transfer(
        &mut self,
        (from, to): (Uid, Uid),
        in_quota: Option<u32>,
        instantiated: bool,
        knobs: &Knobs,
    ) -> Result<(), Errno> {
        if let Some(len) = in_quota {
            self.fits(to, 1, len, knobs)?;
            let user = self.0.entry(to).or_default();
            user.quota_keys += 1;
            user.quota_len += len;
            self.release(from, len);
        }
        let user = self.0.entry(to).or_default();
        user.keys += 1;
        user.instantiated += u32::from(instantiated);
        self.remove_key(from, instantiated);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Uid = Uid(1000);
    const OTHER: Uid = Uid(1001);

    fn knobs() -> Knobs {
        Knobs { maxkeys: 3, maxbytes: 100, ..Knobs::of(&Profile::LINUX_6) }
    }

    fn user(users: &Users, uid: Uid) -> User {
        users.0.get(&uid).copied().unwrap_or_default()
    }

    fn counts(keys: u32, instantiated: u32, quota_keys: u32, quota_len: u32) -> User {
        User { keys, instantiated, quota_keys, quota_len }
    }

    #[test]
    fn a_total_that_meets_the_maximum_passes_and_one_more_does_not() {
        let (mut users, knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(WHO, 60, Charge::Limited, &knobs), Ok(()));
        assert_eq!(users.add_key(WHO, 41, Charge::Limited, &knobs), Err(Errno::EDQUOT));
        assert_eq!(users.add_key(WHO, 40, Charge::Limited, &knobs), Ok(()));
        assert_eq!(users.add_key(WHO, 0, Charge::Limited, &knobs), Ok(()));
        assert_eq!(users.add_key(WHO, 0, Charge::Limited, &knobs), Err(Errno::EDQUOT));
        assert_eq!(user(&users, WHO), counts(3, 0, 3, 100));
        assert_eq!(users.add_key(OTHER, 100, Charge::Limited, &knobs), Ok(()));
    }

    #[test]
    fn a_refused_key_leaves_no_trace_of_its_user() {
        let (mut users, knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(WHO, 101, Charge::Limited, &knobs), Err(Errno::EDQUOT));
        assert_eq!(users.iter().count(), 0);
    }

    #[test]
    fn overrun_counts_and_free_does_not() {
        let (mut users, knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(WHO, 500, Charge::Overrun, &knobs), Ok(()));
        assert_eq!(users.add_key(WHO, 500, Charge::Free, &knobs), Ok(()));
        assert_eq!(user(&users, WHO), counts(2, 0, 1, 500));
        assert_eq!(users.add_key(WHO, 0, Charge::Limited, &knobs), Err(Errno::EDQUOT));
    }

    #[test]
    fn only_growth_is_refused_and_a_refusal_changes_nothing() {
        let (mut users, mut knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(WHO, 10, Charge::Limited, &knobs), Ok(()));
        assert_eq!(users.recharge(WHO, 0, 90, &knobs), Ok(()));
        assert_eq!(users.recharge(WHO, 90, 91, &knobs), Err(Errno::EDQUOT));
        assert_eq!(user(&users, WHO).quota_len, 100);
        knobs.maxbytes = 20;
        assert_eq!(users.recharge(WHO, 90, 80, &knobs), Ok(()));
        assert_eq!(users.recharge(WHO, 80, 80, &knobs), Ok(()));
        assert_eq!(users.recharge(WHO, 80, 81, &knobs), Err(Errno::EDQUOT));
        assert_eq!(users.recharge(WHO, 80, u32::MAX, &knobs), Err(Errno::EDQUOT));
        assert_eq!(user(&users, WHO).quota_len, 90);
    }

    #[test]
    fn quota_is_given_back_before_the_key_is_forgotten() {
        let (mut users, knobs) = (Users::default(), knobs());
        for _ in 0..2 {
            assert_eq!(users.add_key(WHO, 30, Charge::Limited, &knobs), Ok(()));
            users.key_instantiated(WHO);
        }
        users.release(WHO, 30);
        assert_eq!(user(&users, WHO), counts(2, 2, 1, 30));
        users.remove_key(WHO, true);
        assert_eq!(user(&users, WHO), counts(1, 1, 1, 30));
        users.release(WHO, 30);
        users.remove_key(WHO, true);
        assert_eq!(users.iter().count(), 0, "a user goes with the last key");
    }

    #[test]
    fn root_has_maxima_of_its_own_and_is_never_forgotten() {
        let (mut users, knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(Uid::ROOT, 101, Charge::Limited, &knobs), Ok(()));
        users.release(Uid::ROOT, 101);
        users.remove_key(Uid::ROOT, false);
        assert_eq!(users.iter().map(|(uid, _)| uid).collect::<std::vec::Vec<_>>(), [Uid::ROOT]);
    }

    #[test]
    fn a_key_moves_with_all_its_counts_or_stays_with_them() {
        let (mut users, knobs) = (Users::default(), knobs());
        assert_eq!(users.add_key(WHO, 60, Charge::Limited, &knobs), Ok(()));
        users.key_instantiated(WHO);
        assert_eq!(users.add_key(OTHER, 50, Charge::Limited, &knobs), Ok(()));
        let refused = users.transfer((WHO, OTHER), Some(60), true, &knobs);
        assert_eq!(refused, Err(Errno::EDQUOT));
        assert_eq!(user(&users, WHO), counts(1, 1, 1, 60));
        assert_eq!(user(&users, OTHER), counts(1, 0, 1, 50));
        assert_eq!(users.transfer((OTHER, WHO), Some(50), false, &knobs), Err(Errno::EDQUOT));
        assert_eq!(users.transfer((WHO, Uid::ROOT), Some(60), true, &knobs), Ok(()));
        assert_eq!(user(&users, Uid::ROOT), counts(1, 1, 1, 60));
        assert_eq!(user(&users, WHO), User::NONE);
        assert_eq!(users.transfer((OTHER, WHO), None, false, &knobs), Ok(()));
        assert_eq!(user(&users, WHO), counts(1, 0, 0, 0), "a free key takes no charge along");
    }
}
