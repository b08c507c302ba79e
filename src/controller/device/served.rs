//! Requests of users, which are annotations of devices and integrations.

use super::settings::annotation;
use crate::api::device::ProvisionedDevice;
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};

/// What users asked for by annotations and has been served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedRequests {
    pub token: Option<String>,
    pub integration_token: Option<String>,
    pub reconcile_at: Option<String>,
}

impl ServedRequests {
    /// What is asked for now. What was asked for before stays on record where nothing is asked.
    pub fn now(device: &ProvisionedDevice, integration_token: Option<&String>, before: &Self) -> Self {
        let asked = |key| annotation(device, key).map(str::to_owned);
        Self {
            token: asked(REPROVISION_REQUESTED_AT).or_else(|| before.token.clone()),
            integration_token: integration_token.or(before.integration_token.as_ref()).cloned(),
            reconcile_at: asked(RECONCILE_REQUESTED_AT).or_else(|| before.reconcile_at.clone()),
        }
    }
}
