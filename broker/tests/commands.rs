//! The commands that look, and those that make documents.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Broker, Client, KEYSHIM};
use keyshim_abi::frame::Message;
use keyshim_abi::request::Payload;
use keyshim_abi::{KeyId, Perm, Request};
use tempfile::TempDir;

fn keyshim(arguments: &[&str]) -> Output {
    let runtime = TempDir::new().unwrap();
    common::keyshim(runtime.path()).args(arguments).output().unwrap()
}

fn at(broker: &Broker, arguments: &[&str]) -> Output {
    let mut command = Command::new(KEYSHIM);
    command.args(arguments).arg("--socket").arg(broker.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn without_a_broker_they_say_what_to_do() {
    for command in ["keys", "users", "tree"] {
        let output = keyshim(&[command]);
        assert_eq!(output.status.code(), Some(125));
        let text = text(&output.stderr);
        assert!(text.contains("keyshim/default") && text.contains("keyshim broker"), "{text}");
    }
}

#[test]
fn json_is_json_and_plain_text_has_no_colours() {
    let broker = Broker::start();
    for command in ["keys", "users"] {
        let output = at(&broker, &[command, "--json"]);
        assert!(output.status.success());
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value.is_array());
        let plain = at(&broker, &[command]);
        assert!(plain.status.success());
        assert!(!plain.stdout.contains(&0x1b));
    }
}

/// Carries out a call that must succeed: its number.
fn call(client: &mut Client, request: Request<'_>) -> i32 {
    let (answer, _) = client.ask(&Message::Call(request)).unwrap();
    answer.unwrap() as i32
}

fn add(client: &mut Client, type_name: &str, description: &str, keyring: KeyId) -> KeyId {
    let payload = if type_name == "keyring" { &b""[..] } else { b"abc" };
    KeyId(call(
        client,
        Request::AddKey {
            type_name: Ok(type_name.as_bytes()),
            description: Some(Ok(description.as_bytes())),
            payload: Payload::Carried(payload),
            keyring,
        },
    ))
}

#[test]
fn a_tree_shows_what_is_nested_ends_or_has_ended() {
    let broker = Broker::start();
    let mut client = broker.client();
    call(&mut client, Request::JoinSessionKeyring { name: None });
    let outer = add(&mut client, "keyring", "outer", KeyId::SESSION);
    let inner = add(&mut client, "keyring", "inner", outer);
    add(&mut client, "user", "deep", inner);
    let revoked = add(&mut client, "user", "over", inner);
    call(&mut client, Request::Revoke { key: revoked });
    let ends = add(&mut client, "user", "ends", inner);
    call(&mut client, Request::SetTimeout { key: ends, timeout_s: 7000 });
    let hidden = add(&mut client, "user", "hidden", inner);
    call(&mut client, Request::Setperm { key: hidden, perm: Perm(0) });
    let output = at(&broker, &["tree", "--json"]);
    let tree: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = tree["keys"][0]["keys"][0]["keys"].as_array().unwrap();
    let find = |id: KeyId| keys.iter().find(|key| key["serial"] == id.0).unwrap();
    assert_eq!(find(revoked)["state"], "revoked");
    assert_eq!(find(revoked)["description"], "over");
    assert_eq!(find(ends)["expiry"], "1h");
    assert_eq!(find(hidden)["state"], "no right to view it");
    assert!(find(hidden).get("type").is_none());
    let plain = text(&at(&broker, &["tree"]).stdout);
    assert!(plain.contains("\n└─ ") && plain.contains("\n   └─ "), "{plain}");
    assert!(plain.contains("user: deep [alswrv") && plain.contains(" revoked\n"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
}

#[test]
fn the_doctor_reports_what_is_broken_in_its_status() {
    // The library is one that loads, but catches nothing.
    let output = keyshim(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["works"], false);
    let findings = report["findings"].as_array().unwrap();
    let state = |what: &str| findings.iter().find(|f| f["what"] == what).unwrap()["state"].clone();
    let modes = report["modes"].as_array().unwrap();
    let preload = modes.iter().find(|rung| rung["mode"] == "preload").unwrap();
    assert_eq!(preload["works"], false);
    assert!(preload["advice"].is_string());
    assert_eq!(state("library"), "good");
    assert_eq!(state("pidfd"), "good");
    assert!(findings.iter().all(|f| f["state"] == "good" || f["advice"].is_string()));
    let plain = text(&keyshim(&["doctor"]).stdout);
    assert!(plain.contains("FAIL") && plain.contains("no security boundary"), "{plain}");
}

#[test]
fn every_shell_has_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = keyshim(&["completions", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("doctor"), "{shell}");
    }
}

#[test]
fn every_command_has_its_manual_page() {
    let directory = TempDir::new().unwrap();
    let output = keyshim(&["man", directory.path().to_str().unwrap()]);
    assert!(output.status.success());
    let exists = |name: &str| Path::new(directory.path()).join(name).is_file();
    for command in ["run", "broker", "keys", "users", "tree", "doctor", "completions", "man"] {
        assert!(exists(&format!("keyshim-{command}.1")), "{command}");
    }
    assert!(exists("keyshim.1"));
    assert!(text(&keyshim(&["man"]).stdout).starts_with(".ie"));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let script = "\"$0\" completions bash | head -1; \"$0\" man | true";
    let output = Command::new("sh").args(["-c", script, KEYSHIM]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn what_is_wrong_with_an_argument_is_said() {
    for (arguments, says) in [
        (&["run"][..], "PROGRAM"),
        (&["run", "--profile", "linux-9", "true"], "linux-6"),
        (&["run", "--domain", "a/b", "true"], "letters"),
        (&["broker", "--mode", "999"], "octal"),
        (&["tree", "@x"], "@us"),
    ] {
        let output = keyshim(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{arguments:?}");
    }
}
