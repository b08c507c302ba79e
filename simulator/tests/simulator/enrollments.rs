//! Enrollments other than a plain group: individual ones, static and custom allocation.

use dps_simulator::{
    AllocationPolicy, Config, EnrollmentKind, IndividualEnrollment, ReprovisionPolicy, SymmetricKey, Webhook,
    WebhookRule,
};
use serde_json::{Value, json};

use crate::device::{self, Device, HUB_A, HUB_B, SCOPE, error};

/// A group whose webhook has a rule for one site.
pub fn by_site() -> Config {
    let mut config = device::config();
    let scope = &mut config.id_scopes[0];
    scope.hubs.push(HUB_B.to_owned());
    scope.enrollment_groups[0].allocation_policy = AllocationPolicy::Custom;
    scope.enrollment_groups[0].webhook = Some(Webhook {
        field: "site".to_owned(),
        rules: vec![WebhookRule {
            value: json!("north"),
            hub: HUB_B.to_owned(),
            payload: json!({"region": "north", "interval": 30}).as_object().cloned(),
        }],
        otherwise: None,
    });
    config
}

pub fn individual(registration_id: &str) -> IndividualEnrollment {
    let key = |byte: u8| SymmetricKey::from_base64(&device::base64([byte; 32])).unwrap();
    IndividualEnrollment {
        registration_id: registration_id.to_owned(),
        device_id: Some("Gateway-1".to_owned()),
        primary_key: Some(key(5)),
        secondary_key: Some(key(6)),
        x509: None,
        enabled: true,
        allocation_policy: AllocationPolicy::Hashed,
        hub: None,
        webhook: None,
        reprovision_policy: ReprovisionPolicy::default(),
        issuance: None,
    }
}

async fn register_from(device: &mut Device, site: &str) -> Value {
    let started = device.register_with(json!({"payload": {"site": site}})).await;
    device.poll(&started.operation_id()).await.json()["registrationState"].take()
}

#[tokio::test]
async fn a_webhook_chooses_the_hub_and_its_payload_reaches_the_device() {
    let simulator = device::start(by_site()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let state = register_from(&mut device, "north").await;
    assert_eq!(state["assignedHub"], HUB_B);
    assert_eq!(state["payload"], json!({"region": "north", "interval": 30}));
    assert_eq!(device.lookup().await.json()["payload"], state["payload"]);
}

#[tokio::test]
async fn a_webhook_without_an_answer_fails_the_registration() {
    let simulator = device::start(by_site()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let state = register_from(&mut device, "south").await;
    assert_eq!(state["status"], "failed");
    assert_eq!(state["errorCode"], 400_207);
}

#[tokio::test]
async fn an_individual_enrollment_has_its_own_keys_and_device_id() {
    let mut config = device::config();
    config.id_scopes[0].individual_enrollments.push(individual("gateway"));
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "gateway").await;
    assert_eq!(error(&device.register().await), (401, 401_002), "individual entries come before groups");

    device.sign_with(&SymmetricKey::from_base64(&device::base64([6; 32])).unwrap());
    let state = device.provision().await;
    assert_eq!(state["deviceId"], "Gateway-1");
    assert_eq!(state["registrationId"], "gateway");
    assert_eq!(state.get("symmetricKey"), None);
    let key = simulator.ledger()[1].key.clone().unwrap();
    assert_eq!((key.kind, key.enrollment.as_str()), (EnrollmentKind::Individual, "gateway"));
    assert!(simulator.accepts_device_key(SCOPE, "gateway", &device::base64([5; 32])));
}

#[tokio::test]
async fn a_disabled_entry_without_keys_disables_one_device_of_a_group() {
    let mut config = device::config();
    config.id_scopes[0].individual_enrollments.push(IndividualEnrollment {
        enabled: false,
        primary_key: None,
        secondary_key: None,
        ..individual("stolen")
    });
    let simulator = device::start(config).await;
    let answer = Device::connect(&simulator, "stolen").await.register().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("disabled")));
    Device::connect(&simulator, "honest").await.provision().await;
}

#[tokio::test]
async fn a_static_group_has_one_hub() {
    let mut config = device::config();
    let scope = &mut config.id_scopes[0];
    scope.hubs = vec![HUB_A.to_owned(), HUB_B.to_owned()];
    scope.enrollment_groups[0].allocation_policy = AllocationPolicy::Static;
    scope.enrollment_groups[0].hub = Some(HUB_B.to_owned());
    let simulator = device::start(config).await;
    for name in ["dev-1", "dev-2", "dev-3", "dev-4"] {
        let state = Device::connect(&simulator, name).await.provision().await;
        assert_eq!(state["assignedHub"], HUB_B);
    }
}
