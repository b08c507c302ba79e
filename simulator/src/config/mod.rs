//! What the simulator is to be: addresses, TLS, timing, quotas and the enrollments it holds.

pub mod duration;
mod enrollment;
mod readings;
mod validate;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use enrollment::{
    AllocationPolicy, EnrollmentGroup, IdScope, IndividualEnrollment, ReprovisionPolicy, Webhook,
    WebhookAnswer, WebhookRule,
};
pub use readings::*;
pub use validate::Invalid;
pub(crate) use validate::hubs as check_hubs;

/// The whole configuration.
///
/// Made in code it listens on free loopback ports, has a CA of its own in memory and no id scope.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where devices reach the simulator, over TLS; a free loopback port unless given.
    pub listen: Option<SocketAddr>,
    /// Where its admin API is reached, over plain HTTP; no admin API unless given.
    pub admin: Option<SocketAddr>,
    pub tls: Tls,
    /// How long an operation is `assigning`; with 0 the first poll finds it done.
    #[serde(deserialize_with = "duration::deserialize")]
    pub think_time: Duration,
    /// Register answers 200 with the assignment instead of 202.
    pub assign_at_once: bool,
    /// The `Retry-After` of a 202; `null` leaves the header out.
    #[serde(deserialize_with = "duration::optional::deserialize")]
    pub retry_after: Option<Duration>,
    pub quotas: Quotas,
    /// The `api-version` values that are known.
    pub api_versions: Vec<String>,
    /// How many requests the ledger remembers one by one.
    pub ledger_capacity: usize,
    pub readings: Readings,
    pub id_scopes: Vec<IdScope>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            admin: None,
            tls: Tls::default(),
            think_time: Duration::from_secs(3),
            assign_at_once: false,
            retry_after: Some(Duration::from_secs(3)),
            quotas: Quotas::default(),
            api_versions: ["2018-11-01", "2019-03-31", "2021-06-01", "2021-10-01", "2025-07-01-preview"]
                .map(str::to_owned)
                .to_vec(),
            ledger_capacity: 500_000,
            readings: Readings::default(),
            id_scopes: Vec::new(),
        }
    }
}

/// The server certificate: given, or issued by a CA that the simulator makes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// Where `ca.crt` and `ca.key` are kept; made there on the first start and used again later.
    /// Without it the CA lives in memory only.
    pub directory: Option<PathBuf>,
    /// Names and addresses in the certificate besides `localhost` and `127.0.0.1`.
    pub names: Vec<String>,
    /// A certificate chain in PEM to serve instead.
    pub certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub key: Option<PathBuf>,
    /// TLS versions to offer; DPS offers 1.2 only.
    pub versions: TlsVersions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersions {
    #[default]
    #[serde(rename = "1.2")]
    Only12,
    #[serde(rename = "1.2+1.3")]
    From12,
}

/// The rates of one DPS instance, that is of one id scope; `null` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Quotas {
    /// Register calls and status lookups together, in a minute.
    pub registrations_per_minute: Option<u32>,
    /// Polls of one device, in ten seconds.
    pub polls_per_ten_seconds: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { registrations_per_minute: Some(1_000), polls_per_ten_seconds: Some(5) }
    }
}

/// A configuration that cannot be used. Says where in the file the trouble is, but not in which.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{position}{message}")]
    Syntax { position: Position, message: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Line and column, counted from 1, where they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(Option<(u64, u64)>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, "line {line}, column {column}: "),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Reads and checks a configuration in YAML; what it leaves out has its default.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| syntax_error(text, &error))?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and checks a file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_yaml(&std::fs::read_to_string(path)?)
    }

    /// Checks what the types alone do not.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate::config(self)
    }
}

/// The loopback address with a port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Puts a position before what is wrong there, and the field if the message lacks it.
fn syntax_error(text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let message = error.without_snippet().to_string();
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(at) = error.location() else {
        return ConfigError::Syntax { position: Position(None), message };
    };
    let place = format!(" at line {}, column {}", at.line(), at.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let field = usize::try_from(at.line()).ok().and_then(|line| field_before(text, line, at.column()));
    let message = match field {
        Some(field) if !message.contains(field) => format!("{field}: {message}"),
        _ => message.to_owned(),
    };
    ConfigError::Syntax { position: Position(Some((at.line(), at.column()))), message }
}

/// The field whose value begins at this place.
fn field_before(text: &str, line: usize, column: u64) -> Option<&str> {
    let (before, _) = text.lines().nth(line.checked_sub(1)?)?.split_once(':')?;
    let is_value = before.chars().count() as u64 + 1 < column;
    is_value.then(|| before.trim_start_matches([' ', '-']).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ZmFrZS1wcmltYXJ5LWtleS1vZi1saW5lLXR3bw==";

    fn refused(yaml: &str) -> String {
        Config::from_yaml(yaml).unwrap_err().to_string()
    }

    fn group(extra: &str) -> String {
        format!(
            "idScopes:\n  - idScope: 0ne1\n    hubs: [hub.example.net]\n    enrollmentGroups:\n      \
             - id: a\n        primaryKey: {KEY}\n        secondaryKey: {KEY}\n{extra}"
        )
    }

    #[test]
    fn an_empty_configuration_has_the_defaults() {
        let config = Config::from_yaml("{}").unwrap();
        assert_eq!(config.think_time, Duration::from_secs(3));
        assert_eq!(config.retry_after, Some(Duration::from_secs(3)));
        assert_eq!(config.quotas.registrations_per_minute, Some(1_000));
        assert_eq!(config.quotas.polls_per_ten_seconds, Some(5));
    }

    #[test]
    fn null_switches_a_quota_and_the_retry_after_off() {
        let config = Config::from_yaml("retryAfter: null\nquotas: {registrationsPerMinute: null}").unwrap();
        assert_eq!(config.retry_after, None);
        assert_eq!(config.quotas.registrations_per_minute, None);
        assert_eq!(config.quotas.polls_per_ten_seconds, Some(5));
    }

    #[test]
    fn the_example_is_a_valid_configuration_with_every_reading_at_its_default() {
        let example = include_str!("../../example.yaml");
        assert_eq!(Config::from_yaml(example).unwrap().id_scopes.len(), 1);
        let (_, readings) = example.split_once("# readings:\n").unwrap();
        let readings: String = readings.lines().map(|line| format!("{}\n", &line[1..])).collect();
        let spelled_out = Config::from_yaml(&format!("readings:\n{readings}")).unwrap().readings;
        assert_eq!(format!("{spelled_out:?}"), format!("{:?}", Readings::default()));
        assert_eq!(readings.lines().count(), format!("{spelled_out:#?}").lines().count() - 2);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_its_field_and_what_would_do() {
        assert_eq!(
            refused("listen: 127.0.0.1:0\nthinkTime: 3 sec\n"),
            "line 2, column 12: thinkTime: \"3 sec\" is not a duration; a duration is a whole number \
             with a unit, ms, s, m or h, such as 3s or 500ms; 0 needs no unit"
        );
        assert_eq!(
            refused("readings:\n  location: nowhere\n"),
            "line 2, column 13: location: unknown variant `nowhere`, expected one of absolute, \
             relative, absent"
        );
        let unknown = refused("thinkTme: 3s");
        assert!(unknown.starts_with("line 1, column 1: unknown field `thinkTme`, expected one of listen"));
        assert_eq!(
            refused(&group("        enabled: maybe\n").replace(KEY, "c2hvcnQ=")),
            "line 6, column 21: primaryKey: a key must be the base64 of 16 to 64 bytes; this one has 5"
        );
    }

    #[test]
    fn a_message_never_shows_a_key() {
        let message = refused(&group("").replace(KEY, &format!("{KEY}!")));
        assert!(message.contains("primaryKey"), "{message}");
        assert!(!message.contains(&KEY[..12]), "{message}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_told_by_their_path() {
        let static_without_hub = refused(&group("        allocationPolicy: static\n"));
        assert_eq!(
            static_without_hub,
            "idScopes[0].enrollmentGroups[0].hub: must name a linked hub, since allocationPolicy is static"
        );
        let elsewhere = group("        allocationPolicy: static\n        hub: other.example.net\n");
        assert_eq!(
            refused(&elsewhere),
            "idScopes[0].enrollmentGroups[0].hub: \"other.example.net\" is not linked; the hubs of this \
             id scope are [\"hub.example.net\"]"
        );
        assert_eq!(
            refused(&group("        allocationPolicy: custom\n")),
            "idScopes[0].enrollmentGroups[0].webhook: must be given, since allocationPolicy is custom"
        );
        assert_eq!(
            refused("admin: 0.0.0.0:8444"),
            "admin: must be a loopback address such as 127.0.0.1:8444, since the admin API asks for no \
             credentials"
        );
        assert_eq!(
            refused("idScopes: [{idScope: 0ne1, hubs: [hub]}]"),
            "idScopes[0].hubs[0]: \"hub\" is not a host name such as hub-a.azure-devices.net"
        );
        assert_eq!(
            refused("idScopes: [{idScope: 0ne1}, {idScope: 0NE1}]"),
            "idScopes[1].idScope: \"0NE1\" occurs twice"
        );
    }

    #[test]
    fn only_a_disabled_individual_enrollment_can_do_without_keys() {
        let entry = |enabled: bool| {
            format!(
                "idScopes:\n  - idScope: 0ne1\n    individualEnrollments:\n      \
                 - {{registrationId: dev, enabled: {enabled}}}\n"
            )
        };
        assert!(Config::from_yaml(&entry(false)).is_ok());
        assert_eq!(
            refused(&entry(true)),
            "idScopes[0].individualEnrollments[0].primaryKey: must be given; only a disabled enrollment \
             can do without keys"
        );
    }
}
