//! What was edited so that nothing seems to be left to do: statuses, and Secrets with the version that the
//! status says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::vouching::{MINUTE, SECRET, TOKEN, secret, settled};
use super::{HUBS, World};

const LOOK: &str = "reconcile.fluxcd.io/requestedAt";

impl World {
    fn annotate(&mut self, device: &str, key: &str, value: &str) {
        self.api.apply("provisioneddevices", device, json!({"metadata": {"annotations": {key: value}}}));
        self.deliver();
    }
}

/// What an edit of a status could say so that nothing seems to be left to do for the device.
#[tokio::test]
async fn no_edit_of_a_status_leaves_a_device_out_of_what_its_fleet_is_asked_to_do() {
    type Ask = fn(&mut World);
    let token = |w: &mut World| {
        let asked = json!({"metadata": {"annotations": {TOKEN: "fleet-1"}}});
        w.api.apply("dpsintegrations", "factory", asked);
        w.deliver();
    };
    let rotation = |w: &mut World| {
        let active = json!({"symmetricKey": {"active": "Secondary",
            "primaryKeyRef": {"name": "group", "key": "primaryKey"},
            "secondaryKeyRef": {"name": "group", "key": "secondaryKey"}}});
        w.declare_integration(json!({"rollout": {"paused": true}, "attestation": active}));
    };
    for (what, ask) in [("token", token as Ask), ("rotation", rotation)] {
        for (restart, unsettles) in [(false, false), (false, true), (true, false)] {
            let mut world = settled().await;
            // A sister that is done shows what to say.
            world.declare("sister", json!({}));
            world.until_ready("sister").await;
            world.declare_integration(json!({"rollout": {"paused": true}}));
            ask(&mut world);
            world.until_idle(0).await;
            world.annotate("sister", TOKEN, "own-1");
            world.until("the sister", |w| w.status("sister")["lastHandledReprovisionToken"] == "own-1").await;
            world.until_idle(0).await;
            let (status, sister) = (world.status("truck-1"), world.status("sister"));
            let version = secret(&world)["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            let (_, rendered) =
                world.provisioned("truck-1", status["assignedHub"].as_str().unwrap(), version);
            let rendered = serde_json::to_value(rendered).unwrap()["secret"]["renderedHash"].clone();

            world.pass(20 * MINUTE);
            let mut lie = json!({"credential": sister["credential"],
                "lastHandledIntegrationToken": sister["lastHandledIntegrationToken"],
                "secret": {"renderedHash": rendered}});
            if unsettles {
                lie["conditions"] = json!([]);
            }
            world.api.apply("provisioneddevices", "truck-1", json!({"status": lie}));
            if restart {
                world.restart();
            }
            world.deliver();
            if restart {
                world.annotate("truck-1", LOOK, "1");
            }
            let told = |world: &World| {
                let now = world.status("truck-1");
                now["credential"] == status["credential"]
                    && now["lastHandledIntegrationToken"] == status["lastHandledIntegrationToken"]
            };
            for _ in 0..3 {
                world.until_idle(0).await;
                world.pass(MINUTE);
            }
            world.until(&format!("what was so before, {what} {restart}"), told).await;

            // And then it is done.
            let (registered, key) = (world.registers(), secret(&world)["data"]["sharedAccessKey"].clone());
            let mut spec = world.api.get("dpsintegrations", "factory").unwrap()["spec"].clone();
            spec["rollout"]["paused"] = json!(false);
            world.declare_integration(spec);
            let done = |world: &World| {
                let (now, written) = (world.status("truck-1"), secret(world));
                now["credential"] == sister["credential"]
                    && now["lastHandledIntegrationToken"] == sister["lastHandledIntegrationToken"]
                    && now["secret"]["renderedHash"]
                        == written["metadata"]["annotations"]["dps-operator.io/rendered-hash"]
                    && (written["data"]["sharedAccessKey"] != key) == (what == "rotation")
            };
            world.until(&format!("what was asked for, {what} {restart}"), done).await;
            assert_eq!(world.registers(), registered + 1);
        }
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
