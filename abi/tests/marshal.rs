//! Marshalling over hostile memory: holes, read-only pages, strings that run into
//! them, lengths beyond reason. An oracle that walks byte by byte says what Linux
//! would fetch.

// Helpers of properties are not tests by the lint's lights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "marshal/memory.rs"]
mod memory;
#[path = "marshal/oracle.rs"]
mod oracle;

use keyshim_abi::limits::{ADD_PAYLOAD_LEN_MAX, UPDATE_PAYLOAD_LEN_MAX};
use keyshim_abi::marshal::{self, Entry, RawCall, Width};
use keyshim_abi::uapi::keyctl as op;
use keyshim_abi::user_memory::UserMemory;
use keyshim_abi::{Errno, KeyId, Payload, Reply, Request};
use proptest::prelude::*;

use memory::{BASE, Memory, PAGES, any_memory};

const PAGE: u64 = 4096;

/// Addresses in and around the made-up pages, and where no program has any.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => BASE - 64..BASE + PAGES as u64 * PAGE + 64,
        3 => (1..=PAGES as u64, 0..64u64).prop_map(|(page, back)| BASE + page * PAGE - back),
        2 => Just(0),
        1 => any::<u64>(),
        1 => (0..8192u64).prop_map(|back| u64::MAX - back),
        1 => (0..100u64).prop_map(|at| (1 << 63) - 50 + at),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..6 * PAGE,
        2 => Just(0),
        2 => UPDATE_PAYLOAD_LEN_MAX - 1..=UPDATE_PAYLOAD_LEN_MAX + 1,
        1 => 32_766..=32_769u64,
        2 => ADD_PAYLOAD_LEN_MAX - 1..=ADD_PAYLOAD_LEN_MAX + 1,
        1 => any::<u64>(),
    ]
}

/// Lengths of segments: mostly such that several of them fit into the bound.
fn segment_len() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..300u64, 1 => length(), 1 => (0..9u64).prop_map(|back| (1 << 63) - 4 + back)]
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![3 => address(), 2 => length(), 1 => any::<u64>()]
}

fn call() -> impl Strategy<Value = RawCall> {
    let args = prop::array::uniform5(register());
    (0..44u64, args).prop_map(|(kind, [a, b, c, d, e])| match kind {
        0..3 => RawCall::native(Entry::AddKey, [a, b, c, d, e]),
        3..5 => RawCall::native(Entry::RequestKey, [a, b, c, d, e]),
        _ => RawCall::native(Entry::Keyctl, [kind - 5, a, b, c, d]),
    })
}

fn fetch<'s>(
    call: &RawCall,
    memory: &Memory,
    scratch: &'s mut Vec<u8>,
) -> Result<Request<'s>, Errno> {
    *scratch = vec![0x5a; call.scratch_len()];
    marshal::request(call, memory, scratch)
}

/// Registers of keyctl that an operation looks at, after the operation itself.
fn arguments(operation: u32) -> usize {
    match operation {
        op::SESSION_TO_PARENT => 0,
        op::JOIN_SESSION_KEYRING
        | op::REVOKE
        | op::CLEAR
        | op::SET_REQKEY_KEYRING
        | op::ASSUME_AUTHORITY
        | op::INVALIDATE => 1,
        op::GET_KEYRING_ID
        | op::SETPERM
        | op::LINK
        | op::UNLINK
        | op::SET_TIMEOUT
        | op::GET_PERSISTENT
        | op::CAPABILITIES => 2,
        op::UPDATE
        | op::CHOWN
        | op::DESCRIBE
        | op::READ
        | op::NEGATE
        | op::GET_SECURITY
        | op::RESTRICT_KEYRING => 3,
        op::SEARCH | op::INSTANTIATE | op::REJECT | op::INSTANTIATE_IOV | op::MOVE => 4,
        _ => 0,
    }
}

/// Registers that a call looks at.
fn registers(call: &RawCall) -> usize {
    match call.entry {
        Entry::AddKey => 5,
        Entry::RequestKey => 4,
        Entry::Keyctl => 1 + arguments(call.args[0] as u32),
    }
}

proptest! {
    #[test]
    fn what_is_fetched_is_what_linux_would_fetch(call in call(), memory in any_memory()) {
        let mut scratch = Vec::new();
        let got = fetch(&call, &memory, &mut scratch);
        let expected = oracle::request(&call, &memory);
        prop_assert_eq!(got, expected.as_ref().map(oracle::Owned::borrow).map_err(|errno| *errno));
    }

    #[test]
    fn registers_that_a_call_does_not_take_change_nothing(
        call in call(),
        memory in any_memory(),
        junk in any::<[u64; 5]>(),
    ) {
        let used = registers(&call);
        let mut other = call;
        other.args[used..].copy_from_slice(&junk[used..]);
        if call.entry == Entry::Keyctl {
            other.args[0] |= junk[0] << 32;
        }
        let (mut one, mut two) = (Vec::new(), Vec::new());
        prop_assert_eq!(fetch(&call, &memory, &mut one), fetch(&other, &memory, &mut two));
        prop_assert_eq!(call.refused_by_length(), other.refused_by_length());
    }

    #[test]
    fn scratch_too_small_is_survived(
        call in call(),
        memory in any_memory(),
        len in prop_oneof![0..40usize, 0..9000usize],
    ) {
        let mut scratch = vec![0; len.min(call.scratch_len())];
        let short = marshal::request(&call, &memory, &mut scratch).map(|_| ());
        let mut whole = Vec::new();
        let whole = fetch(&call, &memory, &mut whole).map(|_| ());
        // Segments that cannot be kept are ENOMEM, as from a kernel that has none.
        let scattered = call.args[0] as u32 == op::INSTANTIATE_IOV;
        prop_assert!(short == whole || (scattered && short == Err(Errno::ENOMEM)));
    }

    #[test]
    fn segments_are_gathered_in_their_order(
        memory in any_memory(),
        segments in prop::collection::vec((address(), segment_len()), 0..6),
        at in address(),
    ) {
        let array: Vec<u8> =
            segments.iter().flat_map(|(base, len)| [base.to_le_bytes(), len.to_le_bytes()])
                .flatten().collect();
        // Where the array cannot be written it is whatever bytes are there.
        let _ = memory.write(at, &array);
        let args = [u64::from(op::INSTANTIATE_IOV), 7, at, segments.len() as u64, 0];
        let call = RawCall::native(Entry::Keyctl, args);
        let mut scratch = Vec::new();
        let got = fetch(&call, &memory, &mut scratch);
        let expected = oracle::request(&call, &memory);
        prop_assert_eq!(got, expected.as_ref().map(oracle::Owned::borrow).map_err(|errno| *errno));
    }

    #[test]
    fn fetching_writes_nothing(call in call(), memory in any_memory()) {
        let before = memory.snapshot();
        let _ = fetch(&call, &memory, &mut Vec::new());
        prop_assert_eq!(before, memory.snapshot());
    }

    #[test]
    fn a_reply_is_written_whole_or_is_efault(
        call in call(),
        memory in any_memory(),
        data in prop::collection::vec(any::<u8>(), 0..5000),
        value in 0..10_000u32,
    ) {
        let buffer = match (call.entry, call.args[0] as u32) {
            (Entry::Keyctl, op::DESCRIBE | op::READ | op::GET_SECURITY) => Some(call.args[2]),
            (Entry::Keyctl, op::CAPABILITIES) => Some(call.args[1]),
            _ => None,
        };
        let capabilities = buffer.is_some() && call.args[0] as u32 == op::CAPABILITIES;
        let rest = if capabilities { call.args[2].saturating_sub(data.len() as u64) } else { 0 };
        let expected = buffer.map(|at| memory.after_write(at, &data, rest));
        let before = memory.snapshot();
        let ret = marshal::deliver(&call, &Reply { answer: Ok(value), data: &data }, &memory);
        match expected {
            None => {
                prop_assert_eq!(ret, i64::from(value));
                prop_assert_eq!(memory.snapshot(), before);
            }
            Some(Some(after)) => {
                prop_assert_eq!(ret, i64::from(value));
                prop_assert!(memory.snapshot() == after);
            }
            Some(None) => prop_assert_eq!(ret, -14),
        }
    }

    #[test]
    fn an_error_is_returned_negative_and_nothing_is_written(
        call in call().prop_filter("CAPABILITIES does not fail", |call| {
            call.args[0] as u32 != op::CAPABILITIES
        }),
        memory in any_memory(),
        raw in 1..=4094i32,
    ) {
        let before = memory.snapshot();
        let reply = Reply::bare(Err(Errno::new(raw).unwrap()));
        prop_assert_eq!(marshal::deliver(&call, &reply, &memory), -i64::from(raw));
        prop_assert_eq!(before, memory.snapshot());
    }

    #[test]
    fn a_probe_finds_every_hole(memory in any_memory(), address in address(), len in length()) {
        let readable = memory.readable(address, len);
        prop_assert_eq!(memory.probe(address, len).is_ok(), readable);
    }
}

#[test]
fn a_payload_at_its_bound_is_fetched_and_one_byte_more_is_einval() {
    let memory = Memory::filled(0xff, 260);
    let cases = [
        (Entry::AddKey, 0, ADD_PAYLOAD_LEN_MAX),
        (Entry::Keyctl, op::UPDATE, UPDATE_PAYLOAD_LEN_MAX),
        (Entry::Keyctl, op::INSTANTIATE, ADD_PAYLOAD_LEN_MAX),
    ];
    for (entry, operation, max) in cases {
        let at = |len| match entry {
            Entry::AddKey => [BASE, 0, BASE, len, 0],
            _ => [u64::from(operation), 7, BASE, len, 0],
        };
        let mut scratch = Vec::new();
        let fits = RawCall::native(entry, at(max));
        let request = fetch(&fits, &memory, &mut scratch).unwrap();
        let (Request::AddKey { payload, .. }
        | Request::Update { payload, .. }
        | Request::Instantiate { payload, .. }) = request
        else {
            panic!("{request:?}")
        };
        assert!(matches!(payload, Payload::Carried(bytes) if bytes.len() as u64 == max));
        let longer = RawCall::native(entry, at(max + 1));
        assert_eq!(fetch(&longer, &memory, &mut scratch), Err(Errno::EINVAL));
    }
}

#[test]
fn null_is_none_where_it_may_be_and_efault_elsewhere() {
    let memory = Memory::filled(b'x', 1);
    let call = RawCall::native(Entry::RequestKey, [0; 5]);
    let mut scratch = Vec::new();
    let Ok(Request::RequestKey { type_name, description, callout, .. }) =
        fetch(&call, &memory, &mut scratch)
    else {
        panic!("a request_key")
    };
    assert_eq!(type_name, Err(Errno::EFAULT));
    assert_eq!(description, Err(Errno::EFAULT));
    assert_eq!(callout, None);
}

#[test]
fn pieces_from_both_widths_become_one_payload() {
    let memory = Memory::filled(b'.', 1);
    memory.write(BASE, b"onetwo").unwrap();
    let wide = [BASE + 3, 3, BASE, 0, BASE, 3].map(u64::to_le_bytes);
    memory.write(BASE + 100, wide.as_flattened()).unwrap();
    let narrow = [BASE as u32 + 3, 3, BASE as u32, 0, BASE as u32, 3].map(u32::to_le_bytes);
    memory.write(BASE + 200, narrow.as_flattened()).unwrap();
    for (at, width) in [(BASE + 100, Width::Bits64), (BASE + 200, Width::Bits32)] {
        let args = [u64::from(op::INSTANTIATE_IOV), 7, at, 3, 0];
        let call = RawCall { width, ..RawCall::native(Entry::Keyctl, args) };
        let mut scratch = Vec::new();
        let request = fetch(&call, &memory, &mut scratch);
        let payload = Payload::Carried(b"twoone");
        assert_eq!(
            request,
            Ok(Request::InstantiateIov { key: KeyId(7), payload, keyring: KeyId(0) })
        );
    }
}
