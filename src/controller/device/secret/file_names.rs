//! The data keys under which a Secret has a certificate.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::controller::device::settings::{CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY, Settings};
use crate::dps::attestation::certificate::TlsFiles;

/// Of a certificate, its private key and its root; one that is absent stands nowhere.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileNames {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
}

impl FileNames {
    pub fn standard() -> Self {
        let [certificate, private_key, authority] =
            [CERTIFICATE, PRIVATE_KEY, CA_CERTIFICATE].map(|name| Some(name.to_owned()));
        Self { certificate, private_key, authority }
    }

    pub fn of(settings: &Settings<'_>) -> Self {
        let keys = &settings.keys;
        let [certificate, private_key, authority] =
            [keys.certificate, keys.private_key, keys.ca_certificate].map(|name| name.map(str::to_owned));
        Self { certificate, private_key, authority }
    }

    /// `None` if they are the standard ones.
    pub fn unusual(settings: &Settings<'_>) -> Option<Self> {
        Some(Self::of(settings)).filter(|names| *names != Self::standard())
    }

    /// What stands there; `None` without certificate or key.
    pub fn files(&self, data: &BTreeMap<String, ByteString>) -> Option<TlsFiles> {
        let file = |name: &Option<String>| Some(data.get(name.as_ref()?)?.0.clone());
        Some(TlsFiles {
            certificates: file(&self.certificate)?,
            key: Zeroizing::new(file(&self.private_key)?),
            authority: file(&self.authority),
        })
    }
}
