//! The files under `/proc` through which the key service is seen and tuned.

/// A tunable of `/proc/sys/kernel/keys/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knob {
    /// Keys that an ordinary user may own. 1 to 2^31 - 1, default 200.
    Maxkeys,
    /// Bytes that an ordinary user's keys may hold. 1 to 2^31 - 1, default 20,000.
    Maxbytes,
    /// Keys that root may own. 1 to 2^31 - 1, default 1,000,000.
    RootMaxkeys,
    /// Bytes that root's keys may hold. 1 to 2^31 - 1, default 25,000,000.
    RootMaxbytes,
    /// Seconds until links to expired or revoked keys are collected. 0 to 2^31 - 1, default 300.
    GcDelay,
    /// Seconds that a persistent keyring lives after its last use. 0 to 2^31 - 1, default 259,200.
    PersistentKeyringExpiry,
}

impl Knob {
    /// Every knob, in the order in which `ls` shows them.
    pub const ALL: [Knob; 6] = [
        Knob::GcDelay,
        Knob::Maxbytes,
        Knob::Maxkeys,
        Knob::PersistentKeyringExpiry,
        Knob::RootMaxbytes,
        Knob::RootMaxkeys,
    ];

    /// The file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Knob::Maxkeys => "maxkeys",
            Knob::Maxbytes => "maxbytes",
            Knob::RootMaxkeys => "root_maxkeys",
            Knob::RootMaxbytes => "root_maxbytes",
            Knob::GcDelay => "gc_delay",
            Knob::PersistentKeyringExpiry => "persistent_keyring_expiry",
        }
    }

    /// The knob of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Knob> {
        Knob::ALL.into_iter().find(|knob| knob.name().as_bytes() == name)
    }

    /// The smallest value that a write may set; the largest is 2^31 - 1 (`sysctl.c`).
    #[must_use]
    pub const fn min(self) -> u32 {
        match self {
            Knob::GcDelay | Knob::PersistentKeyringExpiry => 0,
            _ => 1,
        }
    }
}

/// A file of the key service under `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// `/proc/keys`: the keys that the opener may view.
    Keys,
    /// `/proc/key-users`: counts and quotas by owner.
    KeyUsers,
    /// `/proc/sys/kernel/keys/NAME`.
    Knob(Knob),
}

/// Directory of the knobs.
pub const KNOB_DIRECTORY: &[u8] = b"/proc/sys/kernel/keys/";

impl ProcFile {
    /// The file at that absolute path, written the usual way.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<ProcFile> {
        match path {
            b"/proc/keys" => Some(ProcFile::Keys),
            b"/proc/key-users" => Some(ProcFile::KeyUsers),
            _ => path.strip_prefix(KNOB_DIRECTORY).and_then(Knob::from_name).map(ProcFile::Knob),
        }
    }

    /// Its permission bits: 0444, knobs 0644; root owns it.
    #[must_use]
    pub const fn mode(self) -> u32 {
        match self {
            ProcFile::Keys | ProcFile::KeyUsers => 0o444,
            ProcFile::Knob(_) => 0o644,
        }
    }

    /// Its number in a frame.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            ProcFile::Keys => 0,
            ProcFile::KeyUsers => 1,
            ProcFile::Knob(knob) => {
                2 + Knob::ALL.iter().position(|&k| k == knob).unwrap_or_default() as u8
            }
        }
    }

    /// The file of that number.
    pub(crate) fn from_code(code: u8) -> Option<ProcFile> {
        match code {
            0 => Some(ProcFile::Keys),
            1 => Some(ProcFile::KeyUsers),
            _ => Knob::ALL.get(usize::from(code) - 2).copied().map(ProcFile::Knob),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_survives_its_code_and_its_path() {
        for knob in Knob::ALL {
            let file = ProcFile::Knob(knob);
            assert_eq!(ProcFile::from_code(file.code()), Some(file));
            let path = [KNOB_DIRECTORY, knob.name().as_bytes()].concat();
            assert_eq!(ProcFile::from_path(&path), Some(file));
        }
        assert_eq!(ProcFile::from_path(b"/proc/keys"), Some(ProcFile::Keys));
        assert_eq!(ProcFile::from_path(b"/proc/keys2"), None);
        assert_eq!(ProcFile::from_path(b"/proc/sys/kernel/keys/"), None);
        assert_eq!(ProcFile::from_code(8), None);
    }
}
