//! The `Authorization` header of a device. It is read as it was sent, since its raw text is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::config::Acceptance;
use crate::keys::SymmetricKey;

const SCHEME: &str = "SharedAccessSignature ";
const POLICY: &str = "registration";

/// How strictly a token is read; both fields are readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strictness {
    pub unescaped_signature: Acceptance,
    pub unknown_fields: Acceptance,
}

/// A shared access signature in its parts.
pub(super) struct Token<'h> {
    /// The resource exactly as in the header: this text is signed.
    resource: &'h str,
    /// The expiry exactly as in the header: this text is signed.
    expiry_text: &'h str,
    /// The expiry in Unix seconds.
    pub expiry: i64,
    signature: Vec<u8>,
    policy: Option<&'h str>,
}

/// The header cannot be read as a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'h> Token<'h> {
    /// Parses the header; its fields may be in any order.
    pub fn read(header: &'h str, strictness: Strictness) -> Result<Self, Malformed> {
        let fields = header.strip_prefix(SCHEME).ok_or(Malformed)?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(Malformed)?;
            let place = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => &mut skn,
                _ if strictness.unknown_fields == Acceptance::Accepted => continue,
                _ => return Err(Malformed),
            };
            if place.replace(value).is_some() {
                return Err(Malformed);
            }
        }
        let expiry_text = se.ok_or(Malformed)?;
        if !expiry_text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Malformed);
        }
        Ok(Self {
            resource: sr.ok_or(Malformed)?,
            expiry_text,
            expiry: expiry_text.parse().map_err(|_| Malformed)?,
            signature: signature(sig.ok_or(Malformed)?, strictness.unescaped_signature)?,
            policy: skn,
        })
    }

    /// Whether the token is for this registration; case does not matter.
    pub fn is_for(&self, id_scope: &str, registration_id: &str) -> bool {
        let decoded = percent_decode_str(self.resource).decode_utf8_lossy();
        let mut parts = decoded.splitn(3, '/');
        let mut next_is = |wanted: &str| parts.next().is_some_and(|part| part.eq_ignore_ascii_case(wanted));
        next_is(id_scope) && next_is("registrations") && next_is(registration_id)
    }

    /// Whether the policy is that of devices; some clients leave it out or empty.
    pub fn has_device_policy(&self) -> bool {
        matches!(self.policy, None | Some("" | POLICY))
    }

    /// Whether this key signed the token.
    pub fn is_signed_by(&self, key: &SymmetricKey) -> bool {
        let message: [&[u8]; 3] = [self.resource.as_bytes(), b"\n", self.expiry_text.as_bytes()];
        key.verifies(&message, &self.signature)
    }
}

fn signature(text: &str, unescaped: Acceptance) -> Result<Vec<u8>, Malformed> {
    let raw = text.bytes().any(|b| matches!(b, b'+' | b'/' | b'='));
    if raw && unescaped == Acceptance::Refused {
        return Err(Malformed);
    }
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    STANDARD.decode(decoded).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==";
    const LENIENT: Strictness =
        Strictness { unescaped_signature: Acceptance::Refused, unknown_fields: Acceptance::Accepted };
    /// Signatures over the three spellings of one resource, as official clients make them.
    const VECTORS: [(&str, &str); 3] = [
        (
            "0ne00111111%2Fregistrations%2Fmy-symkey-device",
            "8VPprb8BiTkuVE0hBqHm%2FSVrzVpdD8VZcXugntdbhuU%3D",
        ),
        ("0ne00111111/registrations/my-symkey-device", "nywv584Rsikp8eagkd4XnrDkLPXMGakB0DWzqcS0hPQ%3D"),
        ("0ne00111111%2fregistrations%2fmy-symkey-device", "6GqlY2Tr8xDlSYE04oQcdEH7vznSt2LcTUobz9BmpAY%3D"),
    ];

    fn read(header: &str) -> Result<Token<'_>, Malformed> {
        Token::read(header, LENIENT)
    }

    fn header(fields: &[String]) -> String {
        format!("SharedAccessSignature {}", fields.join("&"))
    }

    #[test]
    fn every_spelling_that_official_clients_send_is_verified_over_its_raw_text() {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        for (resource, signature) in VECTORS {
            let fields = [format!("sr={resource}"), format!("sig={signature}"), "se=1663952627".to_owned()];
            for policy in [None, Some("skn="), Some("skn=registration")] {
                let mut fields = fields.to_vec();
                fields.extend(policy.map(str::to_owned));
                for _ in 0..fields.len() {
                    fields.rotate_left(1);
                    let text = header(&fields);
                    let token = read(&text).unwrap();
                    assert!(token.is_signed_by(&key), "{text}");
                    assert!(token.is_for("0ne00111111", "my-symkey-device"), "{text}");
                    assert!(token.has_device_policy(), "{text}");
                    assert_eq!(token.expiry, 1_663_952_627);
                }
            }
        }
    }

    #[test]
    fn a_signature_over_another_spelling_is_not_taken() {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        let text = header(&[
            format!("sr={}", VECTORS[0].0),
            format!("sig={}", VECTORS[1].1),
            "se=1663952627".to_owned(),
        ]);
        assert!(!read(&text).unwrap().is_signed_by(&key));
    }

    #[test]
    fn lower_case_escapes_in_the_signature_are_the_same() {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        let text = header(&[
            format!("sr={}", VECTORS[2].0),
            format!("sig={}", VECTORS[2].1.replace("%3D", "%3d")),
            "se=1663952627".to_owned(),
        ]);
        assert!(read(&text).unwrap().is_signed_by(&key));
    }

    #[test]
    fn the_resource_is_compared_without_case_and_as_a_whole() {
        let token = |resource: &str| format!("SharedAccessSignature sr={resource}&sig=AAAA&se=1");
        let is_for = |resource: &str| read(&token(resource)).unwrap().is_for("0ne1", "Dev");
        assert!(is_for("0NE1%2FREGISTRATIONS%2Fdev"));
        assert!(is_for("0ne1/registrations/dev"));
        assert!(!is_for("0ne1/registrations/dev2"));
        assert!(!is_for("0ne1/registrations/dev/register"));
        assert!(!is_for("0ne2/registrations/dev"));
        assert!(!is_for("0ne1/registrations"));
    }

    #[test]
    fn what_is_not_a_token_is_malformed() {
        for text in [
            "",
            "Bearer abc",
            "SharedAccessSignature",
            "SharedAccessSignature sr=a&sig=AAAA",
            "SharedAccessSignature sr=a&se=1",
            "SharedAccessSignature sig=AAAA&se=1",
            "SharedAccessSignature sr=a&sig=AAAA&se=soon",
            "SharedAccessSignature sr=a&sig=AAAA&se=-1",
            "SharedAccessSignature sr=a&sig=AAAA&se=",
            "SharedAccessSignature sr=a&sig=***&se=1",
            "SharedAccessSignature sr=a&sr=b&sig=AAAA&se=1",
            "SharedAccessSignature sr=a&sig=AAAA&se=1&flag",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unescaped_signature_and_unknown_fields_are_readings() {
        let unescaped = "SharedAccessSignature sr=a&sig=AAA=&se=1";
        let unknown = "SharedAccessSignature sr=a&sig=AAAA&se=1&x=y";
        assert!(Token::read(unescaped, LENIENT).is_err());
        assert!(Token::read(unknown, LENIENT).is_ok());
        let other =
            Strictness { unescaped_signature: Acceptance::Accepted, unknown_fields: Acceptance::Refused };
        assert!(Token::read(unescaped, other).is_ok());
        assert!(Token::read(unknown, other).is_err());
    }

    #[test]
    fn another_policy_is_not_a_devices() {
        let text = "SharedAccessSignature sr=a&sig=AAAA&se=1&skn=provisioningserviceowner";
        assert!(!read(text).unwrap().has_device_policy());
    }
}
