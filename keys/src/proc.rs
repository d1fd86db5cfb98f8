//! The text of the files under `/proc` (`proc.c`, `sysctl.c`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use keyshim_abi::Need;
use keyshim_abi::caller::{Caller, Gid, Uid, UserNamespace};
use keyshim_abi::procfs::ProcFile;

use crate::Now;
use crate::effect::CallId;
use crate::key::{Key, KeyIx, KeyRef, KeyState};
use crate::key_type::{Summary, TypeIx};
use crate::lookup::Call;
use crate::permission;
use crate::profile::DeadKeys;
use crate::quota::User;
use crate::service::KeyService;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
const WEEK_S: i64 = 7 * DAY_S;

impl KeyService {
    /// The text of a file under `/proc` as this caller, its opener, may see it.
    pub fn proc_read(&mut self, now: Now, caller: &Caller<'_>, file: ProcFile, text: &mut Vec<u8>) {
        let call = Call::new(now, CallId(u64::MAX), caller);
        self.refresh_ids(&call);
        match file {
            ProcFile::Keys => {
                for ix in self.store.by_serial() {
                    self.key_line(&call, ix, text);
                }
            }
            ProcFile::KeyUsers => self.user_lines(caller, text),
            ProcFile::Knob(knob) => {
                let mut line = String::new();
                // Writing to a string cannot fail.
                let _ = writeln!(line, "{}", self.knobs.get(knob));
                text.extend_from_slice(line.as_bytes());
            }
        }
    }

    fn key_line(&self, call: &Call<'_>, ix: KeyIx, text: &mut Vec<u8>) {
        let key = self.store.get(ix);
        let namespace = &call.caller.namespace();
        if !self.profile.proc_lists_all && !self.is_listed(call, ix) {
            return;
        }
        let key_type = self.types.get(key.key_type);
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "{:08x} {:.*} {:5} {:>4} {:0perm_digits$x} {:5} {:5} {:<9.9} ",
            key.serial.raw(),
            self.profile.proc_flags,
            self.flags(key),
            key.usage,
            Life { expiry: key.expiry, now: call.now },
            key.perm.0,
            namespace.uids.inward_or_overflow(key.uid.0) as i32,
            self.shown_gid(namespace, key.gid),
            key_type.name(),
            perm_digits = self.profile.perm_digits,
        );
        text.extend_from_slice(line.as_bytes());
        if let Some(authority) = key.payload.authority() {
            let mut summary = String::from("key:");
            summary.push_str(&String::from_utf8_lossy(&key.description));
            let tid = authority.requester.credentials.tid;
            let _ = write!(summary, " pid:{tid} ci:{}", authority.callout().len());
            text.extend_from_slice(summary.as_bytes());
        } else if ![TypeIx::DEAD, TypeIx::REQUEST_KEY_AUTH].contains(&key.key_type) {
            text.extend_from_slice(&key.description);
        }
        if key.is_positive() || self.profile.proc_sums_up_all {
            let mut summary = String::new();
            let what = Summary { payload: &key.payload, data_len: key.data_len };
            let _ = key_type.summarize(what, &mut summary);
            text.extend_from_slice(summary.as_bytes());
        }
        text.push(b'\n');
    }

    fn flags<'k>(&self, key: &'k Key) -> Flags<'k> {
        Flags { key, shows_dead: self.profile.dead_keys == DeadKeys::AreRevoked }
    }

    /// Whether this caller may know of a key.
    fn is_listed(&self, call: &Call<'_>, ix: KeyIx) -> bool {
        let key = self.store.get(ix);
        if call.caller.namespace().uids.inward(key.charged_to.0).is_none() {
            return false;
        }
        let seen = match key.perm.possessor_byte() & Need::View as u8 {
            0 => KeyRef::unpossessed(ix),
            _ => self.own_reference(call, ix),
        };
        permission::check(key, seen.possessed, call.caller, Need::View).is_ok()
    }

    /// A group as a caller is told it.
    pub(crate) fn shown_gid(&self, namespace: &UserNamespace<'_>, gid: Gid) -> i32 {
        match gid {
            Gid::INVALID if self.profile.no_group_is_minus_1 => -1,
            _ => namespace.gids.inward_or_overflow(gid.0) as i32,
        }
    }

    /// Root is there from the start, with two keys and three uses that the kernel
    /// counts but never had (`root_key_user`), or with more uses than keys.
    fn user_lines(&self, caller: &Caller<'_>, text: &mut Vec<u8>) {
        let root_first = self.users.iter().next().is_some_and(|(uid, _)| uid.0 == 0);
        let root = [(Uid::ROOT, &User::NONE)];
        let absent_root = root.into_iter().filter(|_| !root_first);
        for (uid, user) in absent_root.chain(self.users.iter()) {
            let Some(inside) = caller.namespace().uids.inward(uid.0) else { continue };
            let (extra_keys, extra_uses) = match uid {
                Uid::ROOT => (self.profile.root_keys_extra, self.profile.root_uses_extra),
                _ => (0, 0),
            };
            let (max_keys, max_len) = self.knobs.maxima(uid);
            let mut line = String::new();
            let _ = writeln!(
                line,
                "{inside:5}: {:5} {}/{} {}/{max_keys} {}/{max_len}",
                user.keys + extra_uses,
                user.keys + extra_keys,
                user.instantiated + extra_keys,
                user.quota_keys,
                user.quota_len,
            );
            text.extend_from_slice(line.as_bytes());
        }
    }
}

/// `I R D Q U N i`, or a dash; as many as the precision says.
struct Flags<'a> {
    key: &'a Key,
    shows_dead: bool,
}

impl core::fmt::Display for Flags<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let key = self.key;
        let shown = [
            (!matches!(key.state, KeyState::Uninstantiated), 'I'),
            (key.flags.revoked, 'R'),
            (key.flags.dead && self.shows_dead, 'D'),
            (key.flags.in_quota, 'Q'),
            (key.flags.under_construction, 'U'),
            (matches!(key.state, KeyState::Rejected(_)), 'N'),
            (key.flags.invalidated, 'i'),
        ];
        let count = f.precision().unwrap_or(shown.len());
        shown
            .into_iter()
            .take(count)
            .try_for_each(|(set, letter)| f.write_char(if set { letter } else { '-' }))
    }
}

/// What is left of a life, rounded down to one unit.
struct Life {
    expiry: Option<Now>,
    now: Now,
}

impl core::fmt::Display for Life {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Some(expiry) = self.expiry else { return f.pad("perm") };
        let left_s = expiry.0 - self.now.0;
        let (count, unit) = match left_s {
            ..=0 => return f.pad("expd"),
            1..MINUTE_S => (left_s, 's'),
            MINUTE_S..HOUR_S => (left_s / MINUTE_S, 'm'),
            HOUR_S..DAY_S => (left_s / HOUR_S, 'h'),
            DAY_S..WEEK_S => (left_s / DAY_S, 'd'),
            _ => (left_s / WEEK_S, 'w'),
        };
        f.pad(&alloc::format!("{count}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Entropy};
    use alloc::boxed::Box;
    use alloc::string::ToString;
    use keyshim_abi::{Errno, Perm};

    struct Counting(u64);

    impl Entropy for Counting {
        fn next_u64(&mut self) -> u64 {
            self.0 += 1 << 20;
            self.0
        }
    }

    /// A dead key grants nothing, so no caller can see this line in a whole service.
    #[test]
    fn a_dead_key_is_marked() {
        let mut service = KeyService::new(Config {
            entropy: Box::new(Counting(0)),
            upcalls: crate::Upcalls::Off,
            profile: crate::Profile::LINUX_6,
        });
        let user = service.types.find(b"user").unwrap();
        let key = service
            .allocate(&crate::create::NewKey {
                key_type: user,
                description: b"k",
                uid: Uid(1000),
                gid: Gid(1000),
                perm: Perm::LEGAL,
                charge: crate::quota::Charge::Limited,
                namespace: 0,
            })
            .unwrap();
        let prep = service.types.get(user).preparse(b"x").unwrap();
        service.instantiate(key, prep).unwrap();
        assert_eq!(service.flags(service.store.get(key)).to_string(), "I--Q---");
        service.unregister_type(b"user").unwrap();
        let dead = service.store.get(key);
        assert_eq!(service.flags(dead).to_string(), "I-DQ---");
        assert_eq!((dead.perm, dead.key_type), (Perm(0), TypeIx::DEAD));
        assert_eq!(dead.validate(Now(0)), Err(Errno::EKEYREVOKED));
    }

    #[test]
    fn the_time_left_is_rounded_down_to_one_unit() {
        let life = |left_s| Life { expiry: Some(Now(1000 + left_s)), now: Now(1000) }.to_string();
        let cases = [
            (-1, "expd"),
            (0, "expd"),
            (1, "1s"),
            (59, "59s"),
            (60, "1m"),
            (HOUR_S - 1, "59m"),
            (HOUR_S, "1h"),
            (DAY_S - 1, "23h"),
            (DAY_S, "1d"),
            (WEEK_S - 1, "6d"),
            (WEEK_S, "1w"),
        ];
        for (left_s, shown) in cases {
            assert_eq!(life(left_s), shown);
        }
        assert_eq!(Life { expiry: None, now: Now(0) }.to_string(), "perm");
    }
}
