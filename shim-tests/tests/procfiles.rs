//! Files of ours over those of `/proc`: for static programs as for others, as on the
//! kernel, and nothing left of them afterwards.
// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "procfiles/load.rs"]
mod load;

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use keyshim_tests::programs::{Build, compile};
use keyshim_tests::world::actor::beside;

/// Longer than any of it takes, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// True where the files can be put; says why a test is skipped otherwise.
fn can_be_put() -> bool {
    let why = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        _ if !nix::unistd::geteuid().is_root() => "not root, and mounts",
        Err(_) => "there is no /dev/fuse to open",
        Ok(_) if Command::new("busybox").arg("true").output().is_err() => "there is no busybox",
        Ok(_) => return true,
    };
    eprintln!("skipped: {why}");
    false
}

fn keyshim() -> PathBuf {
    beside("libkeyshim.so").expect("cargo build -p keyshim-preload builds it");
    beside("keyshim").expect("cargo build -p keyshim builds it")
}

fn under_keyshim(mode: &str) -> Command {
    let mut command = Command::new(keyshim());
    command.args(["run", "--mode", mode, "--"]);
    command
}

/// What a command prints; it must end well and in time.
fn printed(command: &mut Command) -> String {
    let output = ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{complaint}", output.status);
    text
}

fn ended(mut child: Child) -> Output {
    let begun = Instant::now();
    // What the programs print fits into a pipe.
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > SOON {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn shell(mode: &str, script: &str) -> String {
    printed(under_keyshim(mode).args(["busybox", "sh", "-c", script]))
}

/// A script in a mount namespace whose mounts are seen by others, as on most machines;
/// its first argument is keyshim, its second a directory of its own.
fn shell_among_shared_mounts(script: &str) -> String {
    let own = tempfile::tempdir().unwrap();
    let script = format!("set -e; mount --make-rshared /; {script}");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(keyshim()).arg(own.path());
    printed(&mut command)
}

fn compiled_static(name: &str) -> PathBuf {
    compile(name, Build::Static).unwrap()
}

#[test]
fn a_static_program_may_do_what_it_may_on_the_kernel() {
    if !can_be_put() {
        return;
    }
    let program = compiled_static("procfiles");
    let kernel = printed(&mut Command::new(&program));
    for mode in ["seccomp", "both"] {
        let ours = printed(under_keyshim(mode).arg(&program));
        let pairs = kernel.lines().zip(ours.lines());
        let other: Vec<_> = pairs.filter(|(kernel, ours)| kernel != ours).collect();
        assert!(kernel == ours, "--mode {mode}, on the kernel and here: {other:#?}");
    }
}

#[test]
fn every_way_of_reading_gives_the_same() {
    if !can_be_put() {
        return;
    }
    let script = "set -e; keyctl add user colour green @u >/dev/null; cd /proc
        for file in keys key-users sys/kernel/keys/root_maxbytes; do
            busybox cat $file >$0/sent; busybox cp $file $0/copied
            tail -n 99 $file >$0/end; busybox tail -n 99 $file >$0/end2
            test -s $0/sent; for other in copied end end2; do cmp $0/sent $0/$other; done
        done
        while IFS= read -r line; do echo \"$line\"; done <keys >$0/lines
        busybox cat keys >$0/sent; cmp $0/sent $0/lines; dd bs=7 if=keys status=none >$0/pieces
        cmp $0/sent $0/pieces; grep -c ' colour: 5$' keys
        busybox stat -c %s keys; busybox cat keys | busybox wc -l";
    let own = tempfile::tempdir().unwrap();
    let mut command = under_keyshim("seccomp");
    command.args(["busybox", "sh", "-c", script]).arg(own.path());
    assert_eq!(printed(&mut command), "1\n0\n4\n");
}

#[test]
fn the_directory_of_the_knobs_is_listed_as_on_the_kernel() {
    if !can_be_put() {
        return;
    }
    let script =
        "cd /proc/sys/kernel/keys; busybox ls -ln | busybox awk '{print $1,$2,$3,$4,$5,$9}'
        busybox ls -a; cat /proc/sys/kernel/keys/maxkeys; echo 0xff >maxkeys
        busybox cat maxkeys; (echo -1 >maxkeys) 2>&1; busybox cat maxkeys; echo 2 >>maxkeys
        busybox cat maxkeys";
    let knobs = ["gc_delay", "maxbytes", "maxkeys", "persistent_keyring_expiry", "root_maxbytes"];
    let listed = shell("seccomp", script);
    let (facts, rest) = listed.split_once(".\n..\n").unwrap();
    for name in knobs.iter().chain(["root_maxkeys"].iter()) {
        assert!(facts.contains(&format!("-rw-r--r-- 1 0 0 0 {name}\n")), "{listed}");
        assert!(rest.contains(&format!("{name}\n")), "{listed}");
    }
    let values = "200\n255\nsh: write error: Invalid argument\n255\n2\n";
    assert!(rest.ends_with(&format!("root_maxkeys\n{values}")), "{listed}");
}

#[test]
fn with_the_library_the_files_show_the_same() {
    if !can_be_put() {
        return;
    }
    let script = "keyctl add user colour green @u >/dev/null; cat /proc/keys | busybox md5sum
        busybox cat /proc/keys | busybox md5sum";
    let both = shell("both", script);
    let (library, file) = both.trim_end().split_once('\n').unwrap();
    assert_eq!(library, file);
    let alone = shell("preload", "busybox grep -c keyshim /proc/self/mountinfo; true");
    assert_eq!(alone, "0\n");
}

#[test]
fn no_mount_is_seen_outside_and_none_is_left() {
    if !can_be_put() {
        return;
    }
    let script = "before=$(cat /proc/self/mountinfo); same() {
            test \"$before\" = \"$(cat /proc/self/mountinfo)\" && echo $1
        }
        $1 run --mode seccomp -- sh -c 'grep -c fuse.keyshim /proc/self/mountinfo'; same ended
        $1 run --mode seccomp -- /no/such 2>$2/1 || same none
        $1 run --mode seccomp -- /etc 2>$2/2 || same unfit
        $1 run --mode seccomp -- sh -c 'echo $$ >$0/pid; exec sleep 60' $2 & run=$!
        until test -s $2/pid; do sleep 0.02; done; pid=$(cat $2/pid)
        grep -q fuse.keyshim /proc/$pid/mountinfo; same running
        kill -9 $run; wait $run || same killed; kill -9 $pid; same over";
    let told = shell_among_shared_mounts(
        &script
            .replace("|| same none", "2>$2/1 || same none")
            .replace("|| same unfit", "2>$2/2 || same unfit"),
    );
    assert_eq!(told, "4\nended\nnone\nunfit\nrunning\nkilled\nover\n");
}

#[test]
fn what_a_program_mounts_is_seen_where_it_would_be() {
    if !can_be_put() {
        return;
    }
    let script = "$1 run --mode seccomp -- mount -t tmpfs seen $2
        grep -c ' - tmpfs seen ' /proc/self/mountinfo; umount $2";
    assert_eq!(shell_among_shared_mounts(script), "1\n");
}

#[test]
fn without_the_broker_nothing_is_read_and_nothing_hangs() {
    if !can_be_put() {
        return;
    }
    let script = "exec 3</proc/keys; kill -9 $PPID; busybox usleep 100000
        busybox cat /proc/keys; busybox cat <&3; busybox cat /proc/sys/kernel/keys/maxkeys
        busybox ls /proc/sys/kernel/keys; echo over";
    let mut command = under_keyshim("seccomp");
    command.args(["busybox", "sh", "-c", &format!("({script}) >$0 2>&1")]);
    let own = tempfile::tempdir().unwrap();
    let told = own.path().join("told");
    let output = ended(command.arg(&told).spawn().unwrap());
    assert!(!output.status.success());
    let begun = Instant::now();
    let text = || fs::read_to_string(&told).unwrap();
    while !text().ends_with("over\n") {
        assert!(begun.elapsed() < SOON, "{}", text());
        std::thread::sleep(Duration::from_millis(10));
    }
    let disconnected = text().matches("onnect").count();
    assert!(disconnected >= 3, "{}", text());
}

#[test]
fn readers_end_when_the_broker_is_killed_among_them() {
    if !can_be_put() {
        return;
    }
    let script =
        "read_on() { while busybox cat /proc/keys /proc/sys/kernel/keys/maxkeys; do :; done
            echo over >>$1; }
        for n in 1 2 3 4 5 6; do read_on $0 >/dev/null 2>&1 & done; busybox usleep 300000
        test -e $0 || kill -9 $PPID; wait";
    let own = tempfile::tempdir().unwrap();
    let told = own.path().join("told");
    let mut command = under_keyshim("seccomp");
    let output = ended(command.args(["busybox", "sh", "-c", script]).arg(&told).spawn().unwrap());
    assert!(!output.status.success());
    let begun = Instant::now();
    while fs::read_to_string(&told).unwrap_or_default().lines().count() < 6 {
        assert!(begun.elapsed() < SOON, "{:?}", fs::read_to_string(&told));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_sandbox_can_be_made_if_it_could_without_us() {
    if !can_be_put() {
        return;
    }
    let sandbox = ["unshare", "-Urmpf", "--mount-proc", "busybox", "true"];
    if !Command::new(sandbox[0]).args(&sandbox[1..]).output().unwrap().status.success() {
        return eprintln!("skipped: no procfs can be mounted in a user namespace here");
    }
    printed(under_keyshim("seccomp").args(sandbox));
}

#[test]
fn an_ordinary_user_has_them_in_a_user_namespace() {
    if !can_be_put() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let folder = own.path();
    printed(Command::new("chmod").arg("755").arg(folder));
    for name in ["keyshim", "libkeyshim.so"] {
        fs::copy(beside(name).unwrap(), folder.join(name)).unwrap();
    }
    // The device may be root's alone; this user's is another name of it.
    let script = "set -e; cd $1; cp -a /dev/fuse device; chmod 666 device
        mount --bind device /dev/fuse
        exec setpriv --reuid 1234 --regid 1234 --clear-groups --inh-caps=-all env HOME=/ \
            XDG_RUNTIME_DIR= TMPDIR=/tmp ./keyshim run --mode seccomp --proc userns -- sh -c '
            keyctl add user colour green @u >/dev/null; busybox grep -c colour /proc/keys
            busybox grep CapEff /proc/self/status; id -u
            (echo 1 >/proc/sys/kernel/keys/maxkeys) 2>/dev/null || echo refused'";
    let mut command = Command::new("unshare");
    let told = printed(command.args(["-m", "sh", "-c", script, "sh"]).arg(folder));
    assert_eq!(told, "1\nCapEff:\t0000000000000000\n1234\nrefused\n");
}

/// The processes below that one, itself included.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        }
        next += 1;
    }
    all
}

#[test]
fn a_stranger_sees_what_everybody_may() {
    if !can_be_put() {
        return;
    }
    // In a pid namespace of its own, so that we, who look, have no number there.
    let script = "open=$(keyctl add user open x @s); closed=$(keyctl add user closed x @s)
        keyctl setperm $open 0x3f010000; keyctl setperm $closed 0x3f000000; exec sleep 60";
    let session = ["keyctl", "session", "-", "sh", "-c", script];
    let mut command = Command::new("unshare");
    command.args(["-pfm", "--kill-child", "--mount-proc"]).arg(keyshim());
    let mut child = command.args(["run", "--mode", "seccomp", "--"]).args(session).spawn().unwrap();
    let begun = Instant::now();
    let text = loop {
        let texts = family(child.id()).into_iter().filter_map(|pid| {
            let is_sleep = fs::read(format!("/proc/{pid}/cmdline")).ok()? == *b"sleep\x0060\0";
            is_sleep.then(|| fs::read_to_string(format!("/proc/{pid}/root/proc/keys")).ok())?
        });
        if let Some(text) = texts.into_iter().next() {
            break text;
        }
        assert!(begun.elapsed() < SOON, "the program does not begin to wait");
        std::thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.contains(" open: 1\n") && !text.contains(" closed: 1\n"), "{text}");
}

#[test]
fn a_container_that_hides_the_kernels_files_still_has_ours() {
    if !can_be_put() {
        return;
    }
    let script = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
        mount --bind /dev/null /proc/keys
        exec $1 run --mode seccomp -- sh -c 'keyctl add user colour green @u >/dev/null
            busybox grep -c colour /proc/keys; echo 5 >/proc/sys/kernel/keys/maxkeys
            busybox cat /proc/sys/kernel/keys/maxkeys'";
    assert_eq!(shell_among_shared_mounts(script), "1\n5\n");
}

/// The broker of a shared domain answers for the files of each run in it, and of no other.
#[test]
fn a_shared_domain_shows_its_keys_to_static_programs() {
    if !can_be_put() {
        return;
    }
    let runtime = tempfile::tempdir().unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let in_domain = |name: &str, script: &str| {
        let mut command = Command::new(keyshim());
        command.args(["run", "--domain", name, "--mode", "seccomp", "--", "busybox", "sh", "-c"]);
        command.arg(script).env("XDG_RUNTIME_DIR", runtime.path());
        command
    };
    // One that stays for as long as the others look.
    let first = "keyctl add user shared x @u >/dev/null; echo 7 >/proc/sys/kernel/keys/gc_delay
        echo; read stop";
    let mut first = in_domain("one", first);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    first.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let look = "grep -c shared /proc/keys; cat /proc/sys/kernel/keys/gc_delay";
    assert_eq!(printed(&mut in_domain("one", look)), "1\n7\n");
    let elsewhere = format!("keyctl show @us >/dev/null; {look} || :");
    assert_eq!(printed(&mut in_domain("other", &elsewhere)), "0\n300\n");
    drop(first.stdin.take());
    ended(first);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}
