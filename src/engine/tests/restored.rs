//! An API server that goes back to an earlier state while the operator runs: etcd was restored.

use std::time::Duration;

use serde_json::json;

use super::{Message, WATCH, World};
use crate::kube_io::watch::Observed;

/// Versions of the restored server: as they were, and moved beyond all that were seen before, which
/// is what etcd's tools offer.
const BUMPS: [u64; 2] = [0, 1_000_000];

impl World {
    /// Every watch reads everything again, and says up to where that is the truth.
    fn read_again(&mut self, truth: u64) {
        self.api.show_all();
        self.take(Message::Integration(WATCH, Observed::Listing(truth)));
        self.deliver_only("dpsintegrations");
        self.take(Message::Integration(WATCH, Observed::Listed));
        self.take(Message::Device(WATCH, Observed::Listing(truth)));
        self.deliver_only("provisioneddevices");
        self.take(Message::Device(WATCH, Observed::Listed));
        self.take(Message::Secret(WATCH, Observed::Listing(truth)));
        self.deliver_only("secrets");
        self.take(Message::Secret(WATCH, Observed::Listed));
        self.api.changes();
    }

    /// The server goes back to a backup and is noticed as the watches do.
    fn restore(&mut self, backup: &super::api::Backup, bump: u64) {
        self.api.restore(backup, bump);
        let truth = if bump == 0 { u64::MAX } else { self.api.version() };
        self.read_again(truth);
    }
}

#[tokio::test]
async fn what_is_declared_deleted_and_changed_after_a_restore_is_seen() {
    for bump in BUMPS {
        let mut world = World::start(&[]).await;
        for device in ["stays", "changes", "loses"] {
            world.declare(device, json!({}));
            world.until_ready(device).await;
        }
        world.until_idle(0).await;
        let backup = world.api.backup();
        world.declare("forgotten", json!({}));
        world.until_ready("forgotten").await;
        for site in ["a", "b", "c"] {
            world.declare("changes", json!({"payload": {"site": site}}));
            world.declare_integration(json!({"rateLimit": {"registrationsPerMinute": 100}}));
            world.until_idle(0).await;
        }
        let registers = world.registers();

        world.restore(&backup, bump);
        world.until_idle(0).await;
        // Statuses that changed under the operator look like another writer's, for whom it makes way.
        world.pass(Duration::from_secs(10));
        assert_eq!(world.engine.fleet.len(), 3, "bump {bump}: one is forgotten");

        world.declare("new", json!({}));
        world.until_ready("new").await;
        world.delete("secrets", "loses-hub");
        world.until("its Secret", |world| world.api.get("secrets", "loses-hub").is_some()).await;
        world.declare("changes", json!({"payload": {"site": "d"}}));
        world.until_idle(0).await;
        world.pass(Duration::from_secs(10));
        world
            .until("its payload", |world| {
                let device = world.api.get("provisioneddevices", "changes").unwrap();
                device["status"]["observedGeneration"] == device["metadata"]["generation"]
            })
            .await;
        world.declare_integration(json!({"suspend": true}));
        world
            .until("the suspension", |world| {
                world.integration_reason() == "Suspended" || {
                    world.integration()["observedGeneration"]
                        == world.api.get("dpsintegrations", "factory").unwrap()["metadata"]["generation"]
                }
            })
            .await;
        // The new device, the new payload, and at most once the one that was restored.
        let more = world.registers() - registers;
        assert!((2..=3).contains(&more), "bump {bump}: {more}");
    }
}

#[tokio::test]
async fn a_list_that_is_older_than_our_own_write_does_not_undo_it() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let (backup, truth) = (world.api.backup(), world.api.version());
    world.declare("truck-1", json!({"payload": {"site": "b"}}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let (registers, writes, now) = (world.registers(), world.writes(), world.api.backup());

    // A list that was made before the change arrives after it.
    world.api.restore(&backup, 0);
    world.read_again(truth);
    world.api.restore(&now, 0);
    world.until_idle(0).await;

    assert_eq!((world.registers(), world.writes()), (registers, writes));
}
