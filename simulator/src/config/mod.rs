//! The configuration: addresses, TLS, timing, quotas, readings and enrollments.

pub(crate) mod duration;
mod enrollment;
mod error;
mod readings;
mod tls;
mod validate;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use enrollment::{
    AllocationPolicy, CertificateAuthority, Certificates, EnrollmentGroup, IdScope, IndividualEnrollment,
    Issuance, ReprovisionPolicy, Webhook, WebhookAnswer, WebhookRule,
};
pub use error::{ConfigError, Position};
pub use readings::*;
pub use tls::{Tls, TlsVersions};
pub use validate::Invalid;

use validate::invalid;
pub(crate) use validate::{hubs as check_hubs, issuance as check_issuance};

/// The whole configuration.
///
/// The default listens on a free loopback port, has a CA of its own in memory, no admin API and no id
/// scope.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The address of the device endpoint, over TLS; by default a free loopback port.
    pub listen: Option<SocketAddr>,
    /// The address of the admin API, over plain HTTP; by default there is none.
    pub admin: Option<SocketAddr>,
    pub tls: Tls,
    /// How long an operation is `assigning`; with 0 the first poll answers that it is done.
    #[serde(deserialize_with = "duration::required::deserialize")]
    pub think_time: Duration,
    /// Whether register answers 200 with the assignment instead of 202.
    pub assign_at_once: bool,
    /// The `Retry-After` of a 202; `null` leaves the header out.
    #[serde(deserialize_with = "duration::optional::deserialize")]
    pub retry_after: Option<Duration>,
    pub quotas: Quotas,
    /// The supported values of `api-version`.
    pub api_versions: Vec<String>,
    /// Further ones, in which a device that registers can ask for a certificate.
    pub issuance_api_versions: Vec<String>,
    /// How many requests the ledger holds.
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
            issuance_api_versions: vec!["2026-11-01".to_owned()],
            ledger_capacity: 500_000,
            readings: Readings::default(),
            id_scopes: Vec::new(),
        }
    }
}

/// The quotas of one DPS instance, that is of one id scope; `null` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Quotas {
    /// How many register calls and status lookups are admitted in a minute.
    pub registrations_per_minute: Option<u32>,
    /// How many polls of one device are admitted in ten seconds.
    pub polls_per_ten_seconds: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { registrations_per_minute: Some(1_000), polls_per_ten_seconds: Some(5) }
    }
}

impl Config {
    /// Reads and checks a configuration in YAML; a field that is left out has its default.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error::syntax_error(text, &error))?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and checks a file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_yaml(&std::fs::read_to_string(path)?)
    }

    /// Checks what the types cannot express.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(admin) = self.admin
            && !admin.ip().is_loopback()
        {
            return invalid(
                "admin",
                "must be a loopback address such as 127.0.0.1:8444, since the admin API asks for no credentials",
            );
        }
        if self.ledger_capacity == 0 {
            return invalid("ledgerCapacity", "must be at least 1");
        }
        if self.api_versions.is_empty() {
            return invalid("apiVersions", "must name at least one version");
        }
        validate::tls(&self.tls)?;
        validate::id_scopes(&self.id_scopes)
    }
}

/// The loopback address with a port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
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
            refused("listen: 127.0.0.1:0\nthinkTime: 3\n"),
            "line 2, column 12: thinkTime: \"3\" is not a duration; a duration is a number with a unit, \
             ms, s, m, h or d, such as 3s or 500ms; 0 needs no unit"
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
    fn a_certificate_policy_has_a_validity_of_some_time() {
        let with = |policy: &str| group(&format!("        issuance: {policy}\n"));
        let policy = |text: &str| Config::from_yaml(text).unwrap().id_scopes[0].enrollment_groups[0].issuance;
        let days = |days: u64| Some(Issuance { validity: Duration::from_secs(days * 86_400) });
        assert_eq!(policy(&group("")), None);
        assert_eq!(policy(&with("{validity: 30d}")), days(30));
        assert_eq!(
            refused(&with("{validity: 0}")),
            "idScopes[0].enrollmentGroups[0].issuance.validity: must be more than 0"
        );
        assert!(refused(&with("{}")).contains("missing field `validity`"));
        let entry = |validity: &str| {
            format!(
                "idScopes:\n  - idScope: 0ne1\n    individualEnrollments:\n      - {{registrationId: dev, \
                 primaryKey: {KEY}, secondaryKey: {KEY}, issuance: {{validity: {validity}}}}}\n"
            )
        };
        let config = Config::from_yaml(&entry("7d")).unwrap();
        assert_eq!(config.id_scopes[0].individual_enrollments[0].issuance, days(7));
        assert_eq!(
            refused(&entry("0")),
            "idScopes[0].individualEnrollments[0].issuance.validity: must be more than 0"
        );
    }

    #[test]
    fn certificates_stand_in_place_of_keys_and_are_read_with_the_configuration() {
        let root = rcgen::generate_simple_self_signed(["fleet".to_owned()]).unwrap().cert.pem();
        let file = std::env::temp_dir().join(format!("dps-simulator-root-{}.pem", std::process::id()));
        std::fs::write(&file, &root).unwrap();
        let config = |x509: &str, keys: &str| {
            let text = format!(
                "idScopes:\n  - idScope: 0ne1\n    enrollmentGroups:\n      - id: a\n        \
                 x509: {{primary: {x509}}}\n{keys}"
            );
            Config::from_yaml(&text)
        };
        let read = |x509: &str| {
            let group = config(x509, "").unwrap().id_scopes[0].enrollment_groups[0].clone();
            group.x509.unwrap().primary.thumbprint()
        };
        let text = serde_json::to_string(&root).unwrap();
        assert_eq!(read(&format!("{{file: {file:?}}}")), read(&format!("{{pem: {text}}}")));
        std::fs::remove_file(&file).unwrap();
        for (x509, keys, says) in [
            (format!("{{file: {file:?}}}"), String::new(), "cannot read"),
            ("{pem: none}".to_owned(), String::new(), "it has no certificate in PEM"),
            ("{}".to_owned(), String::new(), "name either a file or the text of the certificate in pem"),
            (
                format!("{{pem: {text}}}"),
                format!("        primaryKey: {KEY}\n"),
                "x509: must be left out where keys are given",
            ),
        ] {
            let refused = config(&x509, &keys).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
        let twice = format!(
            "idScopes: [{{idScope: 0ne1, certificateAuthorities: [{{name: a, certificate: {{pem: {text}}}}}, \
             {{name: a, certificate: {{pem: {text}}}}}]}}]"
        );
        assert_eq!(refused(&twice), "idScopes[0].certificateAuthorities[1].name: \"a\" occurs twice");
    }

    #[test]
    fn only_a_disabled_individual_enrollment_can_do_without_keys_or_certificates() {
        let entry = |enabled: bool| {
            format!(
                "idScopes:\n  - idScope: 0ne1\n    individualEnrollments:\n      \
                 - {{registrationId: dev, enabled: {enabled}}}\n"
            )
        };
        assert!(Config::from_yaml(&entry(false)).is_ok());
        assert_eq!(
            refused(&entry(true)),
            "idScopes[0].individualEnrollments[0].primaryKey: must be given, or x509; only a disabled \
             individual enrollment can do without both"
        );
    }
}
