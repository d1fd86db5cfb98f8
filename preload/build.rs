//! How the library is linked: it is loaded at the start of every program under it,
//! so it must load without an unwinder and cost few mappings.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// The compiled `core` names the unwinder's personality routine in its tables. With
/// link-time optimisation the reference vanishes; without it the library would not
/// load. Nothing unwinds by Rust's rules here, so the name may stand for nothing; the
/// linker keeps it local.
const NO_UNWINDER: &str = "-Wl,--defsym=rust_eh_personality=0";

/// Code and constants in one mapping, and no second pass over the protection of the
/// few addresses that the loader fills in: a third of what loading us costs. Which
/// of these a linker knows depends on its kind and age.
const FEW_MAPPINGS: [&str; 3] = ["-Wl,-z,noseparate-code", "-Wl,--no-rosegment", "-Wl,-z,norelro"];

/// The least that is a library.
const EMPTY: &str = "#![no_std]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib={NO_UNWINDER}");
    for argument in FEW_MAPPINGS.into_iter().filter(|argument| is_known(argument)) {
        println!("cargo::rustc-link-arg-cdylib={argument}");
    }
}

/// True when an empty library can be linked with that argument.
fn is_known(argument: &str) -> bool {
    let (Ok(compiler), Ok(directory), Ok(target)) =
        (env::var("RUSTC"), env::var("OUT_DIR"), env::var("TARGET"))
    else {
        return false;
    };
    let source = Path::new(&directory).join("empty.rs");
    if std::fs::write(&source, EMPTY).is_err() {
        return false;
    }
    let mut command = Command::new(compiler);
    command.args(["--crate-type", "cdylib", "--target", &target, "--out-dir", &directory]);
    command.args(["-C", "panic=abort"]);
    command.arg("-C").arg(format!("link-arg={argument}"));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    command.arg(&source).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
