//! What a container's domain is called.

use std::fmt;

use super::protocol::Introduction;

/// The name of a domain. The users whose runtimes hand containers in do not share
/// any: nobody gets into another's by knowing a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// The user as whom the runtime connected.
    owner: u32,
    word: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Word {
    /// A container's id.
    Container(String),
    /// The metadata of all that share it. Never the same as an id.
    Shared(String),
}

impl Name {
    /// The domain of a container that was introduced by that user.
    pub(crate) fn of(introduction: &Introduction, owner: u32) -> Name {
        let word = match &introduction.shared {
            Some(shared) => Word::Shared(shared.clone()),
            None => Word::Container(introduction.container.clone()),
        };
        Name { owner, word }
    }

    /// As the name of a file: a container's id is `ID`, shared metadata `@METADATA`;
    /// those of another user than ours end in `~` and the user's number. What is not
    /// plain stands as `%` and two digits.
    pub(crate) fn file_name(&self) -> String {
        let (sign, text) = match &self.word {
            Word::Container(id) => ("", id),
            Word::Shared(metadata) => ("@", metadata),
        };
        let mut name = sign.to_owned();
        for (at, byte) in text.bytes().enumerate() {
            let is_plain = byte.is_ascii_alphanumeric() || b"-_+".contains(&byte);
            match byte {
                _ if is_plain || byte == b'.' && at > 0 => name.push(char::from(byte)),
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
        if self.owner != nix::unistd::geteuid().as_raw() {
            name.push_str(&format!("~{}", self.owner));
        }
        name
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, shared: Option<&str>, owner: u32) -> Name {
        let introduction = Introduction {
            container: id.into(),
            shared: shared.map(str::to_owned),
            pid: 0,
            listener_at: 0,
        };
        Name::of(&introduction, owner)
    }

    #[test]
    fn a_name_is_one_file_and_no_other_names() {
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(name("web-1.a", None, own).to_string(), "web-1.a");
        assert_eq!(name("web", Some("pod"), own).to_string(), "@pod");
        assert_eq!(name("@pod", None, own).to_string(), "%40pod");
        assert_eq!(name("..", None, own).to_string(), "%2e.");
        assert_eq!(name("a/b\n~", None, own).to_string(), "a%2fb%0a%7e");
        assert_eq!(name("web", None, own + 1).to_string(), format!("web~{}", own + 1));
    }

    #[test]
    fn whoever_names_the_same_metadata_shares_unless_it_is_another_user() {
        assert_eq!(name("a", Some("pod"), 7), name("b", Some("pod"), 7));
        assert_ne!(name("a", Some("pod"), 7), name("a", Some("pod"), 8));
        assert_ne!(name("pod", None, 7), name("a", Some("pod"), 7));
    }
}
