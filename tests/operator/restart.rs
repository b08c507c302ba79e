//! The operator ends and comes back.
