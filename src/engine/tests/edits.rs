//! What was edited so that nothing seems to be left to do: statuses, and Secrets with the version that the
//! status says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::vouching::{MINUTE, SECRET, TOKEN, secret, settled};
use super::{HUBS, World};

const LOOK: &str = "reconcile.fluxcd.io/requestedAt";

impl World {
    fn annotate(&mut self, device: &str, key: &str, value: &str) {
        self.api.apply("provisioneddevices", device, json!({"metadata": {"annotations": {key: value}}}));
        self.deliver();
    }
}

type Ask = fn(&mut World);

/// Asks the whole fleet to register once more.
fn ask_for_token(world: &mut World) {
    let asked = json!({"metadata": {"annotations": {TOKEN: "fleet-1"}}});
    world.api.apply("dpsintegrations", "factory", asked);
    world.deliver();
}

/// Asks the whole fleet to move to the other key.
fn ask_for_rotation(world: &mut World) {
    let active = json!({"symmetricKey": {"active": "Secondary",
        "primaryKeyRef": {"name": "group", "key": "primaryKey"},
        "secondaryKeyRef": {"name": "group", "key": "secondaryKey"}}});
    world.declare_integration(json!({"rollout": {"paused": true}, "attestation": active}));
}

impl World {
    /// `truck-1` is asked to do something and held by a paused rollout; its sister has done it, and what its
    /// status says is returned.
    async fn with_a_sister_that_is_done(ask: Ask) -> (Self, Value) {
        let mut world = settled().await;
        world.declare("sister", json!({}));
        world.until_ready("sister").await;
        world.declare_integration(json!({"rollout": {"paused": true}}));
        ask(&mut world);
        world.until_idle(0).await;
        world.annotate("sister", TOKEN, "own-1");
        world.until("the sister", |w| w.status("sister")["lastHandledReprovisionToken"] == "own-1").await;
        world.until_idle(0).await;
        let sister = world.status("sister");
        (world, sister)
    }

    /// What the status of `truck-1` would say if it were done.
    fn as_if_done(&self, sister: &Value) -> Value {
        let version = secret(self)["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let hub = self.status("truck-1")["assignedHub"].as_str().unwrap().to_owned();
        let (_, rendered) = self.provisioned("truck-1", &hub, version);
        let rendered = serde_json::to_value(rendered).unwrap()["secret"]["renderedHash"].clone();
        json!({"credential": sister["credential"],
            "lastHandledIntegrationToken": sister["lastHandledIntegrationToken"],
            "secret": {"renderedHash": rendered}})
    }

    /// The status of `truck-1` says of its credential and the fleet's token what this one says.
    fn is_told_as(&self, status: &Value) -> bool {
        let now = self.status("truck-1");
        ["credential", "lastHandledIntegrationToken"].iter().all(|field| now[field] == status[field])
    }

    /// The Secret of `truck-1` is what its status says that it is.
    fn is_written(&self) -> bool {
        let rendered = secret(self)["metadata"]["annotations"]["dps-operator.io/rendered-hash"].clone();
        self.status("truck-1")["secret"]["renderedHash"] == rendered
    }
}

#[tokio::test]
async fn no_edit_of_a_status_leaves_a_device_out_of_what_its_fleet_is_asked_to_do() {
    let asked = [("token", ask_for_token as Ask), ("rotation", ask_for_rotation)];
    let cases = [(false, false), (false, true), (true, false)];
    for ((what, ask), (restart, unsettles)) in asked.into_iter().flat_map(|a| cases.map(|case| (a, case))) {
        let (mut world, sister) = World::with_a_sister_that_is_done(ask).await;
        let before = world.status("truck-1");
        let mut lie = world.as_if_done(&sister);
        if unsettles {
            lie["conditions"] = json!([]);
        }

        world.pass(20 * MINUTE);
        world.api.apply("provisioneddevices", "truck-1", json!({"status": lie}));
        if restart {
            world.restart();
            world.annotate("truck-1", LOOK, "1");
        }
        world.deliver();
        for _ in 0..3 {
            world.until_idle(0).await;
            world.pass(MINUTE);
        }
        let case = format!("{what} {restart} {unsettles}");
        world.until(&format!("what was so before, {case}"), |world| world.is_told_as(&before)).await;

        // And then it is done.
        let (registered, key) = (world.registers(), secret(&world)["data"]["sharedAccessKey"].clone());
        let mut spec = world.api.get("dpsintegrations", "factory").unwrap()["spec"].clone();
        spec["rollout"]["paused"] = json!(false);
        world.declare_integration(spec);
        let done = |world: &World| {
            let changed = secret(world)["data"]["sharedAccessKey"] != key;
            world.is_told_as(&sister) && world.is_written() && changed == (what == "rotation")
        };
        world.until(&format!("what was asked for, {case}"), done).await;
        assert_eq!(world.registers(), registered + 1);
    }
}

/// With the version of what was edited in the status, as if the operator had written both.
#[tokio::test]
async fn a_secret_that_was_edited_while_no_operator_ran_is_written_again_when_somebody_looks() {
    let drifts = json!({"deviceDefaults": {"driftCheck": {"interval": "10m"}}});
    for (key, by_hand) in [("connectionString", true), ("sharedAccessKey", false), ("deviceId", false)] {
        let mut world = settled().await;
        world.declare_integration(drifts.clone());
        world.until_idle(0).await;
        let data = secret(&world)["data"].clone();
        world.api.apply("secrets", SECRET, json!({"data": {key: STANDARD.encode("forged")}}));
        let version = secret(&world)["metadata"]["resourceVersion"].clone();
        world.api.apply(
            "provisioneddevices",
            "truck-1",
            json!({"status": {"secret": {"resourceVersion": version}}}),
        );
        world.restart();
        world.until_idle(0).await;
        assert_ne!(secret(&world)["data"], data, "nothing shows it");

        if by_hand {
            world.annotate("truck-1", LOOK, "1");
        } else {
            for _ in 0..12 {
                world.pass(MINUTE);
                world.until_idle(0).await;
            }
        }

        world.until("the Secret as it was", |world| secret(world)["data"] == data).await;
        world.until_ready("truck-1").await;
        assert_eq!(world.registers(), 1, "{key}");
    }
}

#[tokio::test]
async fn no_secret_is_made_from_a_status_that_was_edited_while_no_operator_ran() {
    for (spec, status) in [
        (json!({"secret": {"name": "renamed"}}), json!({"assignedHub": HUBS[1]})),
        (json!({"secret": {"name": "renamed"}}), json!({"assignedHub": HUBS[1], "secret": null})),
    ] {
        let mut world = settled().await;
        let (hub, data) = (world.status("truck-1")["assignedHub"].clone(), secret(&world)["data"].clone());
        let forged = json!({"spec": spec, "status": status});
        world.api.apply("provisioneddevices", "truck-1", forged);
        world.restart();
        world.deliver();
        let right = |world: &World| {
            let renamed = world.api.get("secrets", "renamed");
            assert!(renamed.as_ref().is_none_or(|secret| secret["data"] == data), "{renamed:?}");
            renamed.is_some() && world.status("truck-1")["assignedHub"] == hub
        };
        world.until("the Secret of what DPS says", right).await;
        world.until_idle(0).await;
        assert_eq!(world.registers(), 1);
    }
}
