//! A key type of one's own: `release`, the number of a release, which only goes up.
//!
//! Once it is registered, keyrings, permissions, quotas, expiry and `/proc/keys` work
//! for its keys as for those of any type. Run it with
//! `cargo run -p keyshim-examples --example own_key_type`.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

use keyshim_abi::caller::TaskId;
use keyshim_abi::{Errno, KeyId, Payload as Sent, Request};
use keyshim_examples::{ALICE, alice, answer};
use keyshim_keys::{CallId, Config, KeyService, Now, Profile, SeededEntropy, TaskEvent, Upcalls};
use keyshim_keys::{KeyType, Payload, Preparsed, ReadKey, Summary, UpdateKey};

struct Release;

/// What one of our payloads holds.
fn number(payload: &Payload) -> Result<u64, Errno> {
    match payload {
        Payload::Object(object) => object.downcast_ref().copied().ok_or(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

impl KeyType for Release {
    fn name(&self) -> &'static str {
        "release"
    }

    // Text comes in, a number is kept: what is no number never becomes a key.
    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let number: u64 = text.parse().map_err(|_| Errno::EINVAL)?;
        let payload = Payload::Object(Box::new(number));
        Ok(Preparsed { payload, quota_len: 8, ..Preparsed::copied(&[]) })
    }

    // What `/proc/keys` says behind the description.
    fn summarize(&self, summary: Summary<'_>, out: &mut dyn Write) -> fmt::Result {
        write!(out, ": {} bytes", summary.data_len)
    }

    // Abilities: a type without them answers EOPNOTSUPP, and its keys lack the right.
    fn updater(&self) -> Option<&dyn UpdateKey> {
        Some(self)
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

impl UpdateKey for Release {
    fn update(&self, old: &Payload, new: Payload) -> Result<Payload, Errno> {
        if number(&new)? < number(old)? { Err(Errno::EKEYREJECTED) } else { Ok(new) }
    }
}

impl ReadKey for Release {
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        Ok(Cow::Owned(number(payload)?.to_string().into_bytes()))
    }
}

const NOW: Now = Now(1_000_000_000);
const TASK: TaskId = TaskId(1);

/// `add_key("release", "firmware", number, @s)`, which updates the key if it is there.
fn add(service: &mut KeyService, number: &str) -> Result<u32, Errno> {
    let request = Request::AddKey {
        type_name: Ok(b"release"),
        description: Some(Ok(b"firmware")),
        payload: Sent::Carried(number.as_bytes()),
        keyring: KeyId::SESSION,
    };
    let answer = answer(service.submit(NOW, CallId(0), &alice(TASK), &request, &mut Vec::new()));
    println!("add_key release firmware {number:6} -> {answer:?}");
    answer
}

fn read(service: &mut KeyService, key: u32) -> Result<String, Errno> {
    let (key, mut data) = (KeyId::from_register(key.into()), Vec::new());
    let request = Request::Read { key, room: Some(64) };
    let answer = answer(service.submit(NOW, CallId(0), &alice(TASK), &request, &mut data));
    let text = answer.map(|_| String::from_utf8_lossy(&data).into_owned());
    println!("keyctl_read                     -> {text:?}");
    text
}

fn main() -> Result<(), Errno> {
    let mut service = KeyService::new(Config {
        entropy: Box::new(SeededEntropy::new(1)),
        upcalls: Upcalls::Off,
        profile: Profile::LINUX_6,
    });
    service.task_event(NOW, TaskEvent::Appeared { task: TASK, ids: ALICE });
    assert_eq!(add(&mut service, "41"), Err(Errno::ENODEV), "nobody knows the type yet");

    service.register_type(Arc::new(Release))?;
    let key = add(&mut service, "0041")?;
    assert_eq!(read(&mut service, key)?, "41", "a number is kept, not its text");
    assert_eq!(add(&mut service, "42"), Ok(key), "the same key, updated");
    assert_eq!(add(&mut service, "40"), Err(Errno::EKEYREJECTED), "it only goes up");
    assert_eq!(add(&mut service, "newest"), Err(Errno::EINVAL), "no number");
    assert_eq!(read(&mut service, key)?, "42", "refused updates leave no trace");

    service.unregister_type(b"release")?;
    assert_eq!(read(&mut service, key), Err(Errno::ENOKEY), "its keys died and fell out of @s");
    assert_eq!(add(&mut service, "43"), Err(Errno::ENODEV), "the type is gone");
    Ok(())
}
