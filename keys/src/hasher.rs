//! The hash over type and description, keyed so that nobody outside can predict it.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::entropy::Entropy;

pub(crate) struct IndexHasher {
    secret: (u64, u64),
}

impl IndexHasher {
    pub(crate) fn new(entropy: &mut dyn Entropy) -> IndexHasher {
        IndexHasher { secret: (entropy.next_u64(), entropy.next_u64()) }
    }

    pub(crate) fn hash(&self, type_number: u64, description: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u64(type_number);
        hasher.write(description);
        hasher.finish()
    }
}
