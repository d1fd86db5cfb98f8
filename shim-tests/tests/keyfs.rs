//! A domain mounted as files: ordinary tools do what `keyctl` does, and no more.
// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "keyfs/session.rs"]
mod session;
#[path = "keyfs/users.rs"]
mod users;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use keyshim_tests::programs::{bare, run, told};
use keyshim_tests::world::actor::beside;

/// True where a domain can be mounted; says why a test is skipped otherwise.
fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let can = nix::unistd::geteuid().is_root() && device.is_ok();
    if !can {
        eprintln!("skipped: mounts FUSE, which needs root and /dev/fuse");
    }
    can
}

fn keyshim() -> PathBuf {
    beside("libkeyshim.so").expect("cargo build -p keyshim-preload builds it");
    beside("keyshim").expect("cargo build -p keyshim builds it")
}

/// The profile that all is done under: that of Linux 6, or the one that is named here.
const PROFILE: &str = "KEYSHIM_TEST_PROFILE";

/// What a script prints in a universe of its own, mounted at `$d`; `$k` is keyshim.
fn session(script: &str) -> String {
    session_with(None, script)
}

/// The same with `$1` as a directory of its own, and a helper for requests.
fn session_with(helper: Option<&str>, script: &str) -> String {
    let own = tempfile::tempdir().unwrap();
    let all = Permissions::from_mode(0o755);
    std::fs::set_permissions(own.path(), all.clone()).unwrap();
    let script = format!("k=$0 d=$1/mount; mkdir $d; $k mount $d || exit 9; {script}");
    let mut command: Command = bare(keyshim());
    command.env("LC_ALL", "C.UTF-8").args(["run", "--seed", "7"]);
    if let Some(text) = helper {
        let path = own.path().join("helper");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, all).unwrap();
        command.arg("--request-key").arg(path);
    }
    if let Some(profile) = std::env::var_os(PROFILE) {
        command.arg("--profile").arg(profile);
    }
    command.args(["--", "bash", "-c", &script]).arg(keyshim()).arg(own.path());
    let text = told(&run(&mut command).unwrap());
    // The mount has ended with the run: its place can be removed.
    std::fs::remove_dir(own.path().join("mount")).expect("nothing is mounted any more");
    text
}

#[test]
fn what_tools_do_keyctl_sees_and_the_other_way_round() {
    if !can_mount() {
        return;
    }
    let script = "set -e; u=$d/@u/
        printf secret >$u/user:mail; keyctl pipe %user:mail; echo
        keyctl update %user:mail changed; cat $u/user:mail; echo
        printf more >>$u/user:mail; keyctl pipe %user:mail; echo
        mkdir $u/keyring:box; ln $u/user:mail $u/keyring:box/
        keyctl list %keyring:box | grep -c 'user: mail'; stat -c %h $u/user:mail
        rm $u/user:mail; keyctl search @u keyring box >/dev/null
        mv $u/keyring:box/user:mail $u/; keyctl rlist %keyring:box
        sed -i s/changed/replaced/ $u/user:mail; keyctl pipe %user:mail; echo
        chmod 640 $u/user:mail; keyctl rdescribe %user:mail
        keyctl setperm %user:mail 0x3f3f0000; stat -c %a $u/user:mail
        test $(stat -c %i $u/user:mail) = $(keyctl search @u user mail); echo same
        rm -r $u/keyring:box; keyctl rlist @u | wc -w";
    assert_eq!(
        session(script),
        "secret\nchanged\nchangedmore\n1\n2\n\nreplacedmore\nuser;0;0;3f010300;mail\n600\nsame\n1\n"
    );
}

#[test]
fn errors_are_those_of_the_key_service() {
    if !can_mount() {
        return;
    }
    let script = "exec 2>&1; cd $d/@u/; printf x >user:a; keyctl revoke %user:a; cat user:a
        printf x >user:b; keyctl timeout %user:b 1; sleep 2; cat user:b
        printf x >logon:c:d; cat logon:c:d; touch user:e; mkdir user:f
        mkdir keyring:g; printf x >keyring:g/user:h; rmdir keyring:g; ls user:no";
    let text = session(script);
    for part in [
        "'user:a': Key has been revoked",
        "'user:b': Key has expired",
        "'logon:c:d': Operation not supported",
        "'user:e': Invalid argument",
        "user:f’: Invalid argument",
        "'keyring:g': Directory not empty",
        "'user:no': No such file or directory",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn another_user_may_do_what_their_rights_allow() {
    if !can_mount() {
        return;
    }
    let script = "exec 2>&1; printf x >$d/@u/user:mine; cd /
        n=$(keyctl search @u user mine); box=$(keyctl search @u keyring _uid.0 || keyctl id @u)
        as() { setpriv --reuid=1234 --regid=1234 --clear-groups \"$@\"; }
        as cat $d/by-serial/$n; as ls $d/by-serial | grep -c $n
        keyctl setperm $n 0x3f010003; as cat $d/by-serial/$n; echo
        as sh -c \"echo y >$d/by-serial/$n\"; as rm $d/by-serial/$box/user:mine
        as sh -c \"printf z >$d/@u/user:theirs; cat $d/@u/user:theirs\"; echo
        keyctl search @u user theirs";
    let text = session(script);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("Permission denied") && lines[1] == "0", "{text}");
    assert_eq!(lines[2], "x", "{text}");
    // On whose keyring they have no right at all, that is no directory to them.
    assert!(lines[3].contains("Permission denied") && lines[4].contains("Not a dir"), "{text}");
    assert_eq!(lines[5], "z", "{text}");
    assert!(lines[6].contains("Required key not available"), "{text}");
}

#[test]
fn two_mounts_and_calls_see_one_another_at_once() {
    if !can_mount() {
        return;
    }
    let script = "set -e; mkdir $d.2; $k mount $d.2; a=$d/@u b=$d.2/@u
        for i in 1 2 3 4 5 6 7 8; do
            printf $i >$a/user:n; test $(cat $b/user:n) = $i; test $(keyctl pipe %user:n) = $i
            keyctl update %user:n x$i; test $(cat $a/user:n)$(cat $b/user:n) = x${i}x$i
            rm $b/user:n; test ! -e $a/user:n; test -z \"$(ls $a/)\"
        done; umount $d.2; echo over";
    assert_eq!(session(script), "over\n");
}

#[test]
fn no_dead_mount_point_is_left() {
    if !can_mount() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let script = "set -e; k=$0; cd $1; mkdir d; $k broker --socket $1/s & b=$!
        until test -S s; do sleep 0.05; done; until $k mount d --socket $1/s; do sleep 0.05; done
        ls d >/dev/null; umount d; ls d; $k mount d --socket $1/s; test -L d/@u
        kill -9 $b; for i in $(seq 200); do rmdir d 2>/dev/null && break; sleep 0.05; done
        test ! -e d; echo gone";
    let mut command = bare("sh");
    command.args(["-c", script]).arg(keyshim()).arg(own.path());
    assert!(told(&run(&mut command).unwrap()).starts_with("gone\n"));
}
