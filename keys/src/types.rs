//! The built-in types, one file each.

pub(crate) mod big_key;
pub(crate) mod dead;
pub(crate) mod dns_resolver;
pub(crate) mod keyring;
pub(crate) mod logon;
pub(crate) mod request_key_auth;
pub(crate) mod user;
