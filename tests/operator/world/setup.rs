//! How a world differs from the usual one.

use std::sync::Arc;
use std::time::Duration;

use dps_dev::ControlPlane;
use dps_simulator::config::Quotas;
use dps_simulator::{AllocationPolicy, Config, EnrollmentGroup, IdScope, Webhook, WebhookAnswer};
use serde_json::Value;

use super::{GROUP, HUBS, OTHER_HUB, OTHER_SCOPE, PRIMARY_KEY, SCOPE, SECONDARY_KEY, control_plane};

#[derive(Clone)]
pub struct Setup {
    pub simulator: Config,
    /// What the operator logs.
    pub log_level: &'static str,
    pub control_plane: Option<Arc<ControlPlane>>,
    pub namespace: Option<String>,
    /// The operator watches all namespaces; only with a control plane of its own.
    pub cluster_wide: bool,
    /// Every request of the operator goes through a proxy.
    pub proxied: bool,
    /// The operator asks cert-manager for certificates.
    pub cert_manager: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            simulator: simulator(),
            log_level: "trace",
            control_plane: None,
            namespace: None,
            cluster_wide: false,
            proxied: false,
            cert_manager: false,
        }
    }
}

impl Setup {
    /// With a control plane of its own, whose API server has these further flags.
    pub fn own_control_plane(api_server_flags: &[&str]) -> Self {
        let started = tokio::task::block_in_place(|| control_plane::start(api_server_flags));
        Self { control_plane: Some(Arc::new(started)), ..Self::default() }
    }

    /// With a control plane of its own, whose namespaces the operator watches all.
    pub fn cluster_wide() -> Self {
        Self { cluster_wide: true, ..Self::own_control_plane(&[]) }
    }

    /// With [`OTHER_SCOPE`] besides the usual id scope. It has the same group, but another hub.
    pub fn two_id_scopes() -> Self {
        let mut setup = Self::default();
        let mut other = setup.simulator.id_scopes[0].clone();
        (other.id_scope, other.hubs) = (OTHER_SCOPE.to_owned(), vec![OTHER_HUB.to_owned()]);
        setup.simulator.id_scopes.push(other);
        setup
    }

    /// With custom allocation.
    pub fn custom_allocation(webhook: Webhook) -> Self {
        let mut setup = Self::default();
        let group = &mut setup.simulator.id_scopes[0].enrollment_groups[0];
        group.allocation_policy = AllocationPolicy::Custom;
        group.webhook = Some(webhook);
        setup
    }

    /// With custom allocation that returns this payload to every device.
    pub fn returned_payload(payload: &Value) -> Self {
        let answer = WebhookAnswer { hub: HUBS[0].to_owned(), payload: payload.as_object().cloned() };
        let webhook = Webhook { field: "site".to_owned(), rules: Vec::new(), otherwise: Some(answer) };
        Self::custom_allocation(webhook)
    }
}

/// A simulator that answers at once, has no quota, and one group with two hubs.
pub fn simulator() -> Config {
    let group = EnrollmentGroup::new(GROUP, PRIMARY_KEY, SECONDARY_KEY).expect("the keys are valid");
    Config {
        think_time: Duration::ZERO,
        retry_after: Some(Duration::ZERO),
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![IdScope {
            id_scope: SCOPE.to_owned(),
            hubs: HUBS.map(str::to_owned).to_vec(),
            enrollment_groups: vec![group],
            ..IdScope::default()
        }],
        ..Config::default()
    }
}
