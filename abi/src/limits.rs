//! Every bound in one place: the kernel's, then our own.

/// Bytes of a type name with its NUL. Longer, or empty: EINVAL (`keyctl.c`).
pub const TYPE_NAME_BUFFER_LEN: usize = 32;
/// Bytes of a description with its NUL (`KEY_MAX_DESC_SIZE`). Longer: EINVAL.
pub const DESCRIPTION_BUFFER_LEN: usize = 4096;
/// Bytes of callout information or a restriction with its NUL (`PAGE_SIZE`).
pub const CALLOUT_BUFFER_LEN: usize = 4096;
/// Largest payload of add_key and INSTANTIATE, in bytes. Longer: EINVAL, first of all tests.
pub const ADD_PAYLOAD_LEN_MAX: u64 = 1024 * 1024 - 1;
/// Largest payload of UPDATE, in bytes (`PAGE_SIZE`). Longer: EINVAL, first of all tests.
pub const UPDATE_PAYLOAD_LEN_MAX: u64 = 4096;
/// Largest payload of a `user` or `logon` key, in bytes (`user_defined.c`).
pub const USER_PAYLOAD_LEN_MAX: usize = 32767;
/// Largest payload of a `big_key`, in bytes (`big_key.c`).
pub const BIG_KEY_PAYLOAD_LEN_MAX: usize = 1024 * 1024;
/// Size of a page where a keyring read's buffer length begins to matter (`keyctl_read_key`).
pub const PAGE_LEN: u64 = 4096;
/// Keyrings nested below the one where a search begins (`KEYRING_SEARCH_MAX_DEPTH`).
pub const SEARCH_DEPTH_MAX: usize = 6;
/// Quota bytes that a link costs the keyring's owner (`KEYQUOTA_LINK_BYTES`).
pub const LINK_QUOTA_LEN: u32 = 4;
/// Quota bytes of a `big_key`, whatever its size (`big_key.c`).
pub const BIG_KEY_QUOTA_LEN: u32 = 16;
/// Segments of a scattered payload (`UIO_MAXIOV`). More: EINVAL.
pub const IOV_COUNT_MAX: u64 = 1024;

/// Our own: bytes of one request frame, payload included.
pub const REQUEST_FRAME_LEN_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Our own: bytes of one reply frame. A keyring of four million keys still fits.
pub const REPLY_FRAME_LEN_MAX: usize = 16 * 1024 * 1024 + 4096;
/// Our own: bytes of a request frame before its payload.
pub const REQUEST_HEAD_LEN_MAX: usize = 16 * 1024;
/// Our own: bytes of memory that hold every string of one call.
pub const STRINGS_LEN_MAX: usize =
    TYPE_NAME_BUFFER_LEN + DESCRIPTION_BUFFER_LEN + CALLOUT_BUFFER_LEN;
/// Our own: bytes of one write to a knob under `/proc/sys/kernel/keys/`.
pub const KNOB_WRITE_LEN_MAX: usize = 128;
/// Our own: texts of `/proc/keys` and `/proc/key-users` that one user holds open where
/// they are files of ours. One more: ENFILE.
pub const OPEN_TEXTS_MAX: usize = 1024;
/// Our own: bytes of these texts with which a user opens no further one. Then: ENFILE.
pub const OPEN_TEXTS_LEN_MAX: usize = 64 * 1024 * 1024;
/// Our own: files and directories that one user has open in mounted domains. One more:
/// ENFILE.
pub const KEYFS_OPEN_MAX: usize = 1024;
/// Our own: bytes held for these with which a user opens no further one. Then: ENFILE.
pub const KEYFS_HELD_LEN_MAX: usize = 64 * 1024 * 1024;
/// Our own: drafts of one user in a mounted domain. One more: EDQUOT.
pub const KEYFS_DRAFTS_MAX: usize = 64;
