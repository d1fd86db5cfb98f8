//! Points that are more than a number or a yes.

/// To whom a new key grants what its type can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grants {
    /// To its possessor, with SETATTR; its owner may look at it.
    Possessor,
    /// To its owner.
    Owner,
}

/// How new keys are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serials {
    /// At random, from 3 up.
    Random,
    /// One after the other from 3; after the last, from 3 again, where there is room.
    Sequential,
}

/// What becomes of a lookup of a key under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It waits until somebody has finished the key.
    WaitsFor,
    /// It is EIO.
    Eio,
}

/// What keyrings are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rings {
    /// An index by type and description: one link of each, however many. UNLINK goes by
    /// them, and `/proc/keys` counts the links.
    Indexed,
    /// A list in the order of linking: any key may be linked again, beside its equals, until
    /// the list is full, ENFILE. UNLINK removes the first link to the very key, and
    /// `/proc/keys` shows the places too.
    Listed {
        /// Links of a full list.
        places_max: usize,
    },
}

/// What add_key does where an equal key is that cannot be updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotUpdatable {
    /// The new key takes its place.
    IsDisplaced,
    /// EEXIST.
    Exists,
}

/// What a search that finds nothing tells of what it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Of the last thing in its way: EKEYREVOKED, EKEYEXPIRED, EACCES, a stored error.
    Obstacles,
    /// Of negative keys, ENOKEY; all others are passed over.
    NegativeKeys,
}

/// How the kernel names thread, process and session keyrings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingNames {
    /// `_tid`, `_pid`, `_ses`.
    Plain,
    /// With the number of the thread or process behind it: `_tid.N`, `_pid.N`, `_ses.N`.
    Numbered,
}

/// Which keyrings belong to whom their thread acts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowIds {
    /// The thread keyring, when fsuid or fsgid changes.
    Thread,
    /// Thread and process keyring, whenever ids are set.
    ThreadAndProcess,
}

/// What access to a missing session keyring brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingSession {
    /// The user-session keyring, but if keys are to be made a new one without a name, which
    /// then takes the place of a user-session keyring too.
    NewToMakeKeys,
    /// The user-session keyring.
    UserSession,
}

/// When a user's two keyrings are made, and for how long they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKeyringsLive {
    /// When they are first needed, in each user namespace, until that ends.
    OnDemand,
    /// With the user: from the first task whose real user it is to the last. Those of root
    /// are there always, have the serials 1 and 2, and count against no quota.
    WithTheUser,
}

/// What is copied into a buffer that is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortBuffer {
    /// Nothing; and a buffer for serials of which one would not fit is EINVAL.
    Nothing,
    /// As much as fits.
    Part,
}

/// The key types that there are without anybody registering them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypesKnown {
    /// All that the service has: `user`, `keyring`, `logon`, `big_key`, `dns_resolver`.
    All,
    /// `user` and `keyring`.
    UserAndKeyring,
}

/// What becomes of keys whose type has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadKeys {
    /// They grant nothing, are EKEYREVOKED, and are collected.
    AreRevoked,
    /// Nobody can name them, ENOKEY, nor tell them by their flags, but they stay where they
    /// are.
    AreHidden,
}

/// When there is no room for a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaTest {
    /// When with it there would be more keys, or more bytes, than the user may have.
    Either,
    /// When with it there would be as many keys, and as many bytes.
    BothReached,
}

/// Who makes a key that is requested and not found, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstructedBy {
    /// The holder of an authorisation key, which is in the helper's session keyring with the
    /// callout information in it. The key is linked when construction begins; whoever else
    /// requests it waits for that very key.
    Authority,
    /// Whoever has WRITE on the key. The helper has no session keyring, and the callout
    /// information, or `-`, as its last argument. The key is linked when it is finished; one
    /// whose helper did nothing goes into the requester's session keyring, negative. Who
    /// requests the same for the same user meanwhile waits, and then looks again.
    AnyWriter,
}
