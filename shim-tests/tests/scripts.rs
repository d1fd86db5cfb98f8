//! Every script of `scripts/`, in the core, on the kernel, through the preloaded
//! library and through the supervisor. A script states what the kernel does: where it fails there, the script
//! is wrong.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use keyshim_keys::Profile;
use keyshim_tests::script;
use keyshim_tests::step::{History, Start};
use keyshim_tests::workload::Abilities;
use keyshim_tests::world::actor::{ActorWorld, Road};
use keyshim_tests::world::core::CoreWorld;
use keyshim_tests::world::run::Run;
use keyshim_tests::world::upcall::Stage;
use keyshim_tests::world::{World, kernel};
use libtest_mimic::{Arguments, Failed, Trial};

/// Not for the supervisor alone: a thread that is not the main one makes another, and
/// nobody says so (COMPATIBILITY.md).
const NOT_SUPERVISED: &[&str] = &["a_thread_begins_with_the_keyrings_of_its_maker"];

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let kernel_off = kernel::unavailable();
    let roads = [("preload", as_root(Road::preload)), ("supervised", as_root(Road::supervised))];
    let abilities = match kernel_off {
        None => kernel::abilities()?,
        Some(_) => Abilities { bare: false, big_key: false, upcalls: false },
    };
    let actor = Path::new(env!("CARGO_BIN_EXE_keyshim-actor"));
    let stage = Stage::set_or_skip(kernel_off.is_none() && !arguments.list, actor);
    let has_dns_resolver = kernel_off.is_none() && kernel::has_dns_resolver();
    for path in scripts()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let history = script::parse(&text).with_context(|| path.display().to_string())?;
        let (one, two) = (history.clone(), history.clone());
        trials.push(Trial::test(format!("core::{name}"), move || in_core(&one)));
        let off = kernel_off.is_some()
            || history.profile != Profile::default()
            || (history.start == Start::Bare && !abilities.bare)
            || (history.needs_big_key && !abilities.big_key)
            || (history.needs_dns_resolver && !has_dns_resolver)
            || (history.needs_upcalls && stage.is_none());
        trials
            .push(skippable(format!("kernel::{name}"), !off, move || on_road(&two, &Road::Kernel)));
        for (way, road) in &roads {
            let off = *way == "supervised" && NOT_SUPERVISED.contains(&name.as_str());
            let off = off || (history.needs_upcalls && stage.is_none());
            let road = road.as_ref().ok().filter(|_| !off).cloned();
            let history = history.clone();
            trials.push(skippable(format!("{way}::{name}"), road.is_some(), move || match &road {
                Some(road) => on_road(&history, road),
                None => Err(Failed::from("no such road here")),
            }));
        }
    }
    match &kernel_off {
        Some(why) => eprintln!("skipped: kernel: {why}"),
        None => name_what_is_missing(abilities, has_dns_resolver),
    }
    for name in NOT_SUPERVISED {
        eprintln!("skipped: supervised::{name}: nobody says who made a thread");
    }
    for (way, road) in roads {
        if let Err(why) = road {
            eprintln!("skipped: {way}: {why:#}");
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(stage);
    conclusion.exit()
}

fn name_what_is_missing(abilities: Abilities, has_dns_resolver: bool) {
    if !has_dns_resolver {
        eprintln!(
            "skipped: kernel: scripts that need dns_resolver: this kernel lacks CONFIG_DNS_RESOLVER"
        );
    }
    if !abilities.bare {
        eprintln!(
            "skipped: kernel: scripts that start bare: this login has a session keyring; \
             run them from a service without one"
        );
    }
    if !abilities.big_key {
        eprintln!("skipped: kernel: scripts that need big_key: this kernel lacks CONFIG_BIG_KEYS");
    }
}

fn skippable(
    name: String,
    possible: bool,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::test(name, test).with_ignored_flag(!possible)
}

fn scripts() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).context("scripts/")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "keys") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        bail!("there are no scripts in {}", folder.display());
    }
    Ok(paths)
}

fn as_root(road: fn() -> Result<Road>) -> Result<Road> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: its actors must become other users");
    }
    road()
}

fn in_core(history: &History) -> Result<(), Failed> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let world = CoreWorld::profiled(1, "r", (second as i64, 1_000_000), history.profile);
    Ok(check(world, history).map(drop)?)
}

fn on_road(history: &History, road: &Road) -> Result<(), Failed> {
    let actor = Path::new(env!("CARGO_BIN_EXE_keyshim-actor"));
    let world = ActorWorld::profiled(road.clone(), actor, "r", &history.profile)?;
    Ok(check(world, history).map(drop)?)
}

/// Runs a script; the first step that does not give what it should ends it.
fn check<W: World>(world: W, history: &History) -> Result<Run<W>> {
    let mut run = Run::begin(world, history.start)?;
    for (index, step) in history.steps.iter().enumerate() {
        let seen = run.step(step)?;
        let fine = match step.expect.as_slice() {
            [] => seen.ok,
            expected => expected.contains(&seen.text),
        };
        if !fine {
            bail!("step {}: {}\n   gave {}", index + 1, script::line(step), seen.text);
        }
    }
    Ok(run)
}
