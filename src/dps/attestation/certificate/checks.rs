//! What a chain and its key have to be like for DPS to take them.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519,
    OID_X509_SERIALNUMBER,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::{CaId, CertificateFacts, CertificateProblem, portal_thumbprint, thumbprint};
use crate::dps::ids::RegistrationId;

/// Longest common name (X.520, ub-common-name).
const COMMON_NAME_MAX: usize = 64;
/// Longest text of a foreign name that is shown.
const SHOWN_MAX: usize = 128;
/// What cert-manager's throw-away certificates have as issuer and as serial number of the subject
/// (pkg/util/pki/temporarycertificate.go).
const TEMPORARY_ISSUER: &str = "cert-manager.local";
const TEMPORARY_SERIAL_NUMBER: &str = "1234567890";

/// Checks the chain of the device with this registration id, but for dates.
pub(super) fn chain(
    chain: &[CertificateDer<'static>],
    id: &RegistrationId,
) -> Result<CertificateFacts, CertificateProblem> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (place, der) in chain.iter().enumerate() {
        let damaged = |_| CertificateProblem::Damaged(place + 1);
        let (rest, certificate) = X509Certificate::from_der(der).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(CertificateProblem::Damaged(place + 1));
        }
        parsed.push(certificate);
    }
    let (Some(leaf), Some(last)) = (parsed.first(), parsed.last()) else {
        return Err(CertificateProblem::NoCertificate);
    };
    self::leaf(leaf, id)?;
    order(&parsed)?;
    let first: &[u8] = chain.first().map_or(&[], |der| der);
    Ok(CertificateFacts {
        thumbprint: thumbprint(first),
        portal_thumbprint: portal_thumbprint(first),
        issuer: shown(leaf.issuer()),
        ca: ca(leaf),
        last: (shown(last.subject()), shown(last.issuer())),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    })
}

fn leaf(leaf: &X509Certificate<'_>, id: &RegistrationId) -> Result<(), CertificateProblem> {
    if is_temporary(leaf) {
        return Err(CertificateProblem::Temporary);
    }
    if leaf.is_ca() {
        return Err(CertificateProblem::Authority(shown(leaf.subject())));
    }
    if id.as_str().len() > COMMON_NAME_MAX {
        return Err(CertificateProblem::LongId);
    }
    common_name(leaf, id)?;
    let usage = leaf.extended_key_usage().map_err(|_| CertificateProblem::Damaged(1))?;
    if usage.is_some_and(|usage| !usage.value.client_auth && !usage.value.any) {
        return Err(CertificateProblem::NotForClients);
    }
    Ok(())
}

fn common_name(leaf: &X509Certificate<'_>, id: &RegistrationId) -> Result<(), CertificateProblem> {
    let mut names = leaf.subject().iter_common_name();
    let Some(name) = names.next() else {
        return Err(CertificateProblem::NoCommonName(id.as_str().to_owned()));
    };
    if names.next().is_some() {
        return Err(CertificateProblem::SeveralCommonNames);
    }
    let name = name.as_str().unwrap_or_default();
    if name.eq_ignore_ascii_case(id.as_str()) {
        return Ok(());
    }
    Err(CertificateProblem::CommonName { found: printable(name), id: id.as_str().to_owned() })
}

/// The CA that has issued it; `None` if it has signed itself.
fn ca(leaf: &X509Certificate<'_>) -> Option<CaId> {
    let issuer = leaf.issuer().as_raw();
    let key = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    });
    (issuer != leaf.subject().as_raw()).then(|| CaId::new(issuer, key.map(|key| key.0)))
}

fn is_temporary(leaf: &X509Certificate<'_>) -> bool {
    let mut issuers = leaf.issuer().iter_common_name();
    let mut serials = leaf.subject().iter_by_oid(&OID_X509_SERIALNUMBER);
    issuers.any(|name| name.as_str() == Ok(TEMPORARY_ISSUER))
        && serials.any(|serial| serial.as_str() == Ok(TEMPORARY_SERIAL_NUMBER))
}

/// Each is issued by the one after it. A signature of a kind that cannot be checked here is DPS's to judge.
fn order(chain: &[X509Certificate<'_>]) -> Result<(), CertificateProblem> {
    for (place, pair) in chain.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        let named = one.issuer().as_raw() == next.subject().as_raw();
        let signed = match one.verify_signature(Some(next.public_key())) {
            Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => true,
            Err(_) => false,
        };
        if !(named && signed) {
            let (subject, next) = (shown(one.subject()), shown(next.subject()));
            return Err(CertificateProblem::Order { at: place + 1, subject, next });
        }
    }
    Ok(())
}

/// The key with which the first certificate of the chain can be used.
pub(super) fn key(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateProblem> {
    let leaf = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
    let Some((_, leaf)) = leaf else { return Err(CertificateProblem::NoCertificate) };
    if let Some(kind) = unusable_kind(leaf.public_key()) {
        return Err(CertificateProblem::KeyKind(kind));
    }
    let signing = any_supported_type(&key).map_err(|_| CertificateProblem::DamagedKey)?;
    let own = signing.public_key().ok_or(CertificateProblem::DamagedKey)?;
    // As rustls compares, which reads certificates of version 3 only.
    if *own == *leaf.public_key().raw {
        Ok(CertifiedKey::new(chain.to_vec(), signing))
    } else {
        Err(CertificateProblem::OtherKey)
    }
}

/// The name of a kind of key that cannot be used.
fn unusable_kind(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return None;
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => None,
            Some(curve) if curve == OID_NIST_EC_P521 => Some("ECDSA with P-521".to_owned()),
            Some(curve) => Some(format!("ECDSA with curve {curve}")),
            None => Some("ECDSA without a named curve".to_owned()),
        };
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2048..=4096).contains(&rsa.key_size()) => None,
        Ok(PublicKey::RSA(rsa)) => Some(format!("RSA with {} bits", rsa.key_size())),
        Ok(_) | Err(_) => Some(format!("algorithm {algorithm}")),
    }
}

fn shown(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

/// What others have written into a certificate, short and in one line.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '"' { '?' } else { c };
    text.chars().take(SHOWN_MAX).map(plain).collect()
}
