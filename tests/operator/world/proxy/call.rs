//! A request of the operator, named as RBAC or DPS name it.

use std::fmt;

use http::Method;
use serde_json::Value;

/// Whom it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    ApiServer,
    Dps,
}

/// What was asked; displayed as `update provisioneddevices/status` or `register`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub side: Side,
    pub verb: &'static str,
    /// The plural with its subresource; empty for calls to DPS.
    pub resource: String,
    pub namespace: String,
    /// The object's, that of the object which an event regards, or the registration id; empty for lists
    /// and watches.
    pub name: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Side::ApiServer => write!(f, "{} {}", self.verb, self.resource),
            Side::Dps => f.write_str(self.verb),
        }
    }
}

impl Call {
    pub fn of(side: Side, method: &Method, path: &str, query: &str) -> Self {
        match side {
            Side::ApiServer => Self::to_api_server(method, path, query),
            Side::Dps => Self::to_dps(method, path),
        }
    }

    fn to_api_server(method: &Method, path: &str, query: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // api/v1/… or apis/GROUP/VERSION/…
        let rest = parts.get(if parts.first() == Some(&"api") { 2.. } else { 3.. }).unwrap_or_default();
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (resource, name) = match rest {
            [resource, name, sub] => (format!("{resource}/{sub}"), *name),
            [resource, name] => ((*resource).to_owned(), *name),
            [resource] => ((*resource).to_owned(), ""),
            _ => (path.to_owned(), ""),
        };
        let verb = match *method {
            Method::GET if query.split('&').any(|part| part == "watch=true") => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { side: Side::ApiServer, verb, resource, namespace, name }
    }

    fn to_dps(method: &Method, path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (verb, id) = match (method, parts.as_slice()) {
            (&Method::PUT, [_, "registrations", id, "register"]) => ("register", *id),
            (&Method::GET, [_, "registrations", id, "operations", _]) => ("poll", *id),
            (&Method::POST, [_, "registrations", id]) => ("lookup", *id),
            _ => ("other", path),
        };
        let (resource, namespace) = (String::new(), String::new());
        Self { side: Side::Dps, verb, resource, namespace, name: id.to_owned() }
    }

    /// What is created is named in the body.
    pub fn with_body(self, body: &Value) -> Self {
        let named = if self.resource == "events" { &body["regarding"] } else { &body["metadata"] };
        match named["name"].as_str() {
            Some(name) if self.name.is_empty() => Self { name: name.to_owned(), ..self },
            _ => self,
        }
    }

    /// It concerns this device or its Secret.
    pub fn is_of(&self, device: &str) -> bool {
        self.name.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// It changes something, or asks DPS, whose calls are counted.
    pub fn is_effect(&self) -> bool {
        self.side == Side::Dps || ["create", "update", "patch", "delete"].contains(&self.verb)
    }
}

#[test]
fn calls_are_named_as_rbac_and_dps_name_them() {
    let table = [
        (Side::ApiServer, Method::POST, "/api/v1/namespaces/a/secrets", "", "create secrets", ""),
        (Side::ApiServer, Method::GET, "/api/v1/namespaces/a/secrets", "watch=true", "watch secrets", ""),
        (Side::ApiServer, Method::GET, "/api/v1/namespaces", "limit=5", "list namespaces", ""),
        (Side::ApiServer, Method::GET, "/api/v1/namespaces/a", "", "get namespaces", "a"),
        (
            Side::ApiServer,
            Method::PUT,
            "/apis/dps-operator.io/v1alpha1/namespaces/a/provisioneddevices/d/status",
            "",
            "update provisioneddevices/status",
            "d",
        ),
        (Side::Dps, Method::PUT, "/0ne00A/registrations/d/register", "", "register", "d"),
        (Side::Dps, Method::GET, "/0ne00A/registrations/d/operations/4.1", "", "poll", "d"),
        (Side::Dps, Method::POST, "/0ne00A/registrations/d", "", "lookup", "d"),
        (Side::Dps, Method::DELETE, "/0ne00A/registrations/d", "", "other", "/0ne00A/registrations/d"),
    ];
    for (side, method, path, query, shown, name) in table {
        let call = Call::of(side, &method, path, query);
        assert_eq!((call.to_string().as_str(), call.name.as_str()), (shown, name), "{method} {path}");
    }
}
