//! An integration: from what a user wrote and the keys that are there to something devices can be
//! registered with, how it fares, and what is said of it.

pub mod acceptance;
pub mod ca_bundle;
pub mod certificate;
pub mod consent;
pub mod credentials;
pub mod health;
pub mod issuers;
pub mod key_source;
pub mod key_twice;
mod keys;
pub mod prefixes;
pub mod resolve;
pub mod secret_versions;
pub mod status;
pub mod target;
pub mod unusable;
mod words;

#[cfg(test)]
pub(crate) mod tests;
