//! The HTTP proxy on the way to DPS, whose address may hold a password.

use std::error::Error;
use std::fmt;

use super::error::Unreachable;

/// An address such as `http://user:password@proxy.example:3128`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(String);

/// The address cannot be used. It may hold a password, so it is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as http://proxy.example:3128")]
pub struct NotAProxy;

impl Proxy {
    /// # Errors
    /// When it is no `http://` address with a host.
    pub fn parse(text: &str) -> Result<Self, NotAProxy> {
        let uri = text.parse::<http::Uri>().map_err(|_| NotAProxy)?;
        let fits = uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAProxy) }
    }

    /// With the password: for the client only.
    pub(super) fn address(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.rsplit('@').next().unwrap_or_default();
        write!(f, "Proxy({host})")
    }
}

/// What the proxy had against a connection. `None`: it was not the proxy that failed.
///
/// hyper-util keeps the type of these errors and the proxy's status to itself, so they are told by their
/// texts, which have nothing of the proxy's address or answer.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<Unreachable> {
    let text = error.to_string();
    match text.strip_prefix("tunnel error: ") {
        Some("proxy authorization required") => Some(Unreachable::ProxyLogin),
        Some("unsuccessful") => Some(Unreachable::ProxyRefusal),
        Some("failed to create underlying connection") => Some(Unreachable::Proxy),
        Some(_) => Some(Unreachable::ProxyBroken),
        None => error.source().and_then(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_addresses_are_taken_and_never_shown_with_a_password() {
        for (text, shown) in [
            ("http://proxy.example:3128", Some("Proxy(http://proxy.example:3128)")),
            ("http://user:c2VjcmV0@proxy.example:3128", Some("Proxy(proxy.example:3128)")),
            ("http://c2VjcmV0@[::1]:3128/", Some("Proxy([::1]:3128/)")),
            ("https://user:c2VjcmV0@proxy.example", None),
            ("user:c2VjcmV0@proxy.example", None),
            ("http://", None),
            ("http:///path", None),
            ("http://user:c2Vj cmV0@proxy.example", None),
        ] {
            let proxy = Proxy::parse(text);
            assert_eq!(proxy.as_ref().ok().map(|proxy| format!("{proxy:?}")).as_deref(), shown, "{text}");
        }
        assert!(!NotAProxy.to_string().contains("c2VjcmV0"));
    }
}
