//! Requests to the API server, as metrics name them.

use http::{Method, Uri};

use super::Telemetry;

/// Resources that the operator asks for; anything else is "other".
const RESOURCES: [&str; 9] = [
    "provisioneddevices",
    "provisioneddevices/status",
    "dpsintegrations",
    "dpsintegrations/status",
    "secrets",
    "configmaps",
    "namespaces",
    "events",
    "leases",
];

/// What the operator writes: verb and resource.
pub(super) const WRITES: [(&str, &str); 7] = [
    ("create", "secrets"),
    ("patch", "secrets"),
    ("update", "provisioneddevices/status"),
    ("update", "dpsintegrations/status"),
    ("create", "events"),
    ("create", "leases"),
    ("update", "leases"),
];
/// What may come of a request.
pub(super) const OUTCOMES: [&str; 5] = ["success", "not_found", "conflict", "refused", "unavailable"];

/// A request to the API server that has no answer yet.
#[derive(Clone, Copy, Debug)]
pub struct ApiRequest {
    verb: &'static str,
    resource: &'static str,
}

impl ApiRequest {
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let (verb, resource) = what(method, uri.path(), uri.query());
        Self { verb, resource }
    }
}

impl Telemetry {
    /// Counts a request that was answered with this status, or was not answered.
    pub fn api_request_ended(&self, request: ApiRequest, status: Option<u16>) {
        self.metrics.count_api_request(request.verb, request.resource, outcome(status));
    }
}

/// Verb and resource as RBAC names them.
fn what(method: &Method, path: &str, query: Option<&str>) -> (&'static str, &'static str) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // api/v1/… or apis/GROUP/VERSION/…
    let rest = parts.get(if parts.first() == Some(&"api") { 2.. } else { 3.. }).unwrap_or_default();
    let rest = match rest {
        ["namespaces", _, resource @ ..] if !resource.is_empty() => resource,
        other => other,
    };
    let named = match rest {
        [resource, _, sub] => format!("{resource}/{sub}"),
        [resource, ..] => (*resource).to_owned(),
        [] => String::new(),
    };
    let resource = RESOURCES.into_iter().find(|resource| *resource == named).unwrap_or("other");
    let watches =
        query.is_some_and(|query| query.split('&').any(|part| part == "watch=true" || part == "watch=1"));
    let verb = match *method {
        Method::GET if watches => "watch",
        Method::GET if rest.len() < 2 => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "other",
    };
    (verb, resource)
}

fn outcome(status: Option<u16>) -> &'static str {
    match status {
        Some(200..=399) => "success",
        Some(404) => "not_found",
        Some(409) => "conflict",
        Some(429) | None => "unavailable",
        Some(400..=499) => "refused",
        Some(_) => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rbac_names_them() {
        let table = [
            (
                Method::GET,
                "/apis/dps-operator.io/v1alpha1/provisioneddevices",
                None,
                ("list", "provisioneddevices"),
            ),
            (
                Method::GET,
                "/apis/dps-operator.io/v1alpha1/namespaces/a/dpsintegrations",
                Some("watch=true&x=1"),
                ("watch", "dpsintegrations"),
            ),
            (
                Method::PUT,
                "/apis/dps-operator.io/v1alpha1/namespaces/a/provisioneddevices/d/status",
                None,
                ("update", "provisioneddevices/status"),
            ),
            (Method::GET, "/api/v1/namespaces/a/secrets/s", None, ("get", "secrets")),
            (Method::POST, "/api/v1/namespaces/a/secrets", None, ("create", "secrets")),
            (Method::PATCH, "/api/v1/namespaces/a/secrets/s", None, ("patch", "secrets")),
            (Method::GET, "/api/v1/namespaces/a", None, ("get", "namespaces")),
            (Method::GET, "/api/v1/namespaces", Some("limit=100"), ("list", "namespaces")),
            (Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events", None, ("create", "events")),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", None, ("update", "leases")),
            (Method::GET, "/version", None, ("list", "other")),
        ];
        for (method, path, query, expected) in table {
            assert_eq!(what(&method, path, query), expected, "{method} {path}");
        }
    }

    #[test]
    fn no_answer_is_unavailable_and_a_lost_race_a_conflict() {
        let table = [
            (Some(201), "success"),
            (Some(409), "conflict"),
            (Some(403), "refused"),
            (Some(429), "unavailable"),
            (Some(503), "unavailable"),
            (None, "unavailable"),
            (Some(404), "not_found"),
        ];
        for (status, expected) in table {
            assert_eq!(outcome(status), expected);
            assert!(OUTCOMES.contains(&expected));
        }
    }
}
