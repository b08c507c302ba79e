//! The bytes of a CA bundle.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::api::integration::CaBundleRef;
use crate::api::references::Referred;
use crate::controller::integration::ca_bundle as report;
use crate::dps::ca_bundle::CaBundle;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
const PRIVATE_KEY: &str = "it holds a private key, which has no business there";
const BROKEN: [&str; 3] =
    ["has no end", "is damaged: it is not base64", "is damaged: it is no X.509 certificate"];
/// Longest message, beside the names of ConfigMap and key.
const MESSAGE_MAX: usize = 600;

const GOOD: &str = include_str!("certificate.pem");
static GOOD_DER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let body: String = GOOD.lines().filter(|line| !line.starts_with(DASHES)).collect();
    STANDARD.decode(body).unwrap_or_default()
});

pub fn ca_bundle(data: &[u8]) {
    let (used, message) = read(data);
    is_well_said(data, used, &message);
    if is_text(data) {
        let (more, _) = read(&[data, b"\n", GOOD.as_bytes()].concat());
        assert!(more == used || more == used + 1, "{used} certificates, and {more} with one more");
        assert!(uses_the_good_one(&[data, b"\n", GOOD.as_bytes()].concat()), "a good certificate is lost");
    }
}

/// How many certificates are used, and what the integration says of the rest.
fn read(data: &[u8]) -> (usize, String) {
    let ca = CaBundleRef { name: "roots".to_owned(), key: "ca.crt".to_owned() };
    let referred = Referred::Present {
        data: [("ca.crt".to_owned(), Zeroizing::new(data.to_vec()))].into_iter().collect(),
        generated: false,
        version: "1".to_owned(),
    };
    let bytes = match report::bytes(&ca, &referred) {
        Ok(bytes) => bytes,
        Err(refused) => return (0, refused.message),
    };
    match CaBundle::read(&bytes) {
        Ok(CaBundle { certificates, flaws }) => {
            let said = report::warning(Some(&ca), &flaws).unwrap_or_default();
            (certificates.len(), said.replace("is used as CA bundle, but ", ""))
        }
        Err(error) => {
            let said = report::unusable(Some(&ca), &error).message;
            (0, said.replace("cannot be used as CA bundle: none of its certificates can be used: ", ""))
        }
    }
}

fn uses_the_good_one(data: &[u8]) -> bool {
    CaBundle::read(data).is_ok_and(|bundle| bundle.certificates.iter().any(|der| **der == **GOOD_DER))
}

/// Certificates that are left out are counted and named by number and line, and nothing else is said.
fn is_well_said(data: &[u8], used: usize, message: &str) {
    assert!(message.len() <= MESSAGE_MAX, "{} bytes", message.len());
    let said = message.strip_prefix("Key \"ca.crt\" of ConfigMap \"roots\" ").unwrap_or(message);
    let said = said.strip_suffix(". Correct it; it is noticed at once.").unwrap_or(said);
    let none = [
        "",
        "is larger than 256 KiB.",
        "cannot be used as CA bundle: it holds no certificate, in PEM or DER",
    ];
    let rest =
        said.strip_suffix(PRIVATE_KEY).map_or(said, |rest| rest.strip_suffix(", and ").unwrap_or(rest));
    if none.contains(&rest) {
        assert!(rest.is_empty() || used == 0, "{used} are used: {message}");
        return;
    }
    let (named, further) = match rest.split_once(", and ") {
        Some((named, further)) => (named, further.strip_suffix(" more").and_then(|n| n.parse().ok())),
        None => (rest, Some(0)),
    };
    let named: Vec<_> = named.split(", ").map(|name| left_out(data, name)).collect();
    let (Some(further), Some(Some((_, of)))) = (further, named.first()) else {
        unreachable!("{message:?} says something else")
    };
    let numbers: Vec<usize> = named.iter().flatten().map(|(number, _)| *number).collect();
    let ascending = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = numbers.iter().all(|number| (1..=*of).contains(number));
    let same = named.iter().all(|name| name.is_some_and(|(_, other)| other == *of));
    assert!(ascending && in_range && same, "{message}");
    assert!(named.len() <= 3 && (further == 0 || named.len() == 3), "{message}");
    assert!(used + named.len() + further <= *of, "{used} are used: {message}");
    let most = if is_text(data) { occurrences(data, BEGIN.as_bytes()) } else { data.len() };
    assert!(*of <= most, "there are {most} at most: {message}");
}

/// Number and count out of `certificate 2 of 3 (line 4) has no end`; the line is where one begins.
fn left_out(data: &[u8], name: &str) -> Option<(usize, usize)> {
    let (number, rest) = name.strip_prefix("certificate ")?.split_once(" of ")?;
    let (of, rest) = rest.split_once(' ')?;
    let why = match rest.strip_prefix("(line ") {
        Some(rest) => {
            let (line, why) = rest.split_once(") ")?;
            let line = data.split(|byte| *byte == b'\n').nth(line.parse::<usize>().ok()?.checked_sub(1)?);
            assert!(
                !is_text(data) || line.is_some_and(|line| occurrences(line, BEGIN.as_bytes()) > 0),
                "{name}"
            );
            why
        }
        None => rest,
    };
    BROKEN.contains(&why).then_some((number.parse().ok()?, of.parse().ok()?))
}

fn occurrences(data: &[u8], what: &[u8]) -> usize {
    data.windows(what.len()).filter(|window| *window == what).count()
}

/// Neither DER nor UTF-16.
fn is_text(data: &[u8]) -> bool {
    !matches!(data, [0x30, 0x81..=0x83, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
}
