//! A faithful simulator of the device API of Azure IoT Hub Device Provisioning Service (DPS).
//!
//! It serves register, poll and status lookup over TLS for enrollments with symmetric keys and with
//! X.509 certificates, checks tokens and chains as DPS does, issues certificates, throttles, allocates hubs,
//! and keeps a ledger of every request. Faults can be injected. The binary `dps-simulator` runs it by itself; tests embed it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dps_simulator::{Config, EnrollmentGroup, IdScope, Simulator};
//!
//! let key = "c2ltdWxhdGVkLWdyb3VwLWtleS1vbmUh";
//! let simulator = Simulator::start(Config {
//!     id_scopes: vec![IdScope {
//!         id_scope: "0ne00000001".to_owned(),
//!         hubs: vec!["hub-a.azure-devices.net".to_owned()],
//!         enrollment_groups: vec![EnrollmentGroup::new("fleet", key, key)?],
//!         ..IdScope::default()
//!     }],
//!     ..Config::default()
//! })
//! .await?;
//! let (url, ca) = (simulator.url(), simulator.ca_pem());
//! // ... register devices at `url`, trusting `ca` ...
//! assert!(simulator.ledger().is_empty());
//! simulator.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod any_client;
mod certificate;
mod clock;
pub mod config;
mod control;
mod dps;
mod faults;
mod ids;
mod issuing_ca;
mod keys;
mod ledger;
mod peer;
mod registration_id;
mod route;
mod running;
mod server;
mod shared;
mod tls;

pub use any_client::AnyClient;
pub use certificate::{Certificate, CertificateError, CertificateShown, Thumbprint};
pub use config::{
    AllocationPolicy, CertificateAuthority, Certificates, Config, ConfigError, EnrollmentGroup, IdScope,
    IndividualEnrollment, Issuance, Quotas, Readings, ReprovisionPolicy, Webhook, WebhookAnswer, WebhookRule,
};
pub use control::{Control, ControlError};
pub use dps::{
    CertificateInfo, RegistrationState, RegistrationStatus, Settings, Substatus, SymmetricKeyResult,
    X509Result,
};
pub use faults::{ActiveFault, Fault, FaultAction, FaultError, HugeOf, RawBody, SlowFrom};
pub use keys::{KeyError, KeySlot, SymmetricKey};
pub use ledger::{Credential, EnrollmentKind, KeyUsed, LedgerEntry, Outcome, PresentedCertificate, Totals};
pub use route::OperationKind;
pub use running::{Error, Running, Simulator};
pub use shared::{Handshake, Outage};
