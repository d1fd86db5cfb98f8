//! What only the kernel's own key universe needs: raw calls of the orchestrator,
//! and a way to know that the kernel has finished what a step began.
//!
//! Linux destroys keys in a work queue, and drops the credentials of a task (and so
//! its session keyring) after an RCU grace period. Neither can be waited for. So a
//! thread of ours makes a keyring of its own die by the same two ways, gives its
//! quota to a user that nobody else is, and looks for that user in
//! `/proc/key-users`: when the record is gone, what died before is gone as well, or
//! is by the next such round, because one pass of the collector may have begun
//! before the other key's death. A third round is for the members of a keyring that
//! the second destroyed.

#![allow(unsafe_code)] // raw keyctl calls with plain numbers

use std::sync::{Condvar, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keyshim_abi::uapi::keyctl as op;

use crate::workload::Abilities;

/// Rounds to have begun and ended after a step before it is settled.
const ROUNDS: u64 = 3;
/// Longest wait for one round.
const PATIENCE: Duration = Duration::from_secs(20);
/// First of the users that settling keyrings are given to.
const SENTINEL_BASE: u32 = 600_000;

fn keyctl(operation: u32, a: i64, b: i64, c: i64) -> i64 {
    // SAFETY: plain numbers; a NULL pointer where JOIN takes a name.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(operation as i32), a, b, c) }
}

/// Sends a thread the signal that ends a wait of its.
pub fn interrupt(pid: i64, tid: i64) -> Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR1) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).context("tgkill"),
    }
}

/// Why the kernel world cannot be entered here, if it cannot.
#[must_use]
pub fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root: run it as root".to_owned());
    }
    let ret = keyctl(op::GET_KEYRING_ID, -2, 0, 0);
    let errno = std::io::Error::last_os_error().raw_os_error();
    match (ret, errno) {
        (-1, Some(libc::ENOSYS)) => {
            Some("the kernel has no key service: it needs CONFIG_KEYS".to_owned())
        }
        (-1, Some(libc::EPERM)) => {
            Some("a filter refuses keyctl: run it outside the container".to_owned())
        }
        _ => None,
    }
}

/// What this kernel can do; it is there, see [`unavailable`].
pub fn abilities() -> Result<Abilities> {
    Ok(Abilities { bare: starts_bare()?, big_key: has_big_key(), upcalls: true })
}

fn has_big_key() -> bool {
    // SAFETY: the strings end in NUL, the payload is one byte long.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"big_key".as_ptr(),
            c"keyshim-probe".as_ptr(),
            c"x".as_ptr(),
            1,
            -2,
        )
    };
    keyctl(op::INVALIDATE, serial, 0, 0);
    serial > 0
}

/// True when the kernel has the type `dns_resolver`: a name of its that breaks a rule of
/// the type alone is EINVAL then, ENODEV otherwise.
#[must_use]
pub fn has_dns_resolver() -> bool {
    // SAFETY: the strings end in NUL, the payload is one byte long.
    unsafe {
        let (kind, name) = (c"dns_resolver".as_ptr(), c"keyshim-probe".as_ptr());
        libc::syscall(libc::SYS_add_key, kind, name, c"x".as_ptr(), 1, -2);
    }
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// True when the orchestrator has no session keyring, so that its actors can begin
/// without one. A thread of another user finds out: without a session it would be
/// given that user's, which is then taken away again.
fn starts_bare() -> Result<bool> {
    let probe = std::thread::spawn(|| {
        let user = SENTINEL_BASE - 1;
        // SAFETY: plain numbers; the raw call changes this thread's ids only.
        unsafe { libc::syscall(libc::SYS_setresuid, user, 0, 0) };
        let session = keyctl(op::GET_KEYRING_ID, -3, 0, 0);
        let user_session = keyctl(op::GET_KEYRING_ID, -5, 0, 0);
        let user_keyring = keyctl(op::GET_KEYRING_ID, -4, 0, 0);
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_setfsuid, user) };
        keyctl(op::INVALIDATE, user_session, 0, 0);
        keyctl(op::INVALIDATE, user_keyring, 0, 0);
        session == user_session
    });
    match probe.join() {
        Ok(bare) => Ok(bare),
        Err(_) => bail!("the probe for a session keyring died"),
    }
}

#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    wanted: u64,
    broken: Option<String>,
}

struct Settler {
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

fn settler() -> &'static Settler {
    static SETTLER: OnceLock<&'static Settler> = OnceLock::new();
    SETTLER.get_or_init(|| {
        let settler: &'static Settler = Box::leak(Box::new(Settler {
            rounds: Mutex::new(Rounds::default()),
            changed: Condvar::new(),
        }));
        std::thread::spawn(move || settler.serve());
        settler
    })
}

impl Settler {
    fn serve(&self) {
        loop {
            let Ok(mut rounds) = self.rounds.lock() else { return };
            while rounds.ended >= rounds.wanted {
                match self.changed.wait(rounds) {
                    Ok(again) => rounds = again,
                    Err(_) => return,
                }
            }
            rounds.begun += 1;
            drop(rounds);
            let outcome = round();
            let Ok(mut rounds) = self.rounds.lock() else { return };
            rounds.ended = rounds.begun;
            if let Err(fault) = outcome {
                rounds.broken = Some(format!("{fault:#}"));
            }
            self.changed.notify_all();
        }
    }
}

/// Waits until everything that has died is gone.
pub fn settle() -> Result<()> {
    let settler = settler();
    let poisoned = || anyhow::anyhow!("the settling thread died");
    let mut rounds = settler.rounds.lock().map_err(|_| poisoned())?;
    let goal = rounds.begun + ROUNDS;
    rounds.wanted = rounds.wanted.max(goal);
    settler.changed.notify_all();
    while rounds.ended < goal {
        if let Some(why) = &rounds.broken {
            bail!("settling failed: {why}");
        }
        rounds = settler.changed.wait(rounds).map_err(|_| poisoned())?;
    }
    Ok(())
}

/// One keyring dies as the old session of a task does.
fn round() -> Result<()> {
    let user = SENTINEL_BASE + std::process::id() % 100_000;
    let keyring = keyctl(op::JOIN_SESSION_KEYRING, 0, 0, 0);
    if keyring < 0 || keyctl(op::CHOWN, keyring, i64::from(user), -1) < 0 {
        return Err(std::io::Error::last_os_error()).context("making a keyring to settle by");
    }
    keyctl(op::JOIN_SESSION_KEYRING, 0, 0, 0);
    let prefix = format!("{user}:");
    let began = std::time::Instant::now();
    loop {
        let users = std::fs::read_to_string("/proc/key-users").context("/proc/key-users")?;
        if !users.lines().any(|line| line.trim_start().starts_with(&prefix)) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("the kernel did not destroy a key within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
