//! A Secret that something else changes back, again and again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SECRET;
use crate::world::objects::data;
use crate::world::{Kind, World, condition};

/// Each but the first follows a restoration. The last of those comes after 1 + 2 + 4 + 8 s of waits.
const EDITS: usize = 8;

fn is_whole(secret: &Value) -> bool {
    data(secret)["connectionString"].contains("SharedAccessKey=")
}

/// Edits the Secret as soon as it is what the operator wants it to be.
async fn keep_editing(world: &World) -> Duration {
    let started = Instant::now();
    for _ in 0..EDITS {
        world.wait(Kind::Secret, SECRET, "restored", is_whole).await;
        world.patch(Kind::Secret, SECRET, json!({"data": {"connectionString": "bWluZQ=="}})).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_edited_again_and_again_is_restored_more_and_more_slowly() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let (before, started) = (world.mark().await, Instant::now());

    let (took, device) =
        tokio::join!(keep_editing(&world), world.wait_reason("truck-1", "SecretWriteFailed"));

    assert!(took >= Duration::from_secs(14), "{EDITS} edits took {took:?}");
    let ready = condition(&device, "Ready").unwrap();
    assert!(!ready.is_true() && ready.message.contains("Something else keeps changing"), "{}", ready.message);
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "SecretWriteFailed");
    assert_eq!(condition(&device, "SecretReady").unwrap().reason, "SecretWriteFailed");

    // The last edit is undone after another 16 s, and stays undone.
    world.wait(Kind::Secret, SECRET, "restored", is_whole).await;
    world.wait_reason("truck-1", "Provisioned").await;
    let (patches, all) = (world.writes_since(before).await["patch secrets"], started.elapsed());
    assert!(patches < 12 && all >= Duration::from_secs(30), "{patches} patches in {all:?}");
    assert_eq!(world.registers(), 1);
}
