//! Certificates that are issued as devices register: the chain, who gets it, and what the hub makes of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::{
    Certificate, Config, ControlError, EnrollmentGroup, Fault, FaultAction, IdScope, Issuance, KeySlot,
    OperationKind, Outcome, RegistrationStatus, Running, SymmetricKey, Thumbprint,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::csr::csr;
use crate::device::{self, Device, GROUP, SCOPE, device_key, in_an_hour};
use crate::enrollments::{by_site, individual};
use crate::pki::Identity;

/// The api-version that issues certificates.
pub const VERSION: &str = "2026-11-01";
const MONTH: u64 = 30 * 86_400;

pub fn policy(seconds: u64) -> Option<Issuance> {
    Some(Issuance { validity: Duration::from_secs(seconds) })
}

/// The group's devices get certificates for a month.
pub async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = device::config();
    config.id_scopes[0].enrollment_groups[0].issuance = policy(MONTH);
    change(&mut config);
    device::start(config).await
}

/// A device that speaks the api-version that issues certificates.
pub async fn connect(simulator: &Running, registration_id: &str) -> Device {
    let mut device = Device::connect(simulator, registration_id).await;
    device.api_version = VERSION.to_owned();
    device
}

/// The chain in an answer, the device's certificate first.
pub fn chain(state: &Value) -> Vec<CertificateDer<'static>> {
    let chain = state["issuedCertificateChain"].as_array().unwrap_or_else(|| panic!("no chain in {state}"));
    chain.iter().map(|one| STANDARD.decode(one.as_str().unwrap()).unwrap().into()).collect()
}

/// The device's certificate in an answer.
fn leaf(state: &Value) -> Certificate {
    Certificate::from_pem(&pem(&chain(state)[0])).unwrap()
}

/// A certificate in PEM.
pub fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", device::base64(der))
}

/// Registers with this request and polls once: the final state.
async fn provision(device: &mut Device, csr: &str) -> Value {
    let started = device.register_with(json!({"csr": csr})).await;
    assert_eq!(started.status, 202, "{started:?}");
    device.poll(&started.operation_id()).await.json()["registrationState"].take()
}

fn unix_time(ahead: i64) -> i64 {
    jiff::Timestamp::now().as_second() + ahead
}

/// Whether a client with this chain would be let in where the root is trusted.
fn is_trusted(chain: &[CertificateDer<'static>], root: &str, at: i64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.unsigned_abs()));
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

/// The chain is for the key of the request and for this name, in date, and leads to the simulator's root.
pub fn check(chain: &[CertificateDer<'static>], csr: &str, name: &str, simulator: &Running) {
    let [leaf, issuing, root] = chain else { panic!("{} certificates", chain.len()) };
    let trusted = CertificateDer::from_pem_slice(simulator.issuing_root_pem().as_bytes()).unwrap();
    assert_eq!(*root, trusted);
    let ahead = simulator.clock_ahead();
    assert!(is_trusted(&[leaf.clone(), issuing.clone()], simulator.issuing_root_pem(), unix_time(ahead)));
    let [leaf, issuing, root] = [leaf, issuing, root].map(|der| X509Certificate::from_der(der).unwrap().1);
    for (one, above) in [(&leaf, &issuing), (&issuing, &root), (&root, &root)] {
        one.verify_signature(Some(above.public_key())).unwrap();
        assert_eq!(one.issuer(), above.subject());
    }
    let paths: Vec<_> = [&leaf, &issuing, &root]
        .map(|one| one.basic_constraints().unwrap().unwrap().value)
        .map(|basic| (basic.ca, basic.path_len_constraint))
        .into();
    assert_eq!(paths, [(false, None), (true, Some(0)), (true, Some(1))]);
    // ECDSA with SHA-384.
    assert_eq!(leaf.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.3");

    let request = STANDARD.decode(csr).unwrap();
    let request = X509CertificationRequest::from_der(&request).unwrap().1.certification_request_info;
    assert_eq!(leaf.public_key().raw, request.subject_pki.raw);
    assert_eq!(leaf.subject().to_string(), format!("CN={name}"));
    assert_eq!(leaf.subject_alternative_name().unwrap(), None);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[tokio::test]
async fn the_answer_that_ends_the_operation_has_the_chain_and_a_lookup_has_not() {
    let simulator = start(|_| {}).await;
    let mut device = connect(&simulator, "dev").await;
    let csr = csr("dev");
    simulator.set_think_time(Duration::from_secs(3600));
    let started = device.register_with(json!({"registrationId": "dev", "csr": csr})).await;
    assert_eq!((started.status.as_u16(), started.json().as_object().unwrap().len()), (202, 2));
    assert_eq!(device.poll(&started.operation_id()).await.json(), started.json());

    simulator.set_think_time(Duration::ZERO);
    let mut device = connect(&simulator, "dev-2").await;
    let csr = crate::csr::csr("dev-2");
    let started = device.register_with(json!({"csr": csr})).await;
    let done = device.poll(&started.operation_id()).await.json();
    check(&chain(&done["registrationState"]), &csr, "dev-2", &simulator);
    assert_eq!(device.poll(&started.operation_id()).await.json(), done, "it can be read again");
    assert_eq!(device.lookup().await.json().get("issuedCertificateChain"), None);
    assert_eq!(simulator.registration(SCOPE, "dev-2").unwrap().issued_certificate_chain, None);

    simulator.set_assign_at_once(true);
    let at_once = device.register_with(json!({"csr": csr})).await;
    assert_eq!(at_once.status, 200);
    check(&chain(&at_once.json()["registrationState"]), &csr, "dev-2", &simulator);
    let without = device.register().await.json();
    assert_eq!(without["registrationState"].get("issuedCertificateChain"), None, "it did not ask");
}

#[tokio::test]
async fn a_registration_that_is_repeated_issues_again_and_the_hub_takes_both() {
    let simulator = start(|_| {}).await;
    let mut device = connect(&simulator, "dev").await;
    let csr = csr("dev");
    let first = device.register_with(json!({"csr": csr})).await.operation_id();
    let mut states = vec![device.poll(&first).await.json()["registrationState"].take()];
    states.push(provision(&mut device, &csr).await);

    let leaves: Vec<Certificate> = states.iter().map(leaf).collect();
    let serial = |index: usize| leaves[index].shown().serial_number;
    assert_ne!(serial(0), serial(1));
    assert!(leaves.iter().all(|leaf| simulator.accepts_device_certificate(SCOPE, "dev", leaf)));
    let again = device.poll(&first).await.json()["registrationState"].take();
    assert_eq!(leaf(&again), leaves[0], "each operation has its own");

    let issued: Vec<(OperationKind, bool, Option<Thumbprint>)> =
        simulator.ledger().into_iter().map(|entry| (entry.operation, entry.csr, entry.issued)).collect();
    let [one, other] = [0, 1].map(|index| Some(leaves[index].thumbprint()));
    assert_eq!(
        issued,
        [
            (OperationKind::Register, true, one.clone()),
            (OperationKind::Poll, false, one.clone()),
            (OperationKind::Register, true, other.clone()),
            (OperationKind::Poll, false, other),
            (OperationKind::Poll, false, one),
        ]
    );
    let shown = serde_json::to_value(&simulator.ledger()[0]).unwrap();
    assert_eq!((&shown["csr"], &shown["issued"]), (&json!(true), &json!(leaves[0].thumbprint().as_str())));
}

#[tokio::test]
async fn a_certificate_counts_in_its_time_by_the_clock_of_dps() {
    let simulator = start(|config| {
        config.id_scopes[0].enrollment_groups[0].issuance = policy(3600);
    })
    .await;
    let day: i64 = 86_400;
    simulator.set_clock_ahead(day);
    let mut device = connect(&simulator, "dev").await;
    device.authorization = Some(device::token(SCOPE, "dev", &device_key("dev"), in_an_hour() + 2 * 86_400));
    let csr = csr("dev");
    let state = provision(&mut device, &csr).await;
    check(&chain(&state), &csr, "dev", &simulator);
    let leaf = leaf(&state);
    for (ahead, accepted) in [
        (day, true),
        (day - 200, true),
        (day - 400, false),
        (day + 3500, true),
        (day + 3700, false),
        (0, false),
    ] {
        simulator.set_clock_ahead(ahead);
        assert_eq!(simulator.accepts_device_certificate(SCOPE, "dev", &leaf), accepted, "{ahead}");
        assert_eq!(is_trusted(&chain(&state), simulator.issuing_root_pem(), unix_time(ahead)), accepted);
    }
}

#[tokio::test]
async fn a_certificate_is_for_its_device_in_its_id_scope() {
    const OTHER: &str = "0ne00000002";
    let (one, other) = (device::primary(), device::secondary());
    let simulator = start(|config| {
        config.id_scopes.push(IdScope {
            id_scope: OTHER.to_owned(),
            enrollment_groups: vec![EnrollmentGroup::new(GROUP, &one, &other).unwrap()],
            ..config.id_scopes[0].clone()
        });
    })
    .await;
    let mut device = connect(&simulator, "dev").await;
    provision(&mut connect(&simulator, "dev-2").await, &csr("dev-2")).await;
    let mut elsewhere = connect(&simulator, "dev").await;
    elsewhere.id_scope = OTHER.to_owned();
    elsewhere.sign_with(&device_key("dev"));
    elsewhere.provision().await;

    let leaf = leaf(&provision(&mut device, &csr("dev")).await);

    let accepts = |scope: &str, id: &str| simulator.accepts_device_certificate(scope, id, &leaf);
    assert_eq!([accepts(SCOPE, "dev"), accepts(SCOPE, "dev-2"), accepts(OTHER, "dev")], [true, false, false]);
    assert!(simulator.accepts_device_key(SCOPE, "dev", &device_key("dev").to_base64()), "besides its key");
    let forged = Identity::root("dps-simulator issuing CA").device("dev").certificate();
    assert!(!simulator.accepts_device_certificate(SCOPE, "dev", &forged));
    simulator.delete_registration(SCOPE, "dev").unwrap();
    assert!(accepts(SCOPE, "dev"), "it is not revoked");
}

#[tokio::test]
async fn a_device_that_is_not_assigned_gets_none() {
    let config = by_site();
    let simulator = start(|mine| {
        mine.id_scopes[0].hubs.clone_from(&config.id_scopes[0].hubs);
        mine.id_scopes[0].enrollment_groups[0].allocation_policy =
            config.id_scopes[0].enrollment_groups[0].allocation_policy;
        mine.id_scopes[0].enrollment_groups[0].webhook =
            config.id_scopes[0].enrollment_groups[0].webhook.clone();
    })
    .await;
    let mut device = connect(&simulator, "dev").await;
    let failed = provision(&mut device, &csr("dev")).await;
    assert_eq!((&failed["status"], failed.get("issuedCertificateChain")), (&json!("failed"), None));
    simulator.set_device_enabled(SCOPE, "dev", false).unwrap();
    let disabled = device.register_with(json!({"csr": csr("dev")})).await.json();
    let state = &disabled["registrationState"];
    assert_eq!((&state["status"], state.get("issuedCertificateChain")), (&json!("disabled"), None));
    assert!(simulator.ledger().iter().all(|entry| entry.issued.is_none()));
}

#[tokio::test]
async fn what_a_later_failure_leaves_of_an_operation_has_no_chain() {
    let simulator = start(|_| {}).await;
    let mut device = connect(&simulator, "dev").await;
    let first = device.register_with(json!({"csr": csr("dev")})).await.operation_id();
    chain(&device.poll(&first).await.json()["registrationState"]);
    simulator.set_group_enabled(SCOPE, GROUP, false).unwrap();
    device.register().await;
    let state = device.poll(&first).await.json()["registrationState"].take();
    assert_eq!((&state["status"], state.get("issuedCertificateChain")), (&json!("disabled"), None));
}

#[tokio::test]
async fn a_poll_before_the_end_has_no_chain_but_the_ledger_names_what_was_issued() {
    let simulator = start(|config| config.think_time = Duration::from_millis(300)).await;
    let mut device = connect(&simulator, "dev").await;
    let operation = device.register_with(json!({"csr": csr("dev")})).await.operation_id();
    let issued = simulator.ledger().pop().unwrap().issued.unwrap();
    let state = loop {
        let mut answer = device.poll(&operation).await.json();
        match answer["status"].as_str() {
            Some("assigning") => {
                let pending = simulator.ledger().pop().unwrap();
                assert_eq!((pending.outcome, pending.issued), (Outcome::Assigning, None));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            _ => break answer["registrationState"].take(),
        }
    };
    let leaf = leaf(&state);
    assert_eq!(leaf.thumbprint(), issued);
    assert!(simulator.accepts_device_certificate(SCOPE, "dev", &leaf));
}

#[tokio::test]
async fn an_individual_enrollment_has_a_policy_of_its_own() {
    let simulator = start(|config| {
        config.id_scopes[0].individual_enrollments.push(individual("gateway"));
    })
    .await;
    let mut device = connect(&simulator, "gateway").await;
    device.sign_with(&SymmetricKey::from_base64(&device::base64([6; 32])).unwrap());
    let csr = csr("gateway");
    let refused = device.register_with(json!({"csr": csr})).await;
    assert_eq!(device::error(&refused), (400, 400_004), "that of the group is not for it");
    simulator.set_device_issuance(SCOPE, "gateway", policy(60)).unwrap();
    let state = provision(&mut device, &csr).await;
    check(&chain(&state), &csr, "gateway", &simulator);
    assert_eq!(state["deviceId"], "Gateway-1");
    let shown = leaf(&state).shown();
    assert_eq!(shown.not_after.as_second() - shown.not_before.as_second(), 5 * 60 + 60);
    assert_eq!(simulator.ledger().pop().unwrap().key.unwrap().slot, KeySlot::Secondary);
    simulator.set_device_issuance(SCOPE, "gateway", None).unwrap();
    assert_eq!(device.register_with(json!({"csr": csr})).await.status, 400);

    let none = simulator.set_device_issuance(SCOPE, "dev", policy(60));
    assert!(matches!(none, Err(ControlError::NoIndividualEnrollment(_))));
    let zero = simulator.set_group_issuance(SCOPE, GROUP, policy(0)).unwrap_err();
    assert_eq!(zero.to_string(), "group.issuance.validity: must be more than 0");
    assert!(matches!(
        simulator.set_device_issuance(SCOPE, "gateway", policy(0)),
        Err(ControlError::Invalid(_))
    ));
}

#[tokio::test]
async fn a_device_with_a_certificate_gets_one_besides() {
    let root = Identity::root("fleet-root");
    let simulator = start(|config| {
        let scope = &mut config.id_scopes[0];
        let group = EnrollmentGroup::x509("lorries", root.certificate());
        scope.enrollment_groups.push(EnrollmentGroup { issuance: policy(60), ..group });
        scope.certificate_authorities.push(root.authority("root", true));
    })
    .await;
    let own = root.device("truck-1");
    let mut device = Device::with_certificate(&simulator, "truck-1", own.presented(&[])).await.unwrap();
    device.api_version = VERSION.to_owned();
    let issued = leaf(&provision(&mut device, &csr("truck-1")).await);
    for certificate in [&own.certificate(), &issued] {
        assert!(simulator.accepts_device_certificate(SCOPE, "truck-1", certificate));
    }
}

#[tokio::test]
async fn faults_lose_a_chain_that_was_issued() {
    let simulator = start(|_| {}).await;
    let mut device = connect(&simulator, "dev").await;
    let body = json!({"csr": csr("dev")});
    simulator.inject(Fault::device("dev", FaultAction::status(503)).times(1)).unwrap();
    device.register_with(body.clone()).await;
    let unseen = simulator.ledger().pop().unwrap();
    assert_eq!((unseen.csr, unseen.issued), (true, None));

    simulator.set_assign_at_once(true);
    simulator.inject(Fault::device("dev", FaultAction::status(503)).times(1).after_processing()).unwrap();
    assert_eq!(device.register_with(body.clone()).await.status, 503);
    assert!(simulator.ledger().pop().unwrap().issued.is_some());

    let failed = FaultAction::Outcome {
        status: RegistrationStatus::Failed,
        error_code: Some(400_207),
        error_message: None,
    };
    simulator.inject(Fault::device("dev", failed).on(OperationKind::Register).times(1)).unwrap();
    let state = device.register_with(body).await.json()["registrationState"].take();
    assert_eq!((&state["status"], state.get("issuedCertificateChain")), (&json!("failed"), None));
}
