//! Who makes which key, without a script: rules in a file of the domain's.
//!
//! ```toml
//! [[rule]]
//! type = "user"
//! description = "ticket:*"
//! payload = "for %u"
//! delay_ms = 200
//!
//! [[rule]]
//! description = "forbidden:*"
//! error = "EKEYREJECTED"
//! timeout_s = 30
//! ```
//!
//! The first rule that fits decides; a key that none fits is left to the domain's helper.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use keyshim_abi::Errno;
use keyshim_keys::{Made, Upcall};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::fault::Fault;

/// Seconds that a key is negative if the rule does not say, as after a helper that failed.
const TIMEOUT_S: u32 = 60;
/// Milliseconds that a rule may put off what it does.
const DELAY_MAX_MS: u64 = 3_600_000;
/// Errors that a key cannot be rejected with: those by which the kernel has a call begin anew.
const RESTART: [i32; 4] = [512, 513, 514, 516];

/// What a rule says is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// This is the payload, once what it names of the request is put in.
    Payload(Template),
    /// What is in this file is the payload.
    PayloadFile(PathBuf),
    /// This program makes it, as the domain's helper would.
    Program(PathBuf),
    /// It is negative, with that error, for so many seconds.
    Reject { error: Errno, timeout_s: u32 },
}

/// The text of a payload, which is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Template(Zeroizing<String>);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

struct Rule {
    key_type: Option<GlobMatcher>,
    description: Option<GlobMatcher>,
    callout: Option<GlobMatcher>,
    delay: Duration,
    deed: Deed,
}

/// The rules of a domain, in their order.
#[derive(Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Written>,
}

/// A rule as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "type")]
    key_type: Option<String>,
    description: Option<String>,
    callout: Option<String>,
    payload: Option<String>,
    payload_file: Option<PathBuf>,
    program: Option<PathBuf>,
    error: Option<Code>,
    #[serde(default)]
    negative: bool,
    timeout_s: Option<u32>,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Number(i32),
    Name(String),
}

impl Rules {
    /// Reads a file. The fault says where it is wrong, and what to write instead.
    pub(crate) fn read(path: &Path) -> Result<Rules, Fault> {
        let next = "give --handlers a file that can be read";
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(Fault::file("cannot read", path, next))?;
        Rules::parse(&text).map_err(|what| Fault::Told(format!("{}: {what}", path.display())))
    }

    fn parse(text: &str) -> Result<Rules, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            // Without the line itself, which may be a payload's.
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..before].iter().filter(|&&byte| byte == b'\n').count();
            format!("line {line}: {}", error.message())
        })?;
        let numbered = file.rule.into_iter().enumerate();
        let rules = numbered.map(|(index, written)| {
            written.understood().map_err(|what| format!("rule {}: {what}", index + 1))
        });
        rules.collect::<Result<_, _>>().map(Rules)
    }

    /// What the first rule that fits says, and how much later it is to be done.
    pub(super) fn decide(&self, upcall: &Upcall) -> Option<(&Deed, Duration)> {
        let rule = self.0.iter().find(|rule| rule.fits(upcall))?;
        Some((&rule.deed, rule.delay))
    }
}

impl Rule {
    fn fits(&self, upcall: &Upcall) -> bool {
        let fits = |pattern: &Option<GlobMatcher>, text: &[u8]| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(OsStr::from_bytes(text)))
        };
        fits(&self.key_type, upcall.type_name.as_bytes())
            && fits(&self.description, &upcall.description)
            && fits(&self.callout, &upcall.callout)
    }
}

impl Written {
    fn understood(self) -> Result<Rule, String> {
        if self.delay_ms > DELAY_MAX_MS {
            return Err(format!("delay_ms: say at most {DELAY_MAX_MS}"));
        }
        Ok(Rule {
            key_type: self.key_type.as_deref().map(pattern).transpose()?,
            description: self.description.as_deref().map(pattern).transpose()?,
            callout: self.callout.as_deref().map(pattern).transpose()?,
            delay: Duration::from_millis(self.delay_ms),
            deed: self.deed()?,
        })
    }

    fn deed(self) -> Result<Deed, String> {
        let timeout_s = self.timeout_s.unwrap_or(TIMEOUT_S);
        let error = match (self.error, self.negative) {
            (Some(code), false) => Some(code.errno()?),
            (None, true) => Some(Errno::ENOKEY),
            (None, false) => None,
            (Some(_), true) => return Err("say negative or error, not both".to_owned()),
        };
        let is_negative = error.is_some();
        let absolute = |path: PathBuf| match path.is_absolute() {
            true => Ok(path),
            false => Err(format!("{}: give its path from / on", path.display())),
        };
        let deeds = [
            self.payload.map(|text| Deed::Payload(Template(Zeroizing::new(text)))),
            self.payload_file.map(absolute).transpose()?.map(Deed::PayloadFile),
            self.program.map(absolute).transpose()?.map(Deed::Program),
            error.map(|error| Deed::Reject { error, timeout_s }),
        ];
        let mut said = deeds.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(_), None) if self.timeout_s.is_some() && !is_negative => {
                Err("timeout_s is for keys that are negative; leave it out".to_owned())
            }
            (Some(deed), None) => Ok(deed),
            _ => Err("say one of payload, payload_file, program, negative = true, error, and \
                      only one"
                .to_owned()),
        }
    }
}

impl Code {
    fn errno(self) -> Result<Errno, String> {
        let is_fit = |errno: &Errno| !RESTART.contains(&errno.raw());
        match self {
            Code::Number(number) => Errno::new(number)
                .filter(is_fit)
                .ok_or_else(|| format!("error = {number}: say a number from 1 to 4094, or a name")),
            Code::Name(name) => (1..4095)
                .filter_map(Errno::new)
                .find(|errno| errno.name() == Some(name.as_str()))
                .filter(is_fit)
                .ok_or_else(|| format!("error = \"{name}\": say a name such as EKEYREJECTED")),
        }
    }
}

/// A pattern as of a shell, in which nothing is special about slashes.
fn pattern(text: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(text).literal_separator(false).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
}

/// A payload with what it names of the request: `%k` the key, `%d` its description, `%c`
/// the callout information, `%u` and `%g` whose it is, `%%` a percent sign.
fn fill_in(text: &str, upcall: &Upcall) -> Zeroizing<Vec<u8>> {
    let mut filled = Zeroizing::new(Vec::new());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let named = if byte == b'%' { after.first() } else { None };
        match named {
            Some(b'k') => filled.extend(upcall.key.to_string().bytes()),
            Some(b'd') => filled.extend_from_slice(&upcall.description),
            Some(b'c') => filled.extend_from_slice(&upcall.callout),
            Some(b'u') => filled.extend(upcall.uid.0.to_string().bytes()),
            Some(b'g') => filled.extend(upcall.gid.0.to_string().bytes()),
            Some(b'%') => filled.push(b'%'),
            _ => {
                filled.push(byte);
                continue;
            }
        }
        rest = after.get(1..).unwrap_or_default();
    }
    filled
}

fn secret(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Box<[u8]>> {
    Zeroizing::new(bytes.as_slice().into())
}

/// What a rule makes of a key at once; `None` for one that a program makes.
pub(super) fn made(deed: &Deed, upcall: &Upcall) -> Option<Made> {
    Some(match deed {
        Deed::Program(_) => return None,
        Deed::Payload(text) => Made::Payload(secret(fill_in(&text.0, upcall))),
        Deed::PayloadFile(path) => match fs::read(path) {
            Ok(bytes) => Made::Payload(secret(Zeroizing::new(bytes))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no payload");
                Made::Failed(Errno::ENOKEY)
            }
        },
        &Deed::Reject { error, timeout_s } => Made::Rejected { error, timeout_s },
    })
}

#[cfg(test)]
mod tests {
    use keyshim_abi::Serial;
    use keyshim_abi::caller::{Gid, TaskId, Uid};
    use keyshim_keys::{CallId, UpcallId};

    use super::*;

    fn upcall(type_name: &'static str, description: &[u8], callout: &[u8]) -> Upcall {
        Upcall {
            id: UpcallId(0),
            call: CallId(1),
            requester: TaskId(1),
            by_type: false,
            key: Serial::new(4711).unwrap(),
            type_name,
            description: description.into(),
            uid: Uid(7),
            gid: Gid(8),
            thread: None,
            process: None,
            session: None,
            callout: callout.into(),
            shows_callout: false,
        }
    }

    fn payload(text: &str) -> Deed {
        Deed::Payload(Template(Zeroizing::new(text.to_owned())))
    }

    fn decided(text: &str, upcall: &Upcall) -> Option<Deed> {
        Rules::parse(text).unwrap().decide(upcall).map(|(deed, _)| deed.clone())
    }

    fn refusal(text: &str) -> String {
        Rules::parse(text).err().unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let text = "
            [[rule]]\ntype = 'user'\ndescription = 'a:*'\ncallout = 'x?'\npayload = 'one'
            [[rule]]\ndescription = 'a:*'\nnegative = true\ntimeout_s = 5
            [[rule]]\ntype = 'dns_*'\nprogram = '/bin/true'";
        let is = |type_name, description: &str, callout: &str| {
            decided(text, &upcall(type_name, description.as_bytes(), callout.as_bytes()))
        };
        let negative = Deed::Reject { error: Errno::ENOKEY, timeout_s: 5 };
        assert_eq!(is("user", "a:b/c", "xy"), Some(payload("one")));
        assert_eq!(is("user", "a:b/c", "x"), Some(negative.clone()));
        assert_eq!(is("logon", "a:b", "xy"), Some(negative));
        assert_eq!(is("dns_resolver", "b", ""), Some(Deed::Program("/bin/true".into())));
        assert_eq!(is("user", "b", ""), None);
    }

    #[test]
    fn what_is_no_text_fits_as_bytes() {
        let text = "[[rule]]\ndescription = 'a*z'\npayload = ''";
        assert!(decided(text, &upcall("user", b"a\xff\xfe/z", b"")).is_some());
    }

    #[test]
    fn errors_have_names_and_numbers() {
        let one =
            |code: &str| decided(&format!("[[rule]]\nerror = {code}"), &upcall("user", b"x", b""));
        let rejected = Some(Deed::Reject { error: Errno::EKEYREJECTED, timeout_s: 60 });
        assert_eq!(one("'EKEYREJECTED'"), rejected);
        assert_eq!(one("129"), rejected);
        for wrong in ["0", "4096", "512", "'ENOSUCH'"] {
            assert!(refusal(&format!("[[rule]]\nerror = {wrong}")).contains("say a n"), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_rule_is_named_with_what_to_write() {
        assert!(refusal("[[rule]]\npayload = 'a'\n[[rule]]\n").starts_with("rule 2: say one of"));
        assert!(refusal("[[rule]]\npayload = 'a'\nnegative = true").contains("only one"));
        assert!(refusal("[[rule]]\npayload = 'a'\ntimeout_s = 1").contains("leave it out"));
        assert!(refusal("[[rule]]\nprogram = 'a'").contains("from / on"));
        assert!(refusal("[[rule]]\nnegative = true\nerror = 1").contains("not both"));
        assert!(refusal("[[rule]]\nnegative = true\ndelay_ms = 99999999").contains("at most"));
        let unknown = refusal("[[rule]]\npaylod = 'a'");
        assert!(unknown.contains("line 2") && unknown.contains("payload"), "{unknown}");
    }

    #[test]
    fn a_payload_names_what_was_requested() {
        let upcall = upcall("user", b"d e", b"call\xff");
        let filled = fill_in("%k|%d|%c|%u|%g|%%|%x|%", &upcall);
        assert_eq!(&filled[..], b"4711|d e|call\xff|7|8|%|%x|%");
        assert_eq!(format!("{:?}", payload("secret")), "Payload(6 bytes)");
    }
}
