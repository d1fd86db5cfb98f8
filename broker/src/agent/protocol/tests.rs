//! States as runtimes write them, and as they do not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// As runc 1.1 writes it.
const RUNC: &str = r#"{"ociVersion":"1.0.2-dev","fds":["seccompFd"],"pid":30476,"state":{"ociVersion":"1.0.2-dev","id":"t2","status":"creating","pid":30476,"bundle":"/tmp/b"}}"#;
/// As crun 1.8 writes it, with metadata.
const CRUN: &str = "{\n    \"ociVersion\": \"0.2.0\",\n    \"fds\": [\n        \"seccompFd\"\n    ],\n    \"pid\": 30921,\n    \"metadata\": \"pod\",\n    \"state\": {\n        \"ociVersion\": \"0.2.0\",\n        \"id\": \"t1\",\n        \"status\": \"creating\",\n        \"pid\": 30921,\n        \"bundle\": \"/tmp/b\"\n    }\n}\n";

fn state(with: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut state: Value = serde_json::from_str(RUNC).unwrap();
    with(&mut state);
    state.to_string().into_bytes()
}

#[test]
fn what_runtimes_write_is_understood() {
    let runc = read(RUNC.as_bytes(), 1).unwrap();
    let expected =
        Introduction { container: "t2".into(), shared: None, pid: 30476, listener_at: 0 };
    assert_eq!(runc, expected);
    let crun = read(CRUN.as_bytes(), 1).unwrap();
    assert_eq!((crun.container.as_str(), crun.shared.as_deref()), ("t1", Some("pod")));
}

#[test]
fn the_order_of_the_names_is_that_of_the_descriptors() {
    let text = state(|state| state["fds"] = json!(["pidFd", "seccompFd", "other"]));
    assert_eq!(read(&text, 3).unwrap().listener_at, 1);
    assert_eq!(read(&text, 1), Err(Refusal::Miscounted));
    assert_eq!(read(&text, 4), Err(Refusal::Miscounted));
}

#[test]
fn one_descriptor_must_be_the_listener() {
    let twice = state(|state| state["fds"] = json!(["seccompFd", "seccompFd"]));
    assert_eq!(read(&twice, 2), Err(Refusal::Unnamed));
    let other = state(|state| state["fds"] = json!(["pidFd"]));
    assert_eq!(read(&other, 1), Err(Refusal::Unnamed));
    let none = state(|state| drop(state.as_object_mut().unwrap().remove("fds")));
    assert_eq!(read(&none, 0), Err(Refusal::Unnamed));
    assert_eq!(read(&none, 1), Err(Refusal::Miscounted));
}

#[test]
fn a_name_has_bounds_and_empty_metadata_is_none() {
    let long = "x".repeat(NAME_LEN_MAX + 1);
    for id in ["", &long] {
        let text = state(|state| state["state"]["id"] = json!(id));
        assert_eq!(read(&text, 1), Err(Refusal::BadName));
    }
    let text = state(|state| state["metadata"] = json!(long));
    assert_eq!(read(&text, 1), Err(Refusal::BadName));
    for metadata in [json!(""), Value::Null] {
        let text = state(|state| state["metadata"] = metadata);
        assert_eq!(read(&text, 1).unwrap().shared, None);
    }
}

#[test]
fn what_is_no_state_is_refused() {
    for text in ["{}", "[]", r#"{"pid":"1"}"#, r#"{"pid":1,"state":{"id":7}}"#] {
        assert_eq!(read(text.as_bytes(), 0), Err(Refusal::NotAState), "{text}");
    }
    for text in ["", "{", "{]", "{\"a\" 1}", "\u{0}"] {
        assert_eq!(read(text.as_bytes(), 0), Err(Refusal::NotAnObject), "{text}");
    }
    let nested = "{\"a\":".repeat(4096) + "0" + &"}".repeat(4096);
    assert!(read(nested.as_bytes(), 0).is_err());
    let pid = state(|state| state["pid"] = json!(-5));
    assert_eq!(read(&pid, 1).unwrap().pid, 0);
}

#[test]
fn what_does_not_begin_an_object_is_refused_at_once() {
    assert_eq!(Extent::default().end_in(b" \nGET / HTTP/1.0"), Err(Refusal::NotAnObject));
    for text in ["7{", "[]", "}{", "\"{}\""] {
        assert_eq!(Extent::default().end_in(text.as_bytes()), Err(Refusal::NotAnObject), "{text}");
    }
    assert_eq!(Extent::default().end_in(b" \n "), Ok(None));
}

#[test]
fn only_a_listener_is_a_listener() {
    let file = OwnedFd::from(std::fs::File::open("/proc/self/status").unwrap());
    assert!(!is_listener(&file));
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    assert!(!is_listener(&OwnedFd::from(event)));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        r#"[\PC\\"{}\[\]\n]{0,12}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(r#"[a-z\\"{}]{0,6}"#, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn an_object_ends_where_it_ends_however_it_is_cut(
        value in any_json(),
        tail in "[ {}\\[\\]\"a]{0,8}",
        cuts in prop::collection::vec(1_usize..9, 1..64),
    ) {
        let object = json!({ "a": value }).to_string();
        let whole = format!(" {object}{tail}");
        let mut extent = Extent::default();
        let (mut rest, mut taken, mut cuts) = (whole.as_bytes(), 0, cuts.into_iter().cycle());
        let end = loop {
            let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            if let Some(end) = extent.end_in(piece).unwrap() {
                break taken + end;
            }
            prop_assert!(!piece.is_empty(), "no end was found");
            (taken, rest) = (taken + piece.len(), after);
        };
        prop_assert_eq!(end, 1 + object.len());
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Extent::default().end_in(&bytes);
        prop_assert!(read(&bytes, 1).is_err());
    }
}
