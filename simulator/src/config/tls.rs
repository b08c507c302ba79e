//! The server certificate and the TLS versions.

use std::path::PathBuf;

use serde::Deserialize;

/// The server certificate: given, or issued by a CA that the simulator makes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// The folder with `ca.crt` and `ca.key`, which are made on the first start and used again later.
    /// Without it the CA is in memory only.
    pub directory: Option<PathBuf>,
    /// Names and addresses in the server certificate besides `localhost` and `127.0.0.1`.
    pub names: Vec<String>,
    /// A file with a certificate chain in PEM to serve instead.
    pub certificate: Option<PathBuf>,
    /// The file with its key in PEM.
    pub key: Option<PathBuf>,
    /// The TLS versions that are offered; DPS offers 1.2 only.
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
