//! Which hosts may be called. A user who may write an integration chooses the host; without this
//! list they could have device tokens sent to a server of their own.

use std::fmt;
use std::net::IpAddr;

use super::ids::{is_dns_label, is_host_name};

const HTTPS: u16 = 443;

/// A host and port that the operator may call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: Box<str>,
    port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            HTTPS => f.write_str(&self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

/// Why a host may not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error(
        "{0:?} is not a host name with an optional port from 1 to 65535; write it without https:// and without a path"
    )]
    Malformed(String),
    #[error(
        "host {0:?} is not among those that the operator may call; if it is right, add it to --allowed-dps-hosts (the chart's allowedDpsHosts)"
    )]
    NotAllowed(String),
}

/// A bad value of `--allowed-dps-hosts`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host pattern: use a host name, optionally with a port, or '*.' and a suffix")]
pub struct PatternError(String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// Without `*.`.
    host: String,
    wildcard: bool,
    port: u16,
}

/// The list given by `--allowed-dps-hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Pattern>);

impl AllowedHosts {
    /// # Errors
    /// The first pattern that is none.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        patterns
            .into_iter()
            .map(|text| parse_pattern(text).ok_or_else(|| PatternError(text.to_owned())))
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// Normalises `hostname` (lower case, no trailing dot, port 443 unless named) and checks it.
    /// `*.` stands for exactly one label. IP addresses are allowed only when listed literally.
    ///
    /// # Errors
    /// `Malformed` or `NotAllowed`.
    pub fn check(&self, hostname: &str) -> Result<Endpoint, HostError> {
        let (host, port) = split(hostname).ok_or_else(|| HostError::Malformed(hostname.to_owned()))?;
        let allowed = self.0.iter().any(|pattern| pattern.port == port && pattern.matches(&host));
        let endpoint = Endpoint { host: host.into(), port };
        if allowed { Ok(endpoint) } else { Err(HostError::NotAllowed(endpoint.to_string())) }
    }
}

impl Pattern {
    fn matches(&self, host: &str) -> bool {
        if !self.wildcard {
            return host == self.host;
        }
        host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == self.host)
            && host.parse::<IpAddr>().is_err()
    }
}

fn parse_pattern(text: &str) -> Option<Pattern> {
    let (wildcard, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (host, port) = split(rest)?;
    if wildcard && !is_host_name(&host) {
        return None;
    }
    Some(Pattern { host, wildcard, port })
}

/// Host in normal form and port; `None` for anything that is not `host` or `host:port`.
fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|p| *p > 0)?),
        None => (text, HTTPS),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (is_host_name(&host) || is_dns_label(&host)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> AllowedHosts {
        AllowedHosts::parse(["*.azure-devices-provisioning.net", "localhost:8443", "10.0.0.1:443"]).unwrap()
    }

    #[test]
    fn listed_hosts_are_normalised_and_allowed() {
        for (text, shown) in [
            ("global.azure-devices-provisioning.net", "global.azure-devices-provisioning.net"),
            ("GLOBAL.Azure-Devices-Provisioning.net.", "global.azure-devices-provisioning.net"),
            ("my-dps.azure-devices-provisioning.net:443", "my-dps.azure-devices-provisioning.net"),
            ("localhost:8443", "localhost:8443"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(defaults().check(text).map(|e| e.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for text in [
            "azure-devices-provisioning.net",
            "a.b.azure-devices-provisioning.net",
            "global.azure-devices-provisioning.net:8443",
            "global.azure-devices-provisioning.net.evil.example",
            "localhost",
            "localhost:443",
            "10.0.0.2",
            "169.254.169.254",
        ] {
            let refused = defaults().check(text).unwrap_err();
            assert!(matches!(&refused, HostError::NotAllowed(_)), "{text}");
            let host = text.trim_end_matches(":443");
            let said = refused.to_string();
            assert!(said.contains(host), "{said}");
        }
        for text in
            ["", "a b", "user@global.azure-devices-provisioning.net", "x/y", "x:0", "x:70000", "[::1]:443"]
        {
            let refused = defaults().check(text).unwrap_err();
            assert_eq!(refused, HostError::Malformed(text.to_owned()));
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        assert!(AllowedHosts::parse(["*.*.x"]).is_err());
        assert!(AllowedHosts::parse(["https://x.y"]).unwrap_err().to_string().contains("https://x.y"));
    }
}
