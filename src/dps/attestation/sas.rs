//! The token that authenticates one registration to DPS ("How to use symmetric keys over HTTPS").

use zeroize::Zeroizing;

use super::symmetric_key::DeviceKey;
use crate::dps::ids::{IdScope, RegistrationId, escape};

/// How long a token is valid, in seconds: enough for an operation of five minutes and some skew.
pub(super) const LIFETIME: i64 = 15 * 60;

/// `SharedAccessSignature sr=…&sig=…&se=…&skn=registration`, with `%2F` in `sr` (the form that all
/// official clients' servers agree on) and `se` in Unix seconds.
pub(super) fn token(scope: &IdScope, id: &RegistrationId, key: &DeviceKey, expiry: i64) -> Zeroizing<String> {
    let resource = format!("{}%2Fregistrations%2F{}", escape(scope.as_str()), escape(id.as_str()));
    let signature = key.sign(format!("{resource}\n{expiry}").as_bytes());
    Zeroizing::new(format!(
        "SharedAccessSignature sr={resource}&sig={}&se={expiry}&skn=registration",
        *Zeroizing::new(escape(&signature))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the published HTTPS walk-through; used as a device key there.
    fn published() -> (IdScope, RegistrationId, DeviceKey) {
        let key = DeviceKey::for_test(
            "18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==",
        );
        (IdScope::parse("0ne00111111").unwrap(), RegistrationId::parse("my-symkey-device").unwrap(), key)
    }

    #[test]
    fn the_token_equals_that_of_the_python_sdk() {
        let (scope, id, key) = published();
        assert_eq!(
            *token(&scope, &id, &key, 1_663_952_627),
            "SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fmy-symkey-device\
             &sig=8VPprb8BiTkuVE0hBqHm%2FSVrzVpdD8VZcXugntdbhuU%3D&se=1663952627&skn=registration"
        );
    }

    #[test]
    fn a_colon_is_escaped_exactly_once() {
        let (scope, _, key) = published();
        let id = RegistrationId::parse("aa:bb").unwrap();
        assert!(token(&scope, &id, &key, 1).contains("registrations%2Faa%3Abb&"));
    }

    #[test]
    fn raw_and_lower_case_forms_sign_differently_as_published() {
        let (_, _, key) = published();
        let signed = |sr: &str| escape(&key.sign(format!("{sr}\n1663952627").as_bytes()));
        assert_eq!(
            signed("0ne00111111/registrations/my-symkey-device"),
            "nywv584Rsikp8eagkd4XnrDkLPXMGakB0DWzqcS0hPQ%3D"
        );
        assert_eq!(
            signed("0ne00111111%2fregistrations%2fmy-symkey-device"),
            "6GqlY2Tr8xDlSYE04oQcdEH7vznSt2LcTUobz9BmpAY%3D"
        );
    }
}
