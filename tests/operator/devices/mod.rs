//! A device from its declaration to its deletion.

mod deeply_nested_payloads;
mod deletion;
mod first_registration;
mod integration_refs;
mod payloads;
mod registration_ids;
mod self_registration;
mod suspension;
