//! What others can write of a registration or an acceptance takes no registration id from anybody.

use serde_json::{Value, json};

use super::vouching::{MINUTE, content, secret, settled, text};
use super::{HUBS, SCOPE, World};

const MARK: &str = "dps-operator.io/registration";
const DEVICE: &str = "dps-operator.io/device";

impl World {
    /// An integration of the same id scope, without a key, and with a status that says that DPS has accepted
    /// it.
    fn declare_rogue(&mut self) {
        let key = json!({"symmetricKey": {"primaryKeyRef": {"name": "group", "key": "nothing"}}});
        self.declare_integration_named("rogue", json!({"attestation": key}));
        self.api.apply("dpsintegrations", "rogue", json!({"status": {"acceptedIdScope": SCOPE}}));
        self.deliver();
    }

    /// An older device that is suspended.
    fn declare_older(&mut self, name: &str, integration: &str, registration_id: &str) {
        let older = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {
            "integrationRef": {"name": integration}, "registrationId": registration_id, "suspend": true,
        }});
        self.api.apply("provisioneddevices", name, older);
        self.deliver();
    }

    async fn until_quiet(&mut self) {
        for _ in 0..3 {
            self.until_idle(0).await;
            self.pass(MINUTE);
        }
    }
}

/// The status of `truck-1`, and a Secret with what can be seen of its own, as those of the older device.
fn forge(world: &World, sealed: bool) -> (Value, Value) {
    let mut planted = content(&secret(world));
    planted["data"] = json!({"deviceId": "dHJ1Y2stMQ=="});
    let annotations = planted["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.insert(DEVICE.to_owned(), json!("fleet/older"));
    annotations.retain(|key, _| sealed || [DEVICE, MARK].contains(&key.as_str()));
    let mut status = world.status("truck-1");
    status["secret"]["name"] = json!("older-hub");
    (status, planted)
}

#[tokio::test]
async fn neither_a_forged_status_nor_a_planted_secret_takes_an_id_while_no_operator_runs() {
    for (integration, sealed, settles) in [
        ("factory", false, false),
        ("factory", true, false),
        ("factory", true, true),
        ("rogue", false, false),
        ("rogue", true, true),
    ] {
        let mut world = settled().await;
        world.declare_rogue();
        world.declare_older("older", integration, "truck-1");
        world.until_quiet().await;
        let before = secret(&world);

        let (mut status, planted) = forge(&world, sealed);
        world.api.apply("secrets", "older-hub", planted);
        let version = world.api.get("secrets", "older-hub").unwrap()["metadata"]["resourceVersion"].clone();
        status["secret"]["resourceVersion"] = version;
        if settles {
            let generation = world.api.get("provisioneddevices", "older").unwrap()["metadata"]["generation"]
                .as_i64()
                .unwrap();
            status["observedGeneration"] = json!(generation + 1);
        }
        world.api.apply("provisioneddevices", "older", json!({"spec": {"suspend": false}, "status": status}));
        world.restart();
        world.until_quiet().await;

        let case = format!("{integration}, {sealed}, {settles}");
        assert_eq!(world.reason("truck-1"), "Provisioned", "{case}");
        assert_eq!(secret(&world), before, "{case}");
        let planted = world.api.get("secrets", "older-hub").unwrap();
        assert!(!text(&planted, "connectionString").contains(HUBS[0]), "{case}: nothing is published in it");
        if integration == "factory" {
            assert_eq!(world.reason("older"), "DuplicateRegistrationId", "{case}");
        }
    }
}

#[tokio::test]
async fn an_integration_that_only_its_status_calls_accepted_holds_no_id_for_its_new_devices() {
    for restart in [false, true] {
        let mut world = settled().await;
        world.declare_rogue();
        world.declare_older("squat", "rogue", "truck-2");
        if restart {
            world.restart();
        }
        world.until_quiet().await;

        world.declare("truck-2", json!({}));
        world.until_ready("truck-2").await;
        world.declare_older("late", "rogue", "truck-2");
        world.until_quiet().await;

        assert_eq!(world.reason("truck-2"), "Provisioned", "{restart}");
    }
}
