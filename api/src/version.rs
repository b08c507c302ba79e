//! `resourceVersion` as a number: comparable since Kubernetes 1.35 by contract, before that by practice.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The version that the text names; 0 for none and for what is not a number.
pub fn parse(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The version of an object.
pub fn of(meta: &ObjectMeta) -> u64 {
    parse(meta.resource_version.as_deref())
}
