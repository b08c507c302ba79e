//! What tests of several parts need.

pub(crate) mod scripted;
