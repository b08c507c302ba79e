//! What an integration refers to, what its devices inherit, and which devices may refer to it.

mod allowed_namespaces;
mod device_defaults;
mod endpoint;
mod forged_statuses;
mod key_secrets;
