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
