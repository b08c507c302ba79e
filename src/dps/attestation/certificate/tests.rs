use dps_dev::pki::Identity;
use rcgen::{CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose};

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dps/attestation/certificate/fixtures");
const ID: &str = "truck-1";

fn id() -> RegistrationId {
    RegistrationId::parse(ID).unwrap()
}

fn files(certificates: &str, key: &str) -> TlsFiles {
    let key = Zeroizing::new(key.as_bytes().to_vec());
    TlsFiles { certificates: certificates.as_bytes().to_vec(), key, authority: None }
}

fn read(certificates: &str, key: &str) -> Result<DeviceCertificate, CertificateProblem> {
    DeviceCertificate::read(files(certificates, key), &id())
}

fn root() -> Identity {
    Identity::root("fleet-root").unwrap()
}

/// What is said of a device's certificate that differs like this from a good one.
fn problem(change: impl FnOnce(&mut CertificateParams)) -> Option<CertificateProblem> {
    let device = root().device_with(ID, change).unwrap();
    read(&device.pem, &device.key_pem()).err()
}

#[test]
fn a_chain_in_order_is_read_whatever_stands_between_and_with_or_without_its_root() {
    let root = root();
    let upper = root.intermediate("upper").unwrap();
    let lower = upper.intermediate("lower").unwrap();
    let device = lower.device(ID).unwrap();
    let chain = device.chain(&[&lower, &upper]);
    for text in [
        chain.clone(),
        chain.replace('\n', "\r\n"),
        format!("Bag Attributes\n    friendlyName: truck-1\n{chain}\ntrailing words\n"),
        device.chain(&[&lower, &upper, &root]),
    ] {
        let certificate = read(&text, &device.key_pem()).unwrap();
        assert_eq!(certificate.facts().issuer, "CN=lower");
        assert_eq!(certificate.reveal().certificates, text.as_bytes());
    }
    let certificate = read(&chain, &device.key_pem()).unwrap();
    assert_eq!(certificate.facts().last, ("CN=upper".to_owned(), "CN=fleet-root".to_owned()));
    assert_eq!(certificate.certified().cert.len(), 3);
}

#[test]
fn its_id_is_how_the_thumbprint_begins_that_the_hub_has() {
    let device = root().device(ID).unwrap();
    let certificate = read(&device.pem, &device.key_pem()).unwrap();
    let shown = dps_simulator::Certificate::from_pem(&device.pem).unwrap().thumbprint();
    assert_eq!(certificate.id().to_string(), shown.as_str()[..16].to_lowercase());
    assert!(!format!("{certificate:?} {:?}", certificate.reveal()).contains("PRIVATE"));
}

#[test]
fn both_thumbprints_are_shown_as_openssl_shows_them() {
    let text = |name| std::fs::read_to_string(format!("{FIXTURES}/{name}")).unwrap();
    let certificate = read(&text("p-384.crt"), &text("p-384.key")).unwrap();
    assert_eq!(
        certificate.facts().shown_thumbprints(),
        "SHA-256 2323B0EBFA8B6978F7155D6F707F8F30700B357A90894E652D2DD0BE503ABF81, SHA-1 0DEF7A9D88A4C1F21DA364638EE806DCEC006087"
    );
}

#[test]
fn a_ca_is_known_by_its_name_and_its_key() {
    let (one, other, namesake) = (root(), Identity::root("other-root").unwrap(), root());
    let ca_if = |issuer: &Identity, names_key| {
        let named =
            |params: &mut CertificateParams| params.use_authority_key_identifier_extension = names_key;
        let device = issuer.device_with(ID, named).unwrap();
        read(&device.pem, &device.key_pem()).unwrap().facts().ca
    };
    let ca_of = |issuer: &Identity| ca_if(issuer, true);
    assert_eq!(ca_of(&one), ca_of(&one), "in all that it issues");
    assert_ne!(ca_of(&one), ca_of(&other));
    assert_ne!(ca_of(&one), ca_of(&namesake), "the certificates name its key");
    assert_eq!(ca_if(&one, false), ca_if(&namesake, false), "they do not");
    let shown = ca_of(&one).unwrap().to_string();
    assert_eq!(CaId::parse(&shown), ca_of(&one));
    for text in ["", "00", "000000000000000g", "00000000000000000"] {
        assert_eq!(CaId::parse(text), None, "{text}");
    }
    let own = Identity::own(ID).unwrap();
    assert_eq!(read(&own.pem, &own.key_pem()).unwrap().facts().ca, None, "it has signed itself");
}

#[test]
fn keys_are_read_in_every_form_and_kinds_that_cannot_be_used_are_named() {
    let read_files = |certificate: &str, key: &str| {
        let text = |name: &str| std::fs::read_to_string(format!("{FIXTURES}/{name}")).unwrap();
        read(&text(certificate), &text(key))
    };
    for (certificate, key) in [
        ("rsa-2048.crt", "rsa-2048.key"),
        ("rsa-2048.crt", "rsa-2048.pkcs1.key"),
        ("p-384.crt", "p-384.key"),
        ("p-384.crt", "p-384.sec1.key"),
        ("ed25519.crt", "ed25519.key"),
        // Of version 1, as "openssl x509 -req" makes them without extensions.
        ("v1.crt", "p-384.key"),
    ] {
        assert!(
            read_files(certificate, key).is_ok(),
            "{certificate} {key}: {:?}",
            read_files(certificate, key)
        );
    }
    for (name, kind) in [
        ("rsa-1024", "RSA with 1024 bits"),
        ("rsa-8192", "RSA with 8192 bits"),
        ("p-521", "ECDSA with P-521"),
        ("k1", "ECDSA with curve 1.3.132.0.10"),
    ] {
        let refused = read_files(&format!("{name}.crt"), &format!("{name}.key")).unwrap_err();
        assert_eq!(refused, CertificateProblem::KeyKind(kind.to_owned()), "{refused}");
    }
    let encrypted = read_files("rsa-2048.crt", "rsa-2048.encrypted.key").unwrap_err();
    assert_eq!(encrypted, CertificateProblem::EncryptedKey);
    // Of one kind and of two.
    assert_eq!(read_files("p-384.crt", "rsa-2048.key").unwrap_err(), CertificateProblem::OtherKey);
    let other = root().device(ID).unwrap();
    let device = root().device(ID).unwrap();
    assert_eq!(read(&device.pem, &other.key_pem()).unwrap_err(), CertificateProblem::OtherKey);
}

#[test]
fn what_is_no_pair_of_pem_files_is_named() {
    let device = root().device(ID).unwrap();
    let (pem, key) = (device.pem.clone(), device.key_pem());
    let cut = &pem[..pem.len() / 2];
    let scrambled = pem.replacen("MII", "!!!", 1);
    let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut_key = &key[..key.len() / 2];
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let twice = format!("{key}{key}");
    let many = pem.repeat(11);
    let large = format!("{pem}{}", " ".repeat(CHAIN_MAX));
    let large_key = format!("{key}{}", " ".repeat(KEY_MAX));
    for (certificates, key, expected) in [
        ("", &*key, CertificateProblem::Empty("tls.crt")),
        ("\n", &key, CertificateProblem::Empty("tls.crt")),
        (&pem, "", CertificateProblem::Empty("tls.key")),
        (&large, &key, CertificateProblem::TooLarge { what: "tls.crt", most: 64 }),
        (&pem, &large_key, CertificateProblem::TooLarge { what: "tls.key", most: 16 }),
        ("not PEM", &key, CertificateProblem::NoCertificate),
        (&key, &key, CertificateProblem::NoCertificate),
        (cut, &key, CertificateProblem::Damaged(1)),
        (&scrambled, &key, CertificateProblem::Damaged(1)),
        (der, &key, CertificateProblem::Damaged(1)),
        (&many, &key, CertificateProblem::TooMany(10)),
        (&pem, "not PEM", CertificateProblem::NoKey),
        (&pem, &pem, CertificateProblem::NoKey),
        (&pem, cut_key, CertificateProblem::DamagedKey),
        (&pem, not_a_key, CertificateProblem::DamagedKey),
        (&pem, &twice, CertificateProblem::SeveralKeys),
    ] {
        assert_eq!(read(certificates, key).unwrap_err(), expected);
    }
}

#[test]
fn the_common_name_is_the_registration_id_in_any_case_and_there_is_one() {
    let named = |name: &str| {
        let device = root().device(name).unwrap();
        read(&device.pem, &device.key_pem()).err()
    };
    assert_eq!((named("truck-1"), named("Truck-1")), (None, None));
    let found =
        |found: &str| Some(CertificateProblem::CommonName { found: found.to_owned(), id: ID.to_owned() });
    assert_eq!(named("truck-2"), found("truck-2"));
    assert_eq!(named("truck-1.fleet"), found("truck-1.fleet"));
    assert_eq!(named("truck-1\0"), found("truck-1?"));
    assert_eq!(named("truck-1 "), found("truck-1 "));
    assert_eq!(named("trück-1"), found("trück-1"));
    assert_eq!(named("truck-\"1"), found("truck-?1"));
    let none = |params: &mut CertificateParams| {
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, ID);
    };
    assert_eq!(problem(none), Some(CertificateProblem::NoCommonName(ID.to_owned())));
    let wide = |params: &mut CertificateParams| {
        let name = DnValue::BmpString("truck-1".try_into().unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
    };
    assert!(matches!(problem(wide), Some(CertificateProblem::CommonName { .. })));

    let long = RegistrationId::parse(&"a".repeat(65)).unwrap();
    let device = root().device(&"a".repeat(65)).unwrap();
    let refused = DeviceCertificate::read(files(&device.pem, &device.key_pem()), &long).unwrap_err();
    assert_eq!(refused, CertificateProblem::LongId);
}

#[test]
fn a_cas_certificate_a_servers_and_cert_managers_throw_away_one_are_refused() {
    let ca = Identity::root(ID).unwrap();
    let refused = read(&ca.pem, &ca.key_pem()).unwrap_err();
    assert_eq!(refused, CertificateProblem::Authority("CN=truck-1".to_owned()));

    let usages = |usages: &[ExtendedKeyUsagePurpose]| {
        let usages = usages.to_vec();
        problem(|params| params.extended_key_usages = usages)
    };
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    for accepted in [&[][..], &[ClientAuth], &[ServerAuth, ClientAuth], &[Any]] {
        assert_eq!(usages(accepted), None, "{accepted:?}");
    }
    assert_eq!(usages(&[ServerAuth]), Some(CertificateProblem::NotForClients));

    let serial = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "1234567890");
    };
    let temporary = Identity::root("cert-manager.local").unwrap().device_with(ID, serial).unwrap();
    let refused = read(&temporary.pem, &temporary.key_pem()).unwrap_err();
    assert_eq!(refused, CertificateProblem::Temporary);
    assert_eq!(problem(serial), None, "a serial number alone");
    let named = Identity::root("cert-manager.local").unwrap().device(ID).unwrap();
    assert!(read(&named.pem, &named.key_pem()).is_ok(), "a CA of that name");
}

#[test]
fn a_chain_out_of_order_is_named_and_not_repaired() {
    let root = root();
    let upper = root.intermediate("upper").unwrap();
    let lower = upper.intermediate("lower").unwrap();
    let device = lower.device(ID).unwrap();
    let order = |above: &[&Identity]| read(&device.chain(above), &device.key_pem()).unwrap_err();
    let out_of = |at, subject: &str, next: &str| CertificateProblem::Order {
        at,
        subject: subject.to_owned(),
        next: next.to_owned(),
    };
    assert_eq!(order(&[&upper, &lower]), out_of(1, "CN=truck-1", "CN=upper"));
    assert_eq!(order(&[&upper]), out_of(1, "CN=truck-1", "CN=upper"));
    assert_eq!(order(&[&lower, &root]), out_of(2, "CN=lower", "CN=fleet-root"));
    let impostor = Identity::root("lower").unwrap();
    assert_eq!(order(&[&impostor]), out_of(1, "CN=truck-1", "CN=lower"));
    assert_eq!(
        read(&lower.chain(&[&device]), &device.key_pem()).unwrap_err(),
        CertificateProblem::Authority("CN=lower".to_owned())
    );
}

#[test]
fn its_time_is_judged_by_the_clock_with_five_minutes_for_others() {
    let device = root()
        .device_with(ID, |params| {
            params.not_before = rcgen::date_time_ymd(2026, 1, 2);
            params.not_after = rcgen::date_time_ymd(2026, 4, 2);
        })
        .unwrap();
    let certificate = read(&device.pem, &device.key_pem()).unwrap();
    let facts = certificate.facts();
    assert_eq!(facts.expires().to_string(), "2026-04-02T00:00:00Z");
    let (from, until) = (facts.not_before, facts.not_after);
    for (now, expected) in [
        (from - 301, Validity::NotYet(from)),
        (from - 300, Validity::Valid),
        (until - 1, Validity::Valid),
        (until, Validity::Expired),
    ] {
        assert_eq!(facts.validity(now), expected, "{now}");
    }
}
