//! Group keys: right, wrong, and changed under a fleet.

mod canaries;
mod primary_and_secondary;
mod refused_keys;
mod rollout;
mod rotation;
