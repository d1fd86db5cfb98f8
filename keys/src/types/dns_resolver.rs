//! `dns_resolver`: what somebody has found out about a name (`net/dns_resolver`).
//!
//! Payload: text that ends in a NUL, at least one byte before it; what follows a `#` are
//! options, of which there is one: `dnserror=N`, 1 to 511, makes the key a failure that
//! READ gives as its error. Or a list of servers, which begins with a NUL, kind 0 and
//! version 1; one whose look-up was no success lives for a second. Everything else is
//! EINVAL. Descriptions match without regard to case, or to a dot at their end; add_key,
//! which updates nothing, makes a second key all the same. Links to an expired or revoked
//! key are collected at once.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::fmt;

use keyshim_abi::Errno;

use crate::key_type::{KeyType, Match, Preparsed, ReadKey, Summary};
use crate::payload::Payload;

/// Bytes of one option, at most.
const OPTION_LEN_MAX: usize = 128;
/// Bytes before the servers of a list: a NUL, kind, version, source, status, their number.
const LIST_HEAD_LEN: usize = 6;
/// Seconds that a list lives whose look-up failed.
const FAILED_LIST_LIFE_S: u32 = 1;

pub(crate) struct DnsResolver;

/// A name that could not be resolved.
struct Failure(Errno);

/// A name as it is searched for.
struct Name(Box<[u8]>);

impl Match for Name {
    fn matches(&self, description: &[u8]) -> bool {
        let (wanted, there) = (without_dot(&self.0), without_dot(description));
        !wanted.is_empty() && wanted.eq_ignore_ascii_case(there)
    }
}

fn without_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

impl KeyType for DnsResolver {
    fn name(&self) -> &'static str {
        "dns_resolver"
    }

    fn preparse(&self, data: &[u8]) -> Result<Preparsed, Errno> {
        match data {
            [] | [_] => Err(Errno::EINVAL),
            [0, ..] => server_list(data),
            [text @ .., 0] => addresses(text),
            _ => Err(Errno::EINVAL),
        }
    }

    fn match_preparse(&self, description: &[u8]) -> Result<Option<Box<dyn Match>>, Errno> {
        Ok(Some(Box::new(Name(description.into()))))
    }

    fn is_reaped_at_once(&self) -> bool {
        true
    }

    fn summarize(&self, summary: Summary<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        match failure(summary.payload) {
            Some(errno) => write!(out, ": -{}", errno.raw()),
            None => write!(out, ": {}", summary.data_len),
        }
    }

    fn wipes_when_revoked(&self) -> bool {
        true
    }

    fn revoke(&self, payload: &mut Payload) {
        if failure(payload).is_none() {
            payload.wipe();
        }
    }

    fn reader(&self) -> Option<&dyn ReadKey> {
        Some(self)
    }
}

impl ReadKey for DnsResolver {
    fn read<'p>(&self, payload: &'p Payload) -> Result<Cow<'p, [u8]>, Errno> {
        failure(payload).map_or(Ok(Cow::Borrowed(payload.bytes())), Err)
    }
}

fn failure(payload: &Payload) -> Option<Errno> {
    match payload {
        Payload::Object(object) => object.downcast_ref::<Failure>().map(|failure| failure.0),
        _ => None,
    }
}

fn server_list(data: &[u8]) -> Result<Preparsed, Errno> {
    if data.len() < LIST_HEAD_LEN {
        return Err(Errno::EINVAL);
    }
    let [_, kind, version, _, status, ..] = data else { return Err(Errno::EINVAL) };
    if (*kind, *version) != (0, 1) {
        return Err(Errno::EINVAL);
    }
    let is_good = matches!(status, 1 | 2);
    let life_s = (!is_good).then_some(FAILED_LIST_LIFE_S);
    Ok(Preparsed { life_s, ..Preparsed::copied(data) })
}

fn addresses(text: &[u8]) -> Result<Preparsed, Errno> {
    let Some(at) = text.iter().position(|&byte| byte == b'#') else {
        return Ok(Preparsed::copied(text));
    };
    let (result, mut rest) = (&text[..at], Some(&text[at + 1..]));
    let mut failed = None;
    while let Some(options) = rest {
        let end = options.iter().position(|&byte| byte == b'#');
        let option = &options[..end.unwrap_or(options.len())];
        failed = Some(dns_error(option)?);
        // A mark at the very end begins no other option.
        rest = end.map(|end| &options[end + 1..]).filter(|rest| !rest.is_empty());
    }
    match failed {
        Some(errno) => {
            let payload = Payload::Object(Box::new(Failure(errno)));
            Ok(Preparsed { payload, quota_len: 0, ..Preparsed::copied(&[]) })
        }
        None => Ok(Preparsed::copied(result)),
    }
}

/// The error of an option; EINVAL for any other option.
fn dns_error(option: &[u8]) -> Result<Errno, Errno> {
    if option.len() > OPTION_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    let value = option.strip_prefix(b"dnserror=").ok_or(Errno::EINVAL)?;
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let number = core::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    let number = number.filter(|number| (1..=511).contains(number)).ok_or(Errno::EINVAL)?;
    Errno::new(number as i32).ok_or(Errno::EINVAL)
}
