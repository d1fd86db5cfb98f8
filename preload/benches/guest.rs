//! What the library costs the programs that it is a guest in: its size, what it adds
//! to the start of `/bin/true`, to an open of any file, to any other system call
//! through libc, and what a call costs that is refused for its length alone.
//!
//! `cargo bench -p keyshim-preload`. Both sides of a comparison take turns, and medians
//! are shown: the clock of a shared machine drifts.
#![allow(unsafe_code)] // the system calls that are measured
#![allow(clippy::expect_used)] // a bench that cannot run must stop

use std::hint::black_box;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const STARTS: usize = 1500;
const CALLS_PER_BLOCK: u32 = 20_000;
const INNER: &str = "KEYSHIM_BENCH_INNER";

fn main() {
    if std::env::var_os(INNER).is_some() {
        return measure_calls();
    }
    let library = library();
    println!("library: {} bytes", library.metadata().map_or(0, |facts| facts.len()));
    let directory = std::env::temp_dir().join(format!("keyshim-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the door");
    let door = directory.join("door");
    let _listening = UnixDatagram::bind(&door).expect("a door");
    compare_starts(&library, &door);
    for (name, preload) in [("without the library", None), ("with it", Some(&library))] {
        println!("{name}:");
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.env(INNER, "1").env("KEYSHIM_SOCKET", &door);
        preload.map(|library| command.env("LD_PRELOAD", library));
        assert!(command.status().expect("ourselves").success());
    }
    std::fs::remove_dir_all(&directory).expect("the directory goes");
}

/// The library as users get it; a bench does not make cargo build it.
fn library() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--package", "keyshim-preload", "--lib"]);
    assert!(build.status().expect("cargo").success());
    let own = std::env::current_exe().expect("our own path");
    let library = own.parent().and_then(Path::parent).expect("a directory").join("libkeyshim.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

fn compare_starts(library: &Path, door: &Path) {
    let mut plain = Command::new("/bin/true");
    let mut preloaded = Command::new("/bin/true");
    plain.env_clear().env("KEYSHIM_SOCKET", door);
    preloaded.env_clear().env("KEYSHIM_SOCKET", door).env("LD_PRELOAD", library);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        without.push(start_us(&mut plain));
        with.push(start_us(&mut preloaded));
    }
    let (without, with) = (median(&mut without), median(&mut with));
    let added = (with / without - 1.0) * 100.0;
    println!("start of /bin/true: {without:.0} us, with the library {with:.0} us, {added:+.1} %");
}

fn start_us(command: &mut Command) -> f64 {
    let began = Instant::now();
    assert!(command.status().expect("/bin/true").success());
    began.elapsed().as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure_calls() {
    let (payload_len, text): (usize, _) = (2 << 20, c"user".as_ptr());
    show("a payload refused for its length", || {
        // SAFETY: the length alone is looked at; nothing is read.
        black_box(unsafe { libc::syscall(libc::SYS_add_key, text, text, text, payload_len, -3) });
    });
    show("another system call by syscall()", || {
        // SAFETY: no arguments.
        black_box(unsafe { libc::syscall(libc::SYS_getppid) });
    });
    show("open and close of another file", || {
        // SAFETY: a string, and the descriptor is closed at once.
        unsafe { libc::close(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY)) };
    });
    show("access of a file that is not there", || {
        // SAFETY: a string.
        black_box(unsafe { libc::access(c"/nowhere".as_ptr(), libc::R_OK) });
    });
}

fn show(what: &str, call: impl Fn()) {
    let mut blocks = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        for _ in 0..CALLS_PER_BLOCK {
            call();
        }
        blocks.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS_PER_BLOCK));
    }
    println!("  {what}: {:.0} ns", median(&mut blocks));
}
