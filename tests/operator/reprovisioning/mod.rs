//! Settled devices that are registered again or looked up.

mod delayed_requests;
mod policies;
mod requests;
