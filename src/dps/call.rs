//! The three calls that a device may make: what an answer means depends on which one it answers.

use http::Method;

/// A call, by what can be said about it when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Register {
        /// The user's payload went with it.
        payload: bool,
        /// A certificate was asked for.
        csr: bool,
    },
    /// Operation status lookup.
    Poll,
    /// Registration status lookup.
    Lookup,
}

impl Call {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Register { .. } => Method::PUT,
            Self::Poll => Method::GET,
            Self::Lookup => Method::POST,
        }
    }

    /// As reports name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Poll => "poll",
            Self::Lookup => "lookup",
        }
    }
}
