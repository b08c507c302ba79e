//! What a hub accepts from a device: DPS writes it there with each assignment.

use jiff::Timestamp;

use crate::certificate::{Certificate, Thumbprint};
use crate::config::OldThumbprint;
use crate::keys::KeyPair;

#[derive(Clone, Debug)]
pub(crate) enum HubIdentity {
    Keys(KeyPair),
    /// The certificate of the last registration, and the thumbprint that is accepted besides.
    Certificate {
        primary: Certificate,
        secondary: Option<Thumbprint>,
    },
}

impl HubIdentity {
    pub fn of_certificate(certificate: &Certificate) -> Self {
        Self::Certificate { primary: certificate.clone(), secondary: None }
    }

    /// This one in the place of another.
    pub fn after(self, before: Option<&Self>, reading: OldThumbprint) -> Self {
        match (self, before, reading) {
            (
                Self::Certificate { primary, secondary: None },
                Some(Self::Certificate { primary: old, .. }),
                OldThumbprint::Secondary,
            ) if primary != *old => Self::Certificate { primary, secondary: Some(old.thumbprint()) },
            (own, _, _) => own,
        }
    }

    /// The thumbprints of certificates that it accepts, the primary one first.
    pub fn thumbprints(&self) -> Vec<Thumbprint> {
        match self {
            Self::Keys(_) => Vec::new(),
            Self::Certificate { primary, secondary } => {
                std::iter::once(primary.thumbprint()).chain(secondary.clone()).collect()
            }
        }
    }

    /// Whether a key in base64 is one of its two.
    pub fn accepts_key(&self, key: &str) -> bool {
        match self {
            Self::Keys(keys) => keys.primary.equals_base64(key) | keys.secondary.equals_base64(key),
            Self::Certificate { .. } => false,
        }
    }

    /// Whether a device with this certificate may connect. Hubs compare thumbprints and look at the validity,
    /// and at no chain.
    pub fn accepts_certificate(&self, certificate: &Certificate, now: Timestamp) -> bool {
        match self {
            Self::Keys(_) => false,
            Self::Certificate { primary, secondary } => {
                let is_known =
                    primary == certificate || secondary.as_ref() == Some(&certificate.thumbprint());
                is_known && certificate.is_valid_at(now)
            }
        }
    }
}
