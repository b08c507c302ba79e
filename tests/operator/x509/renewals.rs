//! Certificates that are renewed, one by one and all at once.

use std::time::Duration;

use super::*;
use crate::world::objects::is_ready;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_registered_and_then_written_once() {
    let root = root("fleet-root");
    let world = World::with_certificates(&root).await;
    world.certified(&root, "truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.get(Kind::Secret, "truck-1-hub").await;
    // DPS takes its time: the application goes on with what the hub knows.
    world.dps.set_think_time(Duration::from_secs(2));

    let renewed = device(&root, "truck-1");
    world.issue("truck-1", &renewed, &[]).await;

    let is_renewed = |secret: &Value| data(secret)["tls.key"] == renewed.key_pem();
    let secret = world.wait(Kind::Secret, "truck-1-hub", "renewed", is_renewed).await;
    assert!(world.hub_takes("truck-1").await);
    let knows = |object: &Value| {
        is_ready(object) && object["status"]["credential"]["fingerprint"] == fingerprint(&renewed.pem)
    };
    world.wait(Kind::Device, "truck-1", "it says so", knows).await;
    assert_eq!(world.registers(), 2);
    let states = world.states(Kind::Secret).await;
    let versions: Vec<_> = states.iter().filter(|state| state["metadata"]["name"] == "truck-1-hub").collect();
    assert_eq!(versions.len(), 2, "{versions:#?}");
    assert_eq!(versions[0]["data"], before["data"]);
    assert_eq!(versions[1]["data"], secret["data"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_no_certificate_and_one_that_was_renewed_meanwhile_is_noticed() {
    let root = root("fleet-root");
    let mut world = World::with_certificates(&root).await;
    let names: Vec<String> = (1..=20).map(|number| format!("truck-{number}")).collect();
    for name in &names {
        world.certified(&root, name).await;
    }
    world.wait_all_ready(names.len()).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 20).await;
    world.assert_quiet_restart().await;

    assert!(world.stop_operator().await.success());
    let renewed = device(&root, "truck-7");
    world.issue("truck-7", &renewed, &[]).await;
    let before = world.mark().await;
    world.start_operator().await;
    let is_renewed = |secret: &Value| data(secret)["tls.key"] == renewed.key_pem();
    world.wait(Kind::Secret, "truck-7-hub", "renewed", is_renewed).await;
    assert!(world.hub_takes("truck-7").await);
    assert_eq!(world.registers_since(before), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ca_that_dps_does_not_know_changes_nothing_until_it_does() {
    let (old, new) = (root("fleet-root"), root("next-root"));
    let world = World::with_certificates(&old).await;
    let names: Vec<String> = (1..=5).map(|number| format!("truck-{number}")).collect();
    for name in &names {
        world.certified(&old, name).await;
    }
    world.wait_all_ready(names.len()).await;
    for name in &names {
        world.issue(name, &device(&new, name), &[]).await;
    }
    let refused = world.wait_integration(INTEGRATION, "Unauthorized").await;
    let message = condition(&refused, "Ready").unwrap().message;
    assert!(message.contains("CN=next-root"), "{message}");
    let is_held = |object: &Value| object["status"]["keyRotation"]["blocked"] == true;
    world.wait(Kind::Integration, INTEGRATION, "held", is_held).await;
    let is_counted = |object: &Value| {
        let status = &object["status"];
        status["certificates"]["unregistered"] == 5 && status["keyRotation"]["total"] == 5
    };
    world.wait(Kind::Integration, INTEGRATION, "counted", is_counted).await;
    let mut untouched = 0;
    for name in &names {
        assert!(world.hub_takes(name).await, "{name} keeps what it has");
        let device = world.get(Kind::Device, name).await;
        assert!(condition(&device, "Ready").unwrap().is_true(), "its certificate works still");
        untouched += usize::from(condition(&device, "Ready").unwrap().reason == "Provisioned");
    }
    assert!(untouched >= 2, "{untouched} were not tried");

    world.trust(&[&old, &new]);
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    world.patch(Kind::Integration, INTEGRATION, asked).await;
    let is_of_the_new =
        |secret: &Value| certificate(&data(secret)["tls.crt"]).shown().issuer.contains("next-root");
    for name in &names {
        world.wait(Kind::Secret, &format!("{name}-hub"), "the new one", is_of_the_new).await;
        assert!(world.hub_takes(name).await);
        world.wait_ready(name).await;
    }
    let is_over = |object: &Value| object["status"]["keyRotation"].is_null();
    world.wait(Kind::Integration, INTEGRATION, "over", is_over).await;
    world.wait_integration(INTEGRATION, "Available").await;
}
