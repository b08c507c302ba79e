//! The three calls of the device API, recognised by method and path.

use http::Method;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The call that a request makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationKind {
    /// `PUT /{idScope}/registrations/{registrationId}/register`
    Register,
    /// `GET /{idScope}/registrations/{registrationId}/operations/{operationId}`
    Poll,
    /// `POST /{idScope}/registrations/{registrationId}`
    Lookup,
    /// A request that is no call of the device API.
    Other,
}

impl OperationKind {
    pub const ALL: [Self; 4] = [Self::Register, Self::Poll, Self::Lookup, Self::Other];
}

/// A parsed request line. Ids are percent-decoded once and otherwise as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub kind: OperationKind,
    pub id_scope: Option<String>,
    pub registration_id: Option<String>,
    pub operation_id: Option<String>,
    /// Whether the path exists; for [`OperationKind::Other`] then with another method.
    pub known_path: bool,
}

impl Route {
    pub fn of(method: &Method, path: &str) -> Self {
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let mut next = || segments.next();
        let parts = [next(), next(), next(), next(), next(), next()];
        let (kind, scope, id, operation) = match parts {
            [Some(scope), Some("registrations"), Some(id), None, ..] => {
                (OperationKind::Lookup, scope, id, None)
            }
            [Some(scope), Some("registrations"), Some(id), Some("register"), None, ..] => {
                (OperationKind::Register, scope, id, None)
            }
            [Some(scope), Some("registrations"), Some(id), Some("operations"), Some(op), None] => {
                (OperationKind::Poll, scope, id, Some(op))
            }
            _ => return Self::unknown(),
        };
        let served = match kind {
            OperationKind::Register => Method::PUT,
            OperationKind::Poll => Method::GET,
            OperationKind::Lookup | OperationKind::Other => Method::POST,
        };
        Self {
            kind: if *method == served { kind } else { OperationKind::Other },
            id_scope: Some(decode(scope)),
            registration_id: Some(decode(id)),
            operation_id: operation.map(decode),
            known_path: true,
        }
    }

    fn unknown() -> Self {
        Self {
            kind: OperationKind::Other,
            id_scope: None,
            registration_id: None,
            operation_id: None,
            known_path: false,
        }
    }
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// The value of a query parameter, if the query has it.
pub(crate) fn query_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_calls_are_told_apart() {
        for (method, path, kind) in [
            (Method::PUT, "/0ne1/registrations/dev/register", OperationKind::Register),
            (Method::GET, "/0ne1/registrations/dev/operations/4.a.b", OperationKind::Poll),
            (Method::POST, "/0ne1/registrations/dev", OperationKind::Lookup),
        ] {
            assert_eq!(Route::of(&method, path).kind, kind);
        }
    }

    #[test]
    fn ids_are_decoded_once() {
        let route = Route::of(&Method::POST, "/0ne1/registrations/a%3Ab%253A");
        assert_eq!(route.registration_id.as_deref(), Some("a:b%3A"));
    }

    #[test]
    fn other_methods_and_paths_are_something_else() {
        let delete = Route::of(&Method::DELETE, "/0ne1/registrations/dev");
        assert_eq!(delete.kind, OperationKind::Other);
        assert!(delete.known_path);
        assert_eq!(delete.registration_id.as_deref(), Some("dev"));
        for path in [
            "/",
            "/registrations/dev",
            "/0ne1/enrollments/dev",
            "/0ne1/registrations/dev/register/more",
            "/0ne1/registrations/dev/operations/4/5",
        ] {
            assert!(!Route::of(&Method::GET, path).known_path, "{path}");
        }
    }
}
