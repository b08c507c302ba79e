//! How TLS to DPS is set up.

use std::sync::Arc;

/// The settings in which two TLS configurations can differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM or DER, trusted beside the public roots.
    pub ca_bundle: Option<Arc<[u8]>>,
}
