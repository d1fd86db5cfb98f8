//! A user namespace for a user who may not mount outside of one.

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::fault::Fault;

/// Moves this process, which must have one thread, into a user namespace where it may
/// mount; user and group keep their numbers, and there are no others. Whatever it starts
/// is in there too, without privileges once it has executed a program.
pub(crate) fn enter() -> Result<(), Fault> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Fault::system(
        "cannot make a user namespace",
        "allow it (sysctl user.max_user_namespaces), or leave out --proc userns",
    ))?;
    write("uid_map", &format!("{uid} {uid} 1"))?;
    write("setgroups", "deny")?;
    write("gid_map", &format!("{gid} {gid} 1"))
}

fn write(name: &str, text: &str) -> Result<(), Fault> {
    let path = format!("/proc/self/{name}");
    let next = "leave out --proc userns";
    fs::write(&path, text).map_err(Fault::file("cannot write to", path, next))
}
