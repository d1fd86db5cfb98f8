//! Frames as a hostile peer may send them: what was encoded comes back as it was,
//! what was not is refused, and nothing panics.

// Helpers of properties are not tests by the lint's lights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyshim_abi::frame::{
    LENGTH_LEN, Malformed, Message, Origin, Token, Welcome, decode_message, decode_reply,
    decode_welcome, encode_message, encode_reply_head, encode_welcome, message_len, reply_len,
};
use keyshim_abi::limits::{REPLY_FRAME_LEN_MAX, REQUEST_FRAME_LEN_MAX, REQUEST_HEAD_LEN_MAX};
use keyshim_abi::procfs::{Knob, ProcFile};
use keyshim_abi::{Errno, KeyId, Payload, Perm, Reply, Request};
use proptest::prelude::*;

type Text = Result<Vec<u8>, Errno>;

#[derive(Debug, Clone)]
enum OwnedPayload {
    Carried(Vec<u8>),
    Omitted(u64),
    Unreadable(u64),
    Absent(u64),
}

/// What any request is made of; each variant takes what it needs.
#[derive(Debug, Clone)]
struct Parts {
    variant: usize,
    texts: [Text; 3],
    present: [bool; 3],
    payload: OwnedPayload,
    numbers: [u32; 4],
    room: Option<u64>,
}

impl Parts {
    fn text(&self, index: usize) -> Result<&[u8], Errno> {
        self.texts[index].as_deref().map_err(|errno| *errno)
    }

    fn optional(&self, index: usize) -> Option<Result<&[u8], Errno>> {
        self.present[index].then(|| self.text(index))
    }

    fn payload(&self) -> Payload<'_> {
        match &self.payload {
            OwnedPayload::Carried(bytes) => Payload::Carried(bytes),
            OwnedPayload::Omitted(len) => Payload::Omitted(*len),
            OwnedPayload::Unreadable(len) => Payload::Unreadable(*len),
            OwnedPayload::Absent(len) => Payload::Absent(*len),
        }
    }
}

const VARIANTS: usize = 29;

fn request(p: &Parts) -> Request<'_> {
    let [a, b, c, d] = p.numbers;
    let id = |raw: u32| KeyId(raw as i32);
    let (key, keyring) = (id(a), id(b));
    match p.variant {
        0 => Request::AddKey {
            type_name: p.text(0),
            description: p.optional(1),
            payload: p.payload(),
            keyring,
        },
        1 => Request::RequestKey {
            type_name: p.text(0),
            description: p.text(1),
            callout: p.optional(2),
            destination: id(d),
        },
        2 => Request::GetKeyringId { id: key, create: p.present[0] },
        3 => Request::JoinSessionKeyring { name: p.optional(0) },
        4 => Request::Update { key, payload: p.payload() },
        5 => Request::Revoke { key },
        6 => Request::Chown { key, uid: b, gid: c },
        7 => Request::Setperm { key, perm: Perm(b) },
        8 => Request::Describe { key, room: p.room.map(|room| room as u32) },
        9 => Request::Clear { keyring },
        10 => Request::Link { key, keyring },
        11 => Request::Unlink { key, keyring },
        12 => Request::Search {
            keyring,
            type_name: p.text(0),
            description: p.text(1),
            destination: id(c),
        },
        13 => Request::Read { key, room: p.room },
        14 => Request::Instantiate { key, payload: p.payload(), keyring },
        15 => Request::Reject { key, timeout_s: c, error: d, keyring },
        _ => number_request(p),
    }
}

fn number_request(p: &Parts) -> Request<'_> {
    let [a, b, c, d] = p.numbers;
    let id = |raw: u32| KeyId(raw as i32);
    let (key, keyring) = (id(a), id(b));
    match p.variant {
        16 => Request::SetReqkeyKeyring { default: a as i32 },
        17 => Request::SetTimeout { key, timeout_s: b },
        18 => Request::AssumeAuthority { key },
        19 => Request::GetSecurity { key, room: p.room },
        20 => Request::SessionToParent,
        21 => Request::Invalidate { key },
        22 => Request::GetPersistent { uid: a, keyring },
        23 => Request::RestrictKeyring {
            keyring,
            type_name: p.optional(0),
            restriction: p.optional(1),
        },
        24 => Request::Move { key, from: keyring, to: id(c), flags: d },
        25 => Request::Capabilities { room: p.room.unwrap_or_default() },
        26 => Request::InstantiateIov { key, payload: p.payload(), keyring },
        27 => Request::Negate { key, timeout_s: c, keyring },
        _ => Request::Other { operation: a },
    }
}

fn errno() -> impl Strategy<Value = Errno> {
    (1..=4094i32).prop_map(|raw| Errno::new(raw).unwrap())
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => prop::collection::vec(1..=255u8, 0..40).prop_map(Ok),
        1 => prop::collection::vec(1..=255u8, 4080..=4095).prop_map(Ok),
        1 => errno().prop_map(Err),
    ]
}

fn payload() -> impl Strategy<Value = OwnedPayload> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..64).prop_map(OwnedPayload::Carried),
        1 => (0..200_000usize).prop_map(|len| OwnedPayload::Carried(vec![0xa5; len])),
        1 => any::<u64>().prop_map(OwnedPayload::Omitted),
        1 => any::<u64>().prop_map(OwnedPayload::Unreadable),
        1 => any::<u64>().prop_map(OwnedPayload::Absent),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let texts = [text(), text(), text()];
    let rest = (payload(), any::<[u32; 4]>(), any::<Option<u64>>());
    (0..VARIANTS, texts, any::<[bool; 3]>(), rest).prop_map(
        |(variant, texts, present, (payload, numbers, room))| Parts {
            variant,
            texts,
            present,
            payload,
            numbers,
            room,
        },
    )
}

fn plain_message() -> impl Strategy<Value = Message<'static>> {
    let token = any::<[u8; 16]>().prop_map(Token);
    let origin = prop_oneof![
        Just(Origin::Fresh),
        token.clone().prop_map(Origin::Same),
        token.prop_map(Origin::ForkedBy),
    ];
    let knob = prop::sample::select(Knob::ALL.to_vec());
    prop_oneof![
        (any::<u32>(), origin).prop_map(|(tid, origin)| Message::Hello { tid, origin }),
        Just(Message::Open(ProcFile::Keys)),
        Just(Message::Open(ProcFile::KeyUsers)),
        knob.clone().prop_map(|knob| Message::Open(ProcFile::Knob(knob))),
        knob.prop_map(Message::OpenKnob),
        Just(Message::Execute),
        any::<bool>().prop_map(|done| Message::StartThread { done }),
        Just(Message::Interrupt),
    ]
}

/// The frame as it goes over the socket.
fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut buffer = vec![0xee; REQUEST_HEAD_LEN_MAX];
    let encoded = encode_message(message, &mut buffer).expect("the promised room suffices");
    [&buffer[..encoded.head_len], encoded.trailing].concat()
}

/// What follows the length, which must be that of it.
fn body_of(frame: &[u8]) -> &[u8] {
    let (length, body) = frame.split_first_chunk::<LENGTH_LEN>().unwrap();
    assert_eq!(message_len(*length), Ok(body.len()));
    body
}

/// Whatever decodes is a message that survives the same way again.
fn survives_if_understood(body: &[u8]) {
    if let Ok(message) = decode_message(body) {
        let frame = frame_of(&message);
        assert_eq!(decode_message(&frame[LENGTH_LEN..]), Ok(message));
    }
}

proptest! {
    #[test]
    fn a_request_comes_back_as_it_was(parts in parts()) {
        let message = Message::Call(request(&parts));
        let frame = frame_of(&message);
        prop_assert_eq!(decode_message(body_of(&frame)), Ok(message));
    }

    #[test]
    fn other_messages_come_back_as_they_were(message in plain_message()) {
        let frame = frame_of(&message);
        prop_assert_eq!(decode_message(body_of(&frame)), Ok(message));
    }

    #[test]
    fn no_part_of_a_request_is_taken_for_the_whole(parts in parts(), cut in any::<prop::sample::Index>()) {
        let frame = frame_of(&Message::Call(request(&parts)));
        let body = body_of(&frame);
        let near = (0..body.len().min(80)).chain(body.len().saturating_sub(80)..body.len());
        for len in near.chain([cut.index(body.len())]) {
            prop_assert_eq!(decode_message(&body[..len]), Err(Malformed), "cut to {}", len);
        }
    }

    #[test]
    fn nothing_may_follow_a_message(
        parts in parts(),
        plain in plain_message(),
        tail in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        for frame in [frame_of(&Message::Call(request(&parts))), frame_of(&plain)] {
            let longer = [body_of(&frame), &tail].concat();
            prop_assert_eq!(decode_message(&longer), Err(Malformed));
        }
    }

    #[test]
    fn a_buffer_too_small_is_told_and_not_overrun(parts in parts(), cut in any::<prop::sample::Index>()) {
        let message = Message::Call(request(&parts));
        let mut buffer = vec![0; REQUEST_HEAD_LEN_MAX];
        let head_len = encode_message(&message, &mut buffer).unwrap().head_len;
        prop_assert!(encode_message(&message, &mut buffer[..cut.index(head_len)]).is_err());
        prop_assert!(encode_message(&message, &mut buffer[..head_len]).is_ok());
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives_if_understood(&bytes);
        let _ = decode_reply(&bytes);
        let _ = decode_welcome(&bytes);
    }

    #[test]
    fn a_request_with_random_operation_and_rest_does_no_harm(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..100),
        operation in 0..64u8,
    ) {
        survives_if_understood(&[&[2, operation], &bytes[..]].concat());
    }

    #[test]
    fn a_damaged_request_does_no_harm(
        parts in parts(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let frame = frame_of(&Message::Call(request(&parts)));
        let mut body = body_of(&frame).to_vec();
        for (at, byte) in hits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        survives_if_understood(&body);
    }

    #[test]
    fn a_reply_comes_back_as_it_was(
        answer in prop_oneof![any::<u32>().prop_map(Ok), errno().prop_map(Err)],
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let head = encode_reply_head(answer, data.len());
        let (length, rest) = head.split_first_chunk::<LENGTH_LEN>().unwrap();
        let body = [rest, &data].concat();
        prop_assert_eq!(reply_len(*length), Ok(body.len()));
        prop_assert_eq!(decode_reply(&body), Ok(Reply { answer, data: &data }));
        for len in 0..rest.len() {
            prop_assert_eq!(decode_reply(&body[..len]), Err(Malformed));
        }
    }

    #[test]
    fn a_welcome_comes_back_as_it_was(token in any::<[u8; 16]>(), other in any::<u16>()) {
        let welcome = Welcome { token: Token(token) };
        let frame = encode_welcome(&welcome);
        let (length, body) = frame.split_first_chunk::<LENGTH_LEN>().unwrap();
        prop_assert_eq!(reply_len(*length), Ok(body.len()));
        prop_assert_eq!(decode_welcome(body), Ok(welcome));
        for len in 0..body.len() {
            prop_assert_eq!(decode_welcome(&body[..len]), Err(Malformed));
        }
        prop_assert_eq!(decode_welcome(&[body, &[0]].concat()), Err(Malformed));
        let mut foreign = body.to_vec();
        foreign[1..3].copy_from_slice(&other.to_le_bytes());
        prop_assert_eq!(decode_welcome(&foreign).is_ok(), other == keyshim_abi::frame::VERSION);
    }

    #[test]
    fn lengths_are_bounded(length in any::<[u8; LENGTH_LEN]>()) {
        let len = u32::from_le_bytes(length) as usize;
        let bounded = |max: usize| if (1..=max).contains(&len) { Ok(len) } else { Err(Malformed) };
        prop_assert_eq!(message_len(length), bounded(REQUEST_FRAME_LEN_MAX));
        prop_assert_eq!(reply_len(length), bounded(REPLY_FRAME_LEN_MAX));
    }
}

#[test]
fn lengths_at_their_bounds() {
    let length = |len: usize| (len as u32).to_le_bytes();
    assert_eq!(message_len(length(0)), Err(Malformed));
    assert_eq!(message_len(length(1)), Ok(1));
    assert_eq!(message_len(length(REQUEST_FRAME_LEN_MAX)), Ok(REQUEST_FRAME_LEN_MAX));
    assert_eq!(message_len(length(REQUEST_FRAME_LEN_MAX + 1)), Err(Malformed));
    assert_eq!(reply_len(length(REPLY_FRAME_LEN_MAX)), Ok(REPLY_FRAME_LEN_MAX));
    assert_eq!(reply_len(length(REPLY_FRAME_LEN_MAX + 1)), Err(Malformed));
}

#[test]
fn the_largest_request_of_each_kind_fits_into_its_frame() {
    let parts = |variant| Parts {
        variant,
        texts: [Ok(vec![b'a'; 31]), Ok(vec![b'b'; 4095]), Ok(vec![b'c'; 4095])],
        present: [true; 3],
        payload: OwnedPayload::Carried(vec![0; 1024 * 1024 - 1]),
        numbers: [u32::MAX; 4],
        room: Some(u64::MAX),
    };
    for variant in 0..VARIANTS {
        let frame = frame_of(&Message::Call(request(&parts(variant))));
        assert!(message_len(*frame.first_chunk().unwrap()).is_ok(), "variant {variant}");
    }
}
