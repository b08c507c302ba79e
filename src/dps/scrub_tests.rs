use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha512};

use super::*;

fn message(text: &str) -> String {
    Shown::message(text).map(String::from).unwrap_or_default()
}

#[test]
fn what_dps_and_proxies_say_is_shown_as_it_is() {
    for text in [
        "Unauthorized",
        "Operation not found",
        "Id scope not found.",
        "Precondition failed",
        "IotHubUnauthorizedAccess",
        "Custom allocation failed with status code: 500",
        "An error occurred while sending the request.",
        "The registration id device-1 of scope 0ne00A1B2C3 is not known",
        "IoT Hub contoso-eu.azure-devices.net is not linked: DeviceNotFound (404001)",
        "The request body is not valid JSON at line 1, column 12",
        "Blocked by policy, see https://proxy.example/help",
    ] {
        assert_eq!(message(text), text);
    }
}

#[test]
fn a_key_or_signature_in_a_message_is_not_shown() {
    let text = "bad sig 8VPprb8BiTkuVE0hBqHm/SVrzVpdD8VZcXugntdbhuU= for device-1\n\u{1b}[31m";
    assert_eq!(message(text), "bad sig … for device-1 [31m");
    let run = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4";
    assert_eq!(message(&format!("bad token {run} for you\u{1b}[31m")), "bad token … for you[31m");
    let header = "SharedAccessSignature sr=0ne1%2Fregistrations%2Ftruck-1&sig=gR%2FHiIWkwqWn7ey1r%2BnHby%2FJGIFljyD%2B&se=1&skn=registration";
    assert!(!message(header).contains("HiIW") && !message(header).contains("wqWn7"), "{}", message(header));
}

#[test]
fn a_message_is_short_and_printable() {
    let long = "word ".repeat(1000);
    assert!(message(&long).chars().count() <= MESSAGE_MAX);
    assert_eq!(message("äöü\u{202e}x\r\ny"), "x  y");
    assert_eq!(Shown::message(" \u{202e} "), None);
}

#[test]
fn a_tracking_id_looks_like_one() {
    let guid = "b1dafdfd-d634-4bfe-9061-804d9ded6ce8";
    for (text, expected) in [
        (guid, Some(guid)),
        ("b1dafdfd-d634-4bfe-9061-804d9ded6ce8-G:10-TimeStamp:08/16/2026 17:00:00", Some(guid)),
        ("t-1", Some("t-1")),
        ("", None),
        ("b1dafdfd-d634-4bfe-9061-804d9ded6ce80", None),
        ("8VPprb8BiTkuVE0hBqHm/SVrzVpdD8VZcXugntdbhuU=", None),
        ("truck 1\n", None),
    ] {
        assert_eq!(Shown::tracking_id(text).as_ref().map(Shown::as_str), expected, "{text}");
    }
}

#[test]
fn fields_are_kept_if_they_look_like_what_they_are() {
    let kept = |shown: Option<Shown>, text: &str| assert_eq!(shown.map(String::from).as_deref(), Some(text));
    for name in [
        "fleet",
        "factory-eu-2",
        "contoso-weighing-machines-production",
        "line7_Warsaw.A",
        "initialAssignment",
        "deviceDataMigrated",
        "deviceDataReset",
        "reprovisionedToInitialAssignment",
        "b1dafdfd-d634-4bfe-9061-804d9ded6ce8",
    ] {
        kept(Shown::name(name), name);
    }
    for etag in ["ImI0NjIyYzZjLTg1ODYtYmJhNC00M2E3LWYwYTk2MzUzY2I2MCI=", "abc", "\"1\""] {
        kept(Shown::etag(etag), etag);
    }
    for time in ["2026-01-01T00:00:00.1234567Z", "2026-11-27T04:07:11+00:00", "2026-11-27T04:07:11"] {
        kept(Shown::time(time), time);
    }
    assert_eq!(Shown::time("yesterday"), None);
    let others =
        ["another, quite long etag", "yet another, quite long etag"].map(|text| Shown::etag(text).unwrap());
    assert!(others[0] != others[1] && others[0].as_str().len() < 20, "{others:?}");
}

#[test]
fn an_etag_is_short_however_many_quotes_stand_around_its_guid() {
    let guid = "b1dafdfd-d634-4bfe-9061-804d9ded6ce8";
    for (quotes, kept) in [(0, true), (1, true), (2, false), (10_000, false)] {
        let quotes = "\"".repeat(quotes);
        let text = STANDARD.encode(format!("{quotes}{guid}{quotes}"));
        let shown = Shown::etag(&text).unwrap();
        assert_eq!(shown.as_str() == text, kept, "{}", quotes.len());
        assert!(shown.as_str().len() <= FIELD_MAX);
    }
}

/// A secret of this many bytes in each encoding that an echo may have.
fn encodings(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD.encode(secret);
    let escaped = crate::dps::ids::escape(&base64);
    vec![
        base64.clone(),
        URL_SAFE.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        escaped.clone(),
        escaped.replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        crate::dps::ids::escape(&escaped),
        hex.to_uppercase(),
        hex,
        STANDARD.encode(&base64),
    ]
}

/// The text, cut into pieces of these lengths in turn.
fn cut(text: &str, lengths: &[usize], between: &str) -> String {
    let (mut rest, mut pieces, mut turn) = (text, Vec::new(), 0);
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(lengths[turn % lengths.len()].min(rest.len()));
        pieces.push(piece);
        rest = others;
        turn += 1;
    }
    pieces.join(between)
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '…').collect()
}

/// Twelve characters of the secret in a row that the text still shows.
fn leak<'a>(secret: &'a str, shown: &str) -> Option<&'a str> {
    (0..=secret.len().saturating_sub(SECRET))
        .map(|at| &secret[at..at + SECRET])
        .find(|part| shown.contains(part))
}

/// Not random, so that it says the same each time; digests, so that the secrets look random.
#[test]
fn twelve_characters_of_a_secret_are_never_shown() {
    let between = ["", " ", "-", ".", ", ", ":", "/", "\n", "_", "\u{200b}", "%20", " - "];
    let before = ["", "sig=", "The token ", "bad sig ", "for "];
    let after = ["", "&se=1", " is not valid", " for you", "="];
    for seed in 0_u32..4000 {
        let [secret, chosen] =
            [0_u8, 1].map(|which| Sha512::digest([&seed.to_be_bytes()[..], &[which]].concat()));
        let choose = |at: usize, of: usize| usize::from(chosen[at]) % of;
        let encoded = encodings(&secret[..32 + choose(0, 33)]).swap_remove(choose(1, 9));
        let lengths: Vec<usize> = (0..=choose(2, 4)).map(|at| 1 + choose(10 + at, 15)).collect();
        let between = between[choose(3, between.len())];
        let lengths = if between.is_empty() { vec![usize::MAX] } else { lengths };
        let text =
            format!("{}{}{}", before[choose(4, 5)], cut(&encoded, &lengths, between), after[choose(5, 5)]);
        let plain = squeezed(&encoded);
        let fields = [
            Shown::message(&text),
            Shown::name(&text),
            Shown::tracking_id(&text),
            Shown::etag(&text),
            Shown::time(&text),
        ];
        for shown in fields.into_iter().flatten() {
            let shown = squeezed(shown.as_str());
            assert_eq!(leak(&plain, &shown), None, "{seed}: {shown} of {text}");
        }
    }
}
