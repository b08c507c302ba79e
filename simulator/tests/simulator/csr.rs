//! Signing requests that come with a registration: which are accepted, which are refused.

use dps_simulator::Running;
use dps_simulator::config::{CommonNameCase, CsrUnderOtherVersion, IssuanceOverHttps};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};
use serde_json::{Value, json};

use crate::device::{self, Answer, Device, GROUP, SCOPE, base64, error};
use crate::issuance::{self, chain};

/// By openssl, with RSA 2048 and P-521; both for `dev`.
const RSA: &str = "MIICUzCCATsCAQAwDjEMMAoGA1UEAwwDZGV2MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqId101KN+tf7\
+cFTj+hV9MW2tTXU52aF+Q/aUrAck3r2hzevNJM/RTRvl7hn/yf4W09GSEID4uSpcsz1FjqJ2zviUEjiEGNG+/TtUf15mDojCHXfvgOvdox4\
9MkG+N48ub91qwGZT9GPNK5Mc/3fMo0e1uR28iKMYQwSXXBXOOwZprS2034ZMlDs1fFVJT+6lATWyFsnVCYtiljBKvs4f0Si6gUgIwJEaa+O\
r5BOzPqy9ADoO2NjNxrA83V8BR0hrf9DAqPlqKEhtdTqFWg8S8MT07dEi0jV3zo6XxOF/fLW/v9qXQ6vSra3mA0Rzm/kkLc7zVz91hpV1uVV\
21pCcwIDAQABoAAwDQYJKoZIhvcNAQELBQADggEBAGiGgoBUaTUiMZPuLDQVYCxZXZhqwCKUKxYvoc2wJcU5YsixbOzzVcl++L3/3w4KR5N5\
mxucfqQcdoxH/x/PDrIwh0Rw/yXN14kz7NzsNFYXyYjHWR7dFcukhwdYPwQseYaWtrSWDspxiQnGA1nrcDq9dFzWkbmVfy8yE4o624lRn1iM\
FUKTF7oGJRXotGrNzliMKcpLl9Kq3XKT64I8iUt8Sr0UEIYYA1PM4XT0UB+hDkJIaS/G24Z19VxG20ATmhAJ1TrTKO0KU3ztn9jm4bUtD7am\
kbVm+xRUJWFaeTanUFDRYDA67BLo/HjmL4jDtoxS0hysUANIbDnGmFNscBU=";
const P521: &str = "MIIBUTCBswIBADAOMQwwCgYDVQQDDANkZXYwgZswEAYHKoZIzj0CAQYFK4EEACMDgYYABACSMLvUpaLl8BtZtVzPrie3\
gbT9MAuVVognN9cmXyJgkAzlcAyXx1pscehp8g5/7gRnaDM5sPfEhCVCy+v0oC29wgGHaK8osV/FPaD/UFfMa5D0Zt3GXQc8QHvfwCxoblOL\
wxaCdCW7awRyP870dRzzAtzLxGjgfUTHzKYOEvwKnNXdEKAAMAoGCCqGSM49BAMCA4GMADCBiAJCASmjwihqsVcTbXVRP4HEYVO/DOcwrNfd\
RVi/kJwGLDN4YCL6QGwYmYuwEf8bjgLhDYEl2uM2yNrlDmKrl5W5NgKEAkIBfioVUhJ5OXqsXWLiX1YWo0Fv8ZXXgewSDYqUwrmTQqkPyemH\
X10ivP8824D9fZKN08u/9vLIPCB9/8ekFTLaGQE=";

/// A signing request for this name, in base64 of DER.
pub fn csr(common_name: &str) -> String {
    base64(der(&PKCS_ECDSA_P256_SHA256, &[(DnType::CommonName, common_name)], |_| {}))
}

fn der(
    algorithm: &'static SignatureAlgorithm,
    subject: &[(DnType, &str)],
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, name) in subject {
        params.distinguished_name.push(kind.clone(), *name);
    }
    change(&mut params);
    let request = params.serialize_request(&KeyPair::generate_for(algorithm).unwrap()).unwrap();
    request.der().to_vec()
}

/// One for `dev` with an organization of so many letters.
fn with_organization(letters: usize) -> String {
    let organization = "x".repeat(letters);
    let subject = [(DnType::CommonName, "dev"), (DnType::OrganizationName, organization.as_str())];
    base64(der(&PKCS_ECDSA_P256_SHA256, &subject, |_| {}))
}

/// One whose subject has two common names: rcgen takes the second as some other attribute.
fn with_two_names() -> String {
    let subject = [(DnType::CommonName, "dev"), (DnType::CustomDnType(vec![2, 5, 4, 3]), "dev")];
    base64(der(&PKCS_ECDSA_P256_SHA256, &subject, |_| {}))
}

async fn register(simulator: &Running, id: &str, csr: &Value) -> Answer {
    let mut device = issuance::connect(simulator, id).await;
    device.register_with(json!({"registrationId": id, "csr": csr})).await
}

#[tokio::test]
async fn a_request_is_accepted_with_any_key_that_the_service_takes() {
    let simulator = issuance::start(|config| config.assign_at_once = true).await;
    let name = |text| [(DnType::CommonName, text)];
    let wishes = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example.net".try_into().unwrap())];
    };
    for (what, csr) in [
        ("P-256", csr("dev")),
        ("P-384", base64(der(&PKCS_ECDSA_P384_SHA384, &name("dev"), |_| {}))),
        ("RSA", RSA.to_owned()),
        ("upper case", csr("DEV")),
        ("long", with_organization(5_900)),
        ("what it wishes besides is not heard", base64(der(&PKCS_ECDSA_P256_SHA256, &name("dev"), wishes))),
    ] {
        assert!(csr.len() <= 8 * 1024);
        let done = register(&simulator, "dev", &json!(csr)).await;
        assert_eq!(done.status, 200, "{what}: {done:?}");
        issuance::check(&chain(&done.json()["registrationState"]), &csr, "dev", &simulator);
    }
}

#[tokio::test]
async fn a_request_that_is_none_or_not_the_devices_is_refused_and_nothing_is_registered() {
    let simulator = issuance::start(|_| {}).await;
    let good = der(&PKCS_ECDSA_P256_SHA256, &[(DnType::CommonName, "dev")], |_| {});
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        base64(&good)
    );
    let forged = {
        // The last byte of the name: the key has not signed that.
        let mut der = der(&PKCS_ECDSA_P256_SHA256, &[(DnType::CommonName, "det")], |_| {});
        let at = der.windows(3).position(|bytes| bytes == b"det").unwrap();
        der[at + 2] = b'v';
        base64(der)
    };
    let none = "The csr is no PKCS#10 request in base64 of DER.";
    let key = "The key of the csr is not ECDSA with P-256 or P-384, nor RSA.";
    let unsigned = "The csr is not signed with its own key.";
    let name = "The common name of the csr is not the registrationId.";
    for (csr, message) in [
        (json!(pem), none),
        (json!(""), none),
        (json!(7), none),
        (json!("no request"), none),
        (json!(base64(b"no request")), none),
        (json!(base64(&good[..good.len() - 1])), none),
        (json!(base64([&good[..], b"\0"].concat())), none),
        (json!(with_organization(6_300)), "The csr is larger than 8 KB."),
        (json!(P521), key),
        (json!(base64(der(&PKCS_ED25519, &[(DnType::CommonName, "dev")], |_| {}))), key),
        (json!(forged), unsigned),
        (json!(with_two_names()), name),
        (json!(csr("dev-2")), name),
        (json!(base64(der(&PKCS_ECDSA_P256_SHA256, &[], |_| {}))), name),
    ] {
        let refused = register(&simulator, "dev", &csr).await;
        assert_eq!(error(&refused), (400, 400_004), "{csr}");
        assert_eq!(refused.json()["message"], message, "{csr}");
        let entry = simulator.ledger().pop().unwrap();
        assert_eq!((entry.csr, entry.issued), (true, None));
    }
    assert_eq!(simulator.registration(SCOPE, "dev"), None);
    // One that is null is none.
    assert_eq!(register(&simulator, "dev", &Value::Null).await.status, 202);
    assert!(!simulator.ledger().pop().unwrap().csr);
}

/// Status and message of the answer to a registration with a signing request.
async fn refusal(device: &mut Device) -> (u16, Value) {
    let answer = device.register_with(json!({"csr": csr(&device.registration_id)})).await;
    (answer.status.as_u16(), answer.json()["message"].take())
}

#[tokio::test]
async fn without_a_policy_no_certificate_is_issued() {
    let simulator = device::start(device::config()).await;
    let mut device = issuance::connect(&simulator, "dev").await;
    let no_policy = (400, json!("The enrollment has no certificate policy."));
    assert_eq!(refusal(&mut device).await, no_policy);

    simulator.set_group_issuance(SCOPE, GROUP, issuance::policy(60)).unwrap();
    assert_eq!(refusal(&mut device).await.0, 202);
    simulator.set_group_issuance(SCOPE, GROUP, None).unwrap();
    assert_eq!(refusal(&mut device).await, no_policy);
    device.provision().await;
}

#[tokio::test]
async fn over_https_it_may_be_refused() {
    let refusing =
        issuance::start(|config| config.readings.issuance_over_https = IssuanceOverHttps::Refused).await;
    let mut device = issuance::connect(&refusing, "dev").await;
    assert_eq!(refusal(&mut device).await, (400, json!("Certificates are not issued over HTTPS.")));
    device.provision().await;
}

#[tokio::test]
async fn the_case_of_the_common_name_is_a_reading() {
    let exact = issuance::start(|config| config.readings.common_name_case = CommonNameCase::Exact).await;
    assert_eq!(error(&register(&exact, "dev", &json!(csr("DEV"))).await), (400, 400_004));
    assert_eq!(register(&exact, "dev", &json!(csr("dev"))).await.status, 202);
}

#[tokio::test]
async fn another_api_version_does_not_have_it() {
    let simulator = issuance::start(|_| {}).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let started = device.register_with(json!({"csr": 7})).await;
    assert_eq!(started.status, 202, "an unknown field is ignored");
    let done = device.poll(&started.operation_id()).await.json();
    assert_eq!(
        (&done["status"], done["registrationState"].get("issuedCertificateChain")),
        (&json!("assigned"), None)
    );
    let seen = simulator.ledger();
    assert!(seen[0].csr && seen.iter().all(|entry| entry.issued.is_none()));

    let refusing = issuance::start(|config| {
        config.readings.csr_under_other_version = CsrUnderOtherVersion::Refused;
    })
    .await;
    let mut device = Device::connect(&refusing, "dev").await;
    assert_eq!(refusal(&mut device).await, (400, json!("This api-version issues no certificates.")));
    device.provision().await;
}

#[tokio::test]
async fn the_api_versions_that_issue_are_a_setting() {
    let simulator =
        issuance::start(|config| config.issuance_api_versions = vec!["2027-01-01".to_owned()]).await;
    let mut device = issuance::connect(&simulator, "dev").await;
    assert_eq!(refusal(&mut device).await.1, "The api-version is missing or not supported.");
    device.api_version = "2027-01-01".to_owned();
    assert_eq!(refusal(&mut device).await.0, 202);
}

#[tokio::test]
async fn a_lookup_takes_no_request() {
    let simulator = issuance::start(|_| {}).await;
    let mut device = issuance::connect(&simulator, "dev").await;
    device.provision().await;
    let body = json!({"csr": csr("dev")}).to_string();
    let mut lookup = async |version: &str| {
        device.api_version = version.to_owned();
        let path = device.path("");
        device.send(http::Method::POST, &path, body.clone()).await.unwrap()
    };
    let refused = lookup(issuance::VERSION).await;
    assert_eq!(
        (error(&refused), &refused.json()["message"]),
        ((400, 400_004), &json!("A lookup takes no csr."))
    );
    assert_eq!(lookup("2021-06-01").await.status, 200);
}
