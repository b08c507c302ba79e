//! Connection pools: one for each way in which TLS is set up.

use std::collections::HashMap;
use std::sync::Arc;

use super::ca_bundle::{CaBundle, Flaws};
use super::client::{ClientError, DpsClient};
use super::clock_offset::ClockOffset;
use super::observe::Observer;
use super::proxy::Proxy;
use super::tls::TlsSettings;

/// Pools that are kept for integrations to come. One that is dropped here lives on in its users.
const KEPT: usize = 64;

/// What a connection to one DPS instance consists of.
#[derive(Clone, Debug)]
pub struct Connection {
    pub client: DpsClient,
    /// How far DPS's clock is from ours, once it has mattered.
    pub clock: Arc<ClockOffset>,
    /// What is wrong with the CA bundle, although it can be used.
    pub flaws: Arc<Flaws>,
}

/// The pools of the process.
#[derive(Debug)]
pub struct Connections {
    proxy: Option<Proxy>,
    hub_suffixes: Arc<[String]>,
    observer: Arc<dyn Observer>,
    pools: HashMap<TlsSettings, (DpsClient, Arc<Flaws>)>,
}

impl Connections {
    pub fn new(proxy: Option<Proxy>, hub_suffixes: Arc<[String]>, observer: Arc<dyn Observer>) -> Self {
        Self { proxy, hub_suffixes, observer, pools: HashMap::new() }
    }

    /// A connection that knows nothing yet of DPS's clock.
    ///
    /// # Errors
    /// When no client can be made of the CA bundle or the proxy.
    pub fn get(&mut self, tls: &TlsSettings) -> Result<Connection, ClientError> {
        let (client, flaws) = match self.pools.get(tls) {
            Some(open) => open.clone(),
            None => self.open(tls)?,
        };
        Ok(Connection { client, clock: Arc::default(), flaws })
    }

    fn open(&mut self, tls: &TlsSettings) -> Result<(DpsClient, Arc<Flaws>), ClientError> {
        let (suffixes, observer) = (self.hub_suffixes.clone(), self.observer.clone());
        let bundle = tls.ca_bundle.as_deref().map(CaBundle::read).transpose()?;
        let client = DpsClient::new(bundle.as_ref(), self.proxy.as_ref(), suffixes, observer)?;
        let open = (client, Arc::new(bundle.map(|bundle| bundle.flaws).unwrap_or_default()));
        if self.pools.len() >= KEPT {
            self.pools.clear();
        }
        self.pools.insert(tls.clone(), open.clone());
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::Unobserved;
    use super::*;

    #[test]
    fn a_bundle_that_is_edited_again_and_again_costs_no_pool_until_a_device_calls() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut connections = Connections::new(None, Arc::from([]), Arc::new(Unobserved));
        for number in 0..3 {
            let authority = rcgen::generate_simple_self_signed([format!("dps-{number}.test")]).unwrap();
            let ca_bundle = Some(Arc::from(authority.cert.pem().into_bytes()));
            let client = connections.get(&TlsSettings { ca_bundle }).unwrap().client;
            assert!(format!("{client:?}").contains("LazyLock(<uninit>)"), "{client:?}");
        }
    }
}
