//! The certificate chain in DPS's answer to a registration that asked for a certificate. The first byte says how the rest
//! is read: as texts, one a line, or as the DER of each certificate behind its length (two bytes), of which the texts are
//! made here.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::certificate::is_a_pair;
use super::dps_answer::is_shown_safely;
use super::parts::{HUB, ID, suffixes, valid};
use crate::dps::attestation::certificate::{DeviceCertificate, TlsFiles};
use crate::dps::fuzz::read_issued;
use crate::dps::ids::RegistrationId;

/// The key that was made for the registration: for this one the certificates in the corpus were issued.
const KEY: &str = include_str!("issued_key.pem");
/// Most certificates in a chain.
const CHAIN_MAX: usize = 10;

pub fn issued_chain(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let chain = if choice % 2 == 0 { lines(data) } else { encoded(data) };
    let answer = json!({
        "status": "assigned",
        "registrationState": {
            "registrationId": ID, "deviceId": ID, "assignedHub": HUB, "status": "assigned",
            "issuedCertificateChain": chain,
        },
    });
    let id = valid(RegistrationId::parse(ID));
    let body = valid(serde_json::to_vec(&answer));
    match read_issued(body, &id, KEY, &suffixes()) {
        None => unreachable!("the operation has ended"),
        Some(Ok(assignment)) => {
            let issued = valid(assignment.issued.ok_or("it was asked for"));
            is_as_issued(&issued, &chain);
        }
        Some(Err(error)) => is_shown_safely(&error),
    }
}

fn lines(data: &[u8]) -> Vec<String> {
    data.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn encoded(mut data: &[u8]) -> Vec<String> {
    let mut chain = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (der, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        chain.push(STANDARD.encode(der));
        data = rest;
    }
    chain
}

/// What the Secret gets is the chain, whole and in its order, with the key that was made for it.
fn is_as_issued(issued: &Arc<DeviceCertificate>, chain: &[String]) {
    let TlsFiles { certificates, key, authority } = issued.reveal();
    assert_eq!(key.as_slice(), KEY.as_bytes(), "another key");
    assert!(!chain.is_empty() && chain.len() <= CHAIN_MAX, "{} certificates", chain.len());
    let files = certificates.iter().chain(authority.iter().flatten()).copied().collect::<Vec<u8>>();
    let written = valid(pem::parse_many(&files));
    let written: Vec<String> = written.iter().map(|one| STANDARD.encode(one.contents())).collect();
    assert_eq!(written, chain, "another chain");
    is_a_pair(&issued.credential(), certificates);
    assert!(!format!("{issued:?}").contains("PRIVATE"));
}
