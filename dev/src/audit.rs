//! The API server's audit log: every request, with its user and its answer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// What was requested of which kind of object; displayed as `update devices/status`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The plural, as in a path; empty for a path that is not about objects (`/readyz`).
    pub resource: String,
    /// `status`, `token`, …; empty for the object itself.
    pub subresource: String,
}

impl Request {
    /// `Request::new("update", "devices/status")`.
    pub fn new(verb: &str, resource: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self { verb: verb.to_owned(), resource: resource.to_owned(), subresource: subresource.to_owned() }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        if !self.resource.is_empty() {
            write!(f, " {}", self.resource)?;
        }
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        Ok(())
    }
}

/// One line of the log. A watch has two with the same `audit_id`: one when it begins, one when
/// it ends.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Line")]
pub struct Event {
    /// The id of the request; all events about one request have the same.
    pub audit_id: String,
    /// `ResponseStarted` (watches only), `ResponseComplete` or `Panic`.
    pub stage: String,
    /// Verb and kind of object.
    pub request: Request,
    /// The object's namespace; empty for objects without one, and for requests over all namespaces.
    pub namespace: String,
    /// The object's name; empty for lists, watches and creations with a generated name.
    pub name: String,
    /// The user; for a ServiceAccount `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// Path and query of the request.
    pub uri: String,
    /// HTTP status of the answer, where there was one.
    pub code: Option<u16>,
    /// When the request arrived: RFC 3339, UTC, microseconds, so that text order is time order.
    pub received: String,
    /// When this stage was reached, in the same form.
    pub stage_reached: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

impl From<Line> for Event {
    fn from(line: Line) -> Self {
        let ObjectRef { resource, subresource, namespace, name } = line.object_ref;
        Self {
            audit_id: line.audit_id,
            stage: line.stage,
            request: Request { verb: line.verb, resource, subresource },
            namespace,
            name,
            user: line.user.username,
            user_agent: line.user_agent,
            uri: line.request_uri,
            code: line.response_status.and_then(|status| status.code),
            received: line.request_received_timestamp,
            stage_reached: line.stage_timestamp,
        }
    }
}

/// Events in the order of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events(pub Vec<Event>);

impl Events {
    /// The requests of `user` with how often each was made, successful or not.
    pub fn requests_by(&self, user: &str) -> BTreeMap<Request, usize> {
        let mut seen = HashSet::new();
        let mut counts = BTreeMap::new();
        for event in self.0.iter().filter(|event| event.user == user) {
            if seen.insert(&event.audit_id) {
                *counts.entry(event.request.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// How often `user` made this request.
    pub fn count(&self, user: &str, request: &Request) -> usize {
        self.requests_by(user).get(request).copied().unwrap_or(0)
    }
}

/// Reads a log that is still being written, each event once.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    lines: usize,
}

impl Tail {
    /// From the beginning of the log.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0, lines: 0 }
    }

    /// The events since the last call. An event is written shortly after the answer was sent, so a
    /// caller that expects one reads again until a deadline.
    pub fn read(&mut self) -> Result<Events, Error> {
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.offset))?;
                file.read_to_end(&mut bytes)
            })
            .map_err(Error::file("read", &self.path))?;
        // The last line may be half written.
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut events = Vec::new();
        for line in bytes[..complete].split_inclusive(|&byte| byte == b'\n') {
            let number = self.lines + events.len() + 1;
            let event =
                serde_json::from_slice(line).map_err(|source| Error::Audit { line: number, source })?;
            events.push(event);
        }
        self.offset += complete as u64;
        self.lines += events.len();
        Ok(Events(events))
    }
}
