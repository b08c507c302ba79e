//! Changes while the simulator runs: keys, hubs, records, and its end.

use std::time::Duration;

use dps_simulator::config::LookupAfterDisable;
use dps_simulator::{
    Config, ControlError, OperationKind, Outcome, Readings, RegistrationStatus, ReprovisionPolicy,
    SymmetricKey,
};
use tokio::net::TcpStream;

use crate::device::{self, Device, GROUP, HUB_A, HUB_B, SCOPE, device_key, error};

fn new_key() -> String {
    device::base64([9; 64])
}

#[tokio::test]
async fn a_hub_takes_a_rotated_key_only_after_the_device_has_registered_again() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    let old = device_key("dev");
    let new = SymmetricKey::from_base64(&new_key()).unwrap().derive("dev");
    let accepts = |key: &SymmetricKey| simulator.accepts_device_key(SCOPE, "dev", &key.to_base64());
    assert!(accepts(&old));

    simulator.set_group_keys(SCOPE, GROUP, &new_key(), &device::secondary()).unwrap();
    assert_eq!(error(&device.register().await), (401, 401_002));
    assert!(accepts(&old) && !accepts(&new));

    device.sign_with(&new);
    device.provision().await;
    assert!(accepts(&new) && !accepts(&old));
    assert!(!simulator.accepts_device_key(SCOPE, "dev", &new_key()), "not the group's key");
    assert!(!simulator.accepts_device_key(SCOPE, "other", &old.to_base64()), "not of another device");
}

#[tokio::test]
async fn a_device_moves_when_it_registers_after_its_hub_was_unlinked() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(device.provision().await["assignedHub"], HUB_A);
    simulator.set_linked_hubs(SCOPE, &[HUB_B]).unwrap();
    assert_eq!(device.lookup().await.json()["assignedHub"], HUB_A);

    let moved = device.provision().await;
    assert_eq!(moved["assignedHub"], HUB_B);
    assert_eq!(moved["substatus"], "deviceDataMigrated");
    assert_eq!(device.provision().await["substatus"], "initialAssignment");
}

#[tokio::test]
async fn the_reprovision_policy_resets_a_device_or_keeps_it() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    simulator.set_linked_hubs(SCOPE, &[HUB_A, HUB_B]).unwrap();

    let policy =
        |update_hub_assignment| ReprovisionPolicy { update_hub_assignment, migrate_device_data: false };
    simulator.set_reprovision_policy(SCOPE, GROUP, policy(false)).unwrap();
    simulator.set_static_hub(SCOPE, GROUP, HUB_B).unwrap();
    assert_eq!(device.provision().await["assignedHub"], HUB_A);

    simulator.set_reprovision_policy(SCOPE, GROUP, policy(true)).unwrap();
    let moved = device.provision().await;
    assert_eq!(moved["assignedHub"], HUB_B);
    assert_eq!(moved["substatus"], "deviceDataReset");
}

#[tokio::test]
async fn a_device_can_be_moved_without_a_call_of_its_own() {
    let mut config = device::config();
    config.id_scopes[0].hubs.push(HUB_B.to_owned());
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let elsewhere = match device.provision().await["assignedHub"].as_str().unwrap() {
        HUB_A => HUB_B,
        _ => HUB_A,
    };
    simulator.move_device(SCOPE, "dev", elsewhere).unwrap();
    assert_eq!(device.lookup().await.json()["assignedHub"], elsewhere);
    assert!(simulator.accepts_device_key(SCOPE, "dev", &device_key("dev").to_base64()));
}

#[tokio::test]
async fn a_deleted_record_is_gone_and_the_hub_still_knows_the_device() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let operation = device.register().await.operation_id();
    device.poll(&operation).await;
    simulator.delete_registration(SCOPE, "dev").unwrap();
    assert_eq!(device.lookup().await.status, 404);
    assert_eq!(device.poll(&operation).await.status, 404);
    assert_eq!(simulator.registration(SCOPE, "dev"), None);
    assert!(simulator.accepts_device_key(SCOPE, "dev", &device_key("dev").to_base64()));
    assert_eq!(device.provision().await["substatus"], "initialAssignment");
}

#[tokio::test]
async fn a_group_or_device_that_is_disabled_later_keeps_its_record_until_it_registers() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    simulator.set_device_enabled(SCOPE, "DEV", false).unwrap();
    assert_eq!(device.lookup().await.json()["status"], "assigned");
    assert_eq!(device.register().await.json()["status"], "disabled");
    assert_eq!(simulator.registration(SCOPE, "dev").unwrap().status, RegistrationStatus::Disabled);
    simulator.set_device_enabled(SCOPE, "dev", true).unwrap();
    device.provision().await;
    simulator.set_group_enabled(SCOPE, GROUP, false).unwrap();
    assert_eq!(device.register().await.json()["status"], "disabled");
}

#[tokio::test]
async fn a_lookup_shows_a_later_disabling_by_the_other_reading() {
    let readings = Readings { lookup_after_disable: LookupAfterDisable::Disabled, ..Readings::default() };
    let simulator = device::start(Config { readings, ..device::config() }).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    simulator.set_group_enabled(SCOPE, GROUP, false).unwrap();
    let record = device.lookup().await.json();
    assert_eq!(record["status"], "disabled");
    assert_eq!(record.get("assignedHub"), None);
}

#[tokio::test]
async fn the_think_time_can_be_changed_for_operations_to_come() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    simulator.set_think_time(Duration::from_secs(3600));
    let operation = device.register().await.operation_id();
    assert_eq!(device.poll(&operation).await.status, 202);
}

#[tokio::test]
async fn a_change_with_an_unknown_name_or_an_invalid_value_is_refused() {
    let simulator = device::start(device::config()).await;
    let key = new_key();
    assert!(matches!(simulator.set_group_keys("0ne9", GROUP, &key, &key), Err(ControlError::NoIdScope(_))));
    assert!(matches!(simulator.set_group_keys(SCOPE, "none", &key, &key), Err(ControlError::NoGroup(_))));
    assert!(matches!(simulator.set_group_keys(SCOPE, GROUP, "x", &key), Err(ControlError::Key(_))));
    assert!(matches!(simulator.set_static_hub(SCOPE, GROUP, HUB_B), Err(ControlError::NotLinked(_))));
    assert!(matches!(simulator.set_linked_hubs(SCOPE, &["hub"]), Err(ControlError::Invalid(_))));
    assert!(matches!(simulator.delete_registration(SCOPE, "dev"), Err(ControlError::NoRegistration(_))));
    assert!(matches!(simulator.move_device(SCOPE, "dev", HUB_A), Err(ControlError::NoRegistration(_))));
}

#[tokio::test]
async fn a_test_can_wait_for_a_request_to_be_seen_and_answered() {
    let simulator = device::start(device::config()).await;
    let assigned = device::seen(simulator.control(), |entry| entry.outcome == Outcome::Assigned);
    let assigned = tokio::spawn(assigned);
    Device::connect(&simulator, "dev").await.provision().await;
    let entry = assigned.await.unwrap();
    assert_eq!((entry.operation, entry.sequence), (OperationKind::Poll, 2));
}

#[tokio::test]
async fn a_cleared_ledger_goes_on_counting() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    simulator.clear_ledger();
    assert_eq!(simulator.ledger_len(), 0);
    device.lookup().await;
    assert_eq!(simulator.ledger()[0].sequence, 3);
    assert_eq!(simulator.ledger_since(3), []);
    let totals = simulator.totals();
    assert_eq!((totals.register, totals.poll, totals.lookup, totals.dropped), (1, 1, 1, 0));
}

#[tokio::test]
async fn after_shutdown_connections_are_refused() {
    // Another address than usual, where the simulator of another test could get the port next.
    let listen = Some(([127, 0, 0, 77], 0).into());
    let simulator = device::start(Config { listen, ..device::config() }).await;
    let address = simulator.address();
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    simulator.shutdown().await;
    // A program that another test starts at this moment holds a copy of the socket until it runs.
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("nobody listens");
    let path = device.path("/register");
    assert!(device.send(http::Method::PUT, &path, "{}".to_owned()).await.is_err());
}

#[tokio::test]
async fn a_dropped_simulator_ends_its_connections() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    drop(simulator);
    let path = device.path("/register");
    assert!(device.send(http::Method::PUT, &path, "{}".to_owned()).await.is_err());
}
