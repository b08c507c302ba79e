//! A device: what is known of it, what it needs, what is done, what is said.

pub mod act;
pub mod decide;
pub mod facts;
mod failed;
pub mod formats;
pub mod issuance;
pub mod issue;
pub mod issued;
pub mod open_registration;
pub mod own_credential;
mod recorded;
pub mod registered;
pub mod secret;
pub mod served;
pub mod settings;
pub mod status;
mod unresolved;

#[cfg(test)]
mod tests;
