//! The certificates of a CA bundle, as people put them together: PEM with comments in any encoding,
//! files joined without a line break, DER. What cannot be used is named and left out. Pure.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// What certificates are called; the third has settings of OpenSSL behind it.
const CERTIFICATE: [&[u8]; 3] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"];
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY";
/// Longer lists of what is left out end with their number.
const NAMED: usize = 3;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A bundle with at least one certificate that can be used.
#[derive(Debug)]
pub struct CaBundle {
    /// Each once.
    pub certificates: Vec<CertificateDer<'static>>,
    pub flaws: Flaws,
}

/// What is wrong with a bundle that can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    left_out: Vec<LeftOut>,
    /// It holds a private key.
    private_key: bool,
}

/// A certificate that is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeftOut {
    at: usize,
    of: usize,
    /// Where it begins; DER has no lines.
    line: Option<usize>,
    why: Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    NoEnd,
    NotBase64,
    NotX509,
}

/// A bundle that nothing can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it holds no certificate, in PEM or DER")]
    NoCertificate,
    #[error("none of its certificates can be used: {0}")]
    AllBroken(Flaws),
}

/// A certificate as it was found.
struct Found {
    line: Option<usize>,
    der: Result<Vec<u8>, Broken>,
}

impl CaBundle {
    /// # Errors
    /// When there is no certificate that can be used.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let text = from_utf16(bytes);
        let bytes = text.as_deref().unwrap_or(bytes);
        let is_der = matches!(bytes, [SEQUENCE, LONG..=LONGEST, ..]);
        let (found, private_key) = if is_der { (ders(bytes), false) } else { pems(bytes) };
        let of = found.len();
        let (mut certificates, mut seen) = (Vec::new(), HashSet::new());
        let mut flaws = Flaws { left_out: Vec::new(), private_key };
        for (number, Found { line, der }) in (1..).zip(found) {
            match der.and_then(certificate) {
                Ok(der) if seen.insert(der.clone()) => certificates.push(der),
                Ok(_) => {}
                Err(why) => flaws.left_out.push(LeftOut { at: number, of, line, why }),
            }
        }
        match (certificates.is_empty(), flaws.left_out.is_empty()) {
            (false, _) => Ok(Self { certificates, flaws }),
            (true, true) => Err(BundleError::NoCertificate),
            (true, false) => Err(BundleError::AllBroken(flaws)),
        }
    }
}

impl Flaws {
    pub fn is_empty(&self) -> bool {
        self.left_out.is_empty() && !self.private_key
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, LeftOut { at, of, line, why }) in self.left_out.iter().take(NAMED).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}certificate {at} of {of}")?;
            if let Some(line) = line {
                write!(f, " (line {line})")?;
            }
            write!(f, " {}", why.as_str())?;
        }
        let further = self.left_out.len().saturating_sub(NAMED);
        if further > 0 {
            write!(f, ", and {further} more")?;
        }
        if self.private_key {
            let comma = if self.left_out.is_empty() { "" } else { ", and " };
            write!(f, "{comma}it holds a private key, which has no business there")?;
        }
        Ok(())
    }
}

impl Broken {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoEnd => "has no end",
            Self::NotBase64 => "is damaged: it is not base64",
            Self::NotX509 => "is damaged: it is no X.509 certificate",
        }
    }
}

/// What some editors and shells make of a text.
fn from_utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let (order, units) = bytes.split_at_checked(2)?;
    let unit: fn([u8; 2]) -> u16 = match order {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    // Only what is in ASCII matters.
    let ascii = |pair: &[u8; 2]| u8::try_from(unit(*pair)).unwrap_or(b'?');
    Some(units.as_chunks().0.iter().map(ascii).collect())
}

/// The certificates between PEM's marks, wherever these stand in their lines, and whether there is a
/// private key among the rest.
fn pems(bytes: &[u8]) -> (Vec<Found>, bool) {
    let (mut found, mut private_key, mut rest) = (Vec::new(), false, bytes);
    let (mut line, mut counted) = (1, 0);
    while let Some(begin) = find(rest, BEGIN) {
        let at = bytes.len() - rest.len() + begin;
        line += bytes[counted..at].iter().filter(|byte| **byte == b'\n').count();
        counted = at;
        let section = &rest[begin + BEGIN.len()..];
        // A mark that lacks dashes at its end takes none from the next one.
        let Some(label_end) = section.iter().position(|byte| b"-\r\n".contains(byte)) else { break };
        let (label, body) = section.split_at(label_end);
        let dashes = body.iter().take(DASHES.len()).take_while(|byte| **byte == b'-').count();
        let body = &body[dashes..];
        let body_end = find(body, DASHES).unwrap_or(body.len());
        rest = &body[body_end..];
        private_key |= label.ends_with(PRIVATE_KEY);
        if CERTIFICATE.contains(&label) {
            let der = if rest.starts_with(END) { decode(&body[..body_end]) } else { Err(Broken::NoEnd) };
            found.push(Found { line: Some(line), der });
        }
    }
    (found, private_key)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn decode(body: &[u8]) -> Result<Vec<u8>, Broken> {
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(text).map_err(|_| Broken::NotBase64)
}

/// What every certificate begins with in DER: a sequence whose length takes one to three further bytes.
const SEQUENCE: u8 = 0x30;
const LONG: u8 = 0x81;
const LONGEST: u8 = 0x83;

/// Certificates in DER, one behind the other.
fn ders(mut bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Some(length) = sequence(bytes) else {
            // A line break behind the last one is no certificate.
            if !bytes.trim_ascii().is_empty() {
                found.push(Found { line: None, der: Err(Broken::NotX509) });
            }
            break;
        };
        let (der, rest) = bytes.split_at(length);
        found.push(Found { line: None, der: Ok(der.to_vec()) });
        bytes = rest;
    }
    found
}

/// Length of the sequence that the bytes begin with, its head included.
fn sequence(bytes: &[u8]) -> Option<usize> {
    let (&SEQUENCE, rest) = bytes.split_first()? else { return None };
    let (&first, rest) = rest.split_first()?;
    let LONG..=LONGEST = first else { return None };
    let digits = usize::from(first & 0x7f);
    let length = rest.get(..digits)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let whole = 2 + digits + length;
    (whole <= bytes.len()).then_some(whole)
}

/// The certificate, without what OpenSSL puts behind it, if it can be trusted by TLS.
fn certificate(der: Vec<u8>) -> Result<CertificateDer<'static>, Broken> {
    let length = sequence(&der).ok_or(Broken::NotX509)?;
    let der = CertificateDer::from(der[..length].to_vec());
    RootCertStore::empty().add(der.clone()).map_err(|_| Broken::NotX509)?;
    Ok(der)
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate() -> (String, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        (made.pem(), made.der().to_vec())
    }

    /// How many certificates are used, and what is said of the others.
    fn read(bytes: impl AsRef<[u8]>) -> (usize, String) {
        match CaBundle::read(bytes.as_ref()) {
            Ok(bundle) => (bundle.certificates.len(), bundle.flaws.to_string()),
            Err(error) => (0, error.to_string()),
        }
    }

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2], order: [u8; 2]) -> Vec<u8> {
        order.into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
    }

    #[test]
    fn certificates_are_found_however_people_put_them_together() {
        let ((one, first), (two, second)) = (certificate(), certificate());
        let (bare, both) = (one.trim_end(), format!("{one}{two}"));
        let renamed = |label: &str| one.replace("CERTIFICATE", label);
        // OpenSSL's settings stand behind the certificate.
        let trusted = BASE64_STANDARD.encode([&first[..], &[0x30, 3, 1, 2, 3]].concat());
        let latin_1 =
            [b"# Autorit\xe9 de certification\n", one.as_bytes(), b"\xfc\n", two.as_bytes()].concat();
        let table: Vec<(&str, Vec<u8>, usize)> = vec![
            ("PEM", both.clone().into(), 2),
            ("CRLF", both.replace('\n', "\r\n").into(), 2),
            ("no final line break", bare.into(), 1),
            ("joined without a line break", format!("{bare}{bare}{two}").into(), 2),
            ("indented, as YAML has it", both.replace('\n', "\n    ").into(), 2),
            ("on one line", one.replace('\n', " ").into(), 1),
            ("comments in Latin-1", latin_1, 2),
            ("twice the same", format!("{one}{two}{one}").into(), 2),
            ("X509 CERTIFICATE", renamed("X509 CERTIFICATE").into(), 1),
            (
                "TRUSTED CERTIFICATE",
                format!("-----BEGIN TRUSTED CERTIFICATE-----\n{trusted}\n-----END TRUSTED CERTIFICATE-----")
                    .into(),
                1,
            ),
            ("UTF-8 with a byte order mark", format!("\u{feff}{both}").into(), 2),
            ("UTF-16", utf16(&both, u16::to_le_bytes, [0xff, 0xfe]), 2),
            ("UTF-16, big endian", utf16(&format!("# é\n{both}"), u16::to_be_bytes, [0xfe, 0xff]), 2),
            ("DER", first.clone(), 1),
            ("DER, two of them", [&first[..], &second].concat(), 2),
            ("DER with a line break", [&first[..], b"\r\n"].concat(), 1),
            ("as openssl s_client prints it", format!("0 s:CN = a\n{one}1 s:CN = b\n{two}").into(), 2),
            (
                "beside a CRL",
                format!("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n{one}").into(),
                1,
            ),
        ];
        for (name, bytes, certificates) in table {
            assert_eq!(read(&bytes), (certificates, String::new()), "{name}");
        }
    }

    #[test]
    fn a_mark_with_fewer_dashes_costs_no_other_certificate() {
        let ((one, _), (two, _)) = (certificate(), certificate());
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        for dashes in 0..5 {
            let fewer = |mark: &str| format!("{}{}", &mark[..mark.len() - 5], "-".repeat(dashes));
            let other = |mark: &str| one.replace(mark, &fewer(mark));
            for one in [other(begin), other(end)] {
                for joined in
                    [format!("{one}{two}"), format!("{}{two}", one.trim_end()), format!("{two}{one}{two}")]
                {
                    assert_eq!(read(&joined), (2, String::new()), "{joined}");
                }
            }
            let (used, said) = read(format!("{}\n{one}{two}", fewer(begin)));
            assert_eq!((used, said.as_str()), (2, "certificate 1 of 3 (line 1) has no end"));
        }
    }

    #[test]
    fn what_is_broken_is_named_and_the_others_are_used() {
        let ((one, der), damaged) =
            (certificate(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let no_base64 = "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n";
        let (cut, line) = ("-----BEGIN CERTIFICATE-----\nAAAA\n", one.lines().count() + 1);
        let no_x509 = "is damaged: it is no X.509 certificate";
        for (bytes, used, said) in [
            (format!("{one}{damaged}"), 1, format!("certificate 2 of 2 (line {line}) {no_x509}")),
            (
                format!("# a\n{no_base64}{one}"),
                1,
                "certificate 1 of 2 (line 2) is damaged: it is not base64".to_owned(),
            ),
            (format!("{one}{cut}"), 1, format!("certificate 2 of 2 (line {line}) has no end")),
            (format!("{cut}{one}"), 1, "certificate 1 of 2 (line 1) has no end".to_owned()),
            (
                damaged.to_owned(),
                0,
                format!("none of its certificates can be used: certificate 1 of 1 (line 1) {no_x509}"),
            ),
            (
                format!("{}{one}", damaged.repeat(5)),
                1,
                format!(
                    "certificate 1 of 6 (line 1) {no_x509}, certificate 2 of 6 (line 4) {no_x509}, certificate 3 of 6 (line 7) {no_x509}, and 2 more"
                ),
            ),
            (String::new(), 0, "it holds no certificate, in PEM or DER".to_owned()),
            ("not pem".to_owned(), 0, "it holds no certificate, in PEM or DER".to_owned()),
            ("-----BEGIN CERTIFICATE".to_owned(), 0, "it holds no certificate, in PEM or DER".to_owned()),
        ] {
            assert_eq!(read(&bytes), (used, said), "{bytes}");
        }
        let cut_off = [&der[..], &der[..100]].concat();
        assert_eq!(read(cut_off), (1, format!("certificate 2 of 2 {no_x509}")));
    }

    #[test]
    fn a_private_key_is_noticed_and_not_shown() {
        let (one, _) = certificate();
        let key = KeyPair::generate().unwrap().serialize_pem();
        let (used, said) = read(format!("{key}{one}"));
        assert_eq!((used, said.as_str()), (1, "it holds a private key, which has no business there"));
        assert_eq!(read(key).0, 0);
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let (one, der) = certificate();
        for bytes in [one.as_bytes(), &der] {
            for end in 0..bytes.len() {
                let _ = read(&bytes[..end]);
                let _ = read(&bytes[end..]);
            }
        }
        for bytes in [
            &[0x30][..],
            &[0x30, 0x84, 1, 1, 1, 1],
            &[0x30, 0x83, 0xff, 0xff, 0xff],
            &[0xff, 0xfe],
            &[0xff, 0xfe, 0],
        ] {
            assert_eq!(read(bytes).0, 0);
        }
    }
}
