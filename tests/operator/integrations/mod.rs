//! What an integration refers to, what it hands down, and who may refer to it.

mod allowed_namespaces;
mod device_defaults;
mod endpoint;
mod key_secrets;
