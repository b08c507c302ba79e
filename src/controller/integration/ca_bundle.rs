//! The ConfigMap with further certificates that an integration trusts: what is wrong with it. Pure.

use std::sync::Arc;

use super::unusable::Unusable;
use crate::api::conditions::Reason;
use crate::api::integration::CaBundleRef;
use crate::api::references::Referred;
use crate::dps::ca_bundle::{BundleError, Flaws};

const CA_BUNDLE_MAX: usize = 256 * 1024;

/// The bytes of a CA bundle.
///
/// # Errors
/// When it is not there, or is too much.
pub fn bytes(ca: &CaBundleRef, referred: &Referred) -> Result<Arc<[u8]>, Unusable> {
    let CaBundleRef { name, key } = ca;
    let not_found = |message: String| Unusable::new(Reason::CaBundleNotFound, message);
    let bytes = match referred {
        Referred::Present { data, .. } => data.get(key).ok_or_else(|| {
            not_found(format!(
                "spec.caBundleRef: ConfigMap {name:?} has no key {key:?}, neither under data nor under binaryData. Add it, or name the right one."
            ))
        })?,
        Referred::Forbidden => {
            return Err(not_found(format!("spec.caBundleRef: ConfigMap {name:?} may not be read by the operator; check its RBAC.")));
        }
        Referred::Missing | Referred::Unread => {
            return Err(not_found(format!("spec.caBundleRef: ConfigMap {name:?} does not exist. Create it with the CA's certificate under {key:?}, or correct the name; it is noticed at once.")));
        }
        Referred::TooMuch => {
            let message = format!(
                "ConfigMap {name:?} is not used: the CA bundles of this namespace, or of all, come to more than the operator keeps (8 MiB, 64 MiB). Refer to fewer or smaller ones; it is looked at again within five minutes."
            );
            return Err(Unusable::new(Reason::CaBundleInvalid, message));
        }
    };
    if bytes.len() > CA_BUNDLE_MAX {
        return Err(Unusable::new(
            Reason::CaBundleInvalid,
            format!("Key {key:?} of ConfigMap {name:?} is larger than 256 KiB."),
        ));
    }
    Ok(Arc::from(bytes.as_slice()))
}

/// Why no connection can be made with the bundle.
pub fn unusable(ca: Option<&CaBundleRef>, error: &BundleError) -> Unusable {
    let message =
        format!("{} cannot be used as CA bundle: {error}. Correct it; it is noticed at once.", place(ca));
    Unusable::new(Reason::CaBundleInvalid, message)
}

/// What is to be said of a bundle that is used, if anything is.
pub fn warning(ca: Option<&CaBundleRef>, flaws: &Flaws) -> Option<String> {
    (!flaws.is_empty()).then(|| {
        format!("{} is used as CA bundle, but {flaws}. Correct it; it is noticed at once.", place(ca))
    })
}

fn place(ca: Option<&CaBundleRef>) -> String {
    ca.map_or_else(String::new, |CaBundleRef { name, key }| format!("Key {key:?} of ConfigMap {name:?}"))
}
