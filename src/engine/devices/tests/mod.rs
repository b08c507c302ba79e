//! What is kept of devices, without a cluster and with times that are made up.

mod due;
mod kept;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Active, HeldPermit};
use crate::api::device::ProvisionedDevice;
use crate::clock::{self, Now};
use crate::dps::ids::IdScope;
use crate::fleet::DeviceId;
use crate::schedule::permits::{Gate, Lane, Permit, Permits};
use crate::schedule::turns::Party;

/// The integration's own devices.
const OWN: Party = Party { namespace: 7, integration: 1 };

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const PARTY: Party = Party { namespace: 0, integration: 1 };
/// Of another integration.
const OTHER_PARTY: Party = Party { namespace: 0, integration: 2 };

fn device(number: DeviceId, generation: i64) -> ProvisionedDevice {
    serde_json::from_value(json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
        "metadata": {
            "name": format!("truck-{number}"), "namespace": "fleet", "uid": format!("uid-{number}"),
            "generation": generation, "resourceVersion": generation.to_string(),
        },
        "spec": {"integrationRef": {"name": "factory"}},
        "status": {"observedGeneration": -1},
    }))
    .unwrap()
}

fn registered(number: DeviceId) -> ProvisionedDevice {
    let mut device = device(number, 1);
    device.status = Some(
        serde_json::from_value(json!({
            "observedGeneration": 1, "registrationId": format!("truck-{number}"), "idScope": "0ne1",
            "assignedHub": "hub-a.azure-devices.net", "deviceId": format!("truck-{number}"),
        }))
        .unwrap(),
    );
    device
}

/// So much later.
fn after(now: Now, wait: Duration) -> Now {
    Now { wall: now.wall.checked_add(wait).unwrap(), mono: now.mono + wait }
}

fn permit(waiter: DeviceId, now: Instant) -> Permit {
    let mut permits = Permits::new(600, 10);
    permits.admit(1, 7, &IdScope::parse("0ne1").unwrap(), Gate::OPEN, now);
    permits.enqueue(OWN, waiter, Lane::New, now);
    permits.poll(now).unwrap()
}

struct Situation {
    active: Active,
    now: Now,
}

impl Situation {
    fn new() -> Self {
        Self { active: Active::new(Arc::from([".azure-devices.net".to_owned()])), now: clock::now() }
    }

    /// With devices that have work, as the watch shows them.
    fn with_devices(count: DeviceId) -> Self {
        let mut situation = Self::new();
        (0..count).for_each(|id| situation.observe(id, device(id, 1)));
        situation
    }

    fn observe(&mut self, id: DeviceId, device: ProvisionedDevice) {
        self.active.observed(id, device, false, self.now);
    }

    fn hold(&mut self, id: DeviceId, used: bool) -> Permit {
        let permit = permit(id, self.now.mono);
        self.active.hold(id, HeldPermit { permit, used });
        permit
    }
}

/// An effect that is in flight until it is aborted.
fn in_flight() -> tokio::task::JoinHandle<()> {
    tokio::spawn(std::future::pending())
}
