//! The operator's settings, checked.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::dps::host::AllowedHosts;
use crate::dps::proxy::Proxy;

/// What flags and environment variables come to.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespaces to watch; empty: all.
    pub watch_namespaces: Vec<String>,
    pub registrations_per_minute: u32,
    pub max_in_flight: u32,
    pub allowed_dps_hosts: AllowedHosts,
    /// Suffixes of hubs, in lower case, each with its leading dot.
    pub allowed_hub_suffixes: Arc<[String]>,
    pub dps_proxy: Option<Proxy>,
    /// Prefixes of labels and annotations on Secrets; empty: any that the schema admits.
    pub secret_metadata_prefixes: Vec<String>,
    /// cert-manager may be asked for the certificates of devices.
    pub cert_manager: bool,
    pub events: EventsLevel,
    /// Where probes and metrics are served.
    pub http_addr: Option<SocketAddr>,
    /// Where the probes are served by themselves, too.
    pub probe_addr: Option<SocketAddr>,
    /// The Lease to hold while acting; `None`: there is one replica, which always acts.
    pub lease: Option<LeaseSettings>,
}

/// The Lease that replicas elect a leader with.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub name: String,
    /// `None`: the namespace that the client is configured with.
    pub namespace: Option<String>,
}

/// Which changes become events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EventsLevel {
    /// Trouble and changes.
    #[default]
    Changes,
    /// Also each device's first assignment and renewed certificate, not only the first ten in a minute.
    All,
    None,
}

impl Config {
    /// One watch for each entry; `None` is a watch over all namespaces.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        if self.watch_namespaces.is_empty() {
            vec![None]
        } else {
            self.watch_namespaces.iter().cloned().map(Some).collect()
        }
    }
}
