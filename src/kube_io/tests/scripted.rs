//! An API server for tests that misbehaves as it is asked to: one kind of objects, in memory, with
//! versions, lists and watches as the real one has them, and faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, interval_at, sleep, sleep_until};
use tower::{BoxError, Layer};

use crate::kube_io::answers::Answers;
use crate::kube_io::client::ApiServer;
use crate::kube_io::deadline::{ANSWER, Deadline};
use crate::kube_io::note::Note;
use crate::telemetry::Telemetry;

/// How often a real API server sends bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// What watches ask for.
const TIMEOUT: Duration = Duration::from_secs(200);

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// It is answered with 429 and asked to come back after so many seconds, by the header alone.
    Busy(u64),
    /// There is no answer, and the connection is refused.
    Refused,
    /// There is never an answer.
    Hangs,
    /// The answer is none of an API server.
    Garbage,
    /// A watch: an error with this code comes in the stream.
    InStream(u16),
    /// A watch that ends after this time and has nothing to say before.
    Mute(Duration),
    /// A watch that ends after this time.
    Ends(Duration),
    /// A watch that breaks off after this time.
    Breaks(Duration),
    /// A watch that stays open and never says anything.
    Deaf,
    /// A watch that says what it has to say, but sends no bookmarks.
    WithoutBookmarks,
}

impl Fault {
    /// It concerns streams and nothing else.
    pub fn is_of_streams(self) -> bool {
        matches!(self, Self::InStream(_) | Self::Mute(_) | Self::Ends(_) | Self::Breaks(_) | Self::Deaf)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    List,
    /// A list of one, for its version.
    Check,
    Watch,
    Get,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// All changes since the beginning: version, type, object.
    history: Vec<(u64, &'static str, Value)>,
    /// For lists and readings, and for watches.
    faults: (Option<Fault>, Option<Fault>),
    asked: Vec<(Instant, Asked)>,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Scripted {
    state: Arc<Mutex<State>>,
    /// False for a change, true if all streams break off.
    changes: broadcast::Sender<bool>,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

fn text(status: u16, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code})
}

fn line(kind: &str, object: &Value) -> Bytes {
    // In this order, as the real one: what the object is has to be known before it is read.
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

fn bookmark(version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"resourceVersion": version.to_string()}})
}

impl Scripted {
    pub fn new() -> Self {
        let state = State { version: 100, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), changes: broadcast::channel(1024).0 }
    }

    /// As the operator reaches it: with deadlines, and what answers show.
    pub fn server(&self, telemetry: Arc<Telemetry>) -> ApiServer {
        let scripted = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let scripted = scripted.clone();
            async move { scripted.answer(request.map(drop)).await }
        });
        let answers = Answers::new();
        let note = Note { answers: answers.clone(), telemetry: telemetry.clone() };
        let service = note.layer(Deadline(ANSWER).layer(service));
        let server = ApiServer::of(Client::new(service, "fleet"), telemetry);
        ApiServer { answers, ..server }
    }

    /// What goes wrong from now on with lists and readings, and with watches that are begun.
    pub fn fail(&self, lists: Option<Fault>, watches: Option<Fault>) {
        self.state.lock().unwrap().faults = (lists, watches);
    }

    /// Breaks off all streams.
    pub fn cut(&self) {
        let _ = self.changes.send(true);
    }

    /// Creates or changes an object.
    pub fn put(&self, name: &str) {
        self.put_of(name, 0);
    }

    /// The same, with an annotation of so many bytes.
    pub fn put_of(&self, name: &str, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": name, "namespace": "fleet", "uid": format!("uid-{name}"),
            "resourceVersion": state.version.to_string(), "annotations": {"of": "x".repeat(bytes)},
        }});
        let known = state.objects.insert(name.to_owned(), object.clone()).is_some();
        let version = state.version;
        state.history.push((version, if known { "MODIFIED" } else { "ADDED" }, object));
        drop(state);
        let _ = self.changes.send(false);
    }

    pub fn delete(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let mut object = state.objects.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.history.push((version, "DELETED", object));
        drop(state);
        let _ = self.changes.send(false);
    }

    /// Goes back to this version, as after a restore of etcd; watches go on as if nothing had happened.
    pub fn go_back(&self, version: u64) {
        let mut state = self.state.lock().unwrap();
        state.version = version;
        state.history.retain(|(of, ..)| *of <= version);
        let mut objects = BTreeMap::new();
        for (_, kind, object) in &state.history {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            match *kind {
                "DELETED" => drop(objects.remove(&name)),
                _ => drop(objects.insert(name, object.clone())),
            }
        }
        state.objects = objects;
    }

    pub fn version(&self) -> u64 {
        self.state.lock().unwrap().version
    }

    /// What was asked for since this moment.
    pub fn asked_since(&self, since: Instant, what: Asked) -> usize {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(at, asked)| *at >= since && *asked == what).count()
    }

    async fn answer(&self, request: Request<()>) -> Result<Answer, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let parameter =
            |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let asked = match (parameter("watch"), parameter("limit")) {
            (Some(_), _) => Asked::Watch,
            (None, Some("1")) => Asked::Check,
            (None, Some(_)) => Asked::List,
            (None, None) => Asked::Get,
        };
        let (lists, watches) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((Instant::now(), asked));
            state.faults
        };
        match if asked == Asked::Watch { watches } else { lists } {
            Some(Fault::Status(code)) => Ok(text(code, failure(code).to_string())),
            Some(Fault::Busy(seconds)) => {
                let mut answer = text(429, "Too many requests, please try again later.".to_owned());
                answer.headers_mut().insert("retry-after", seconds.into());
                Ok(answer)
            }
            Some(Fault::Refused) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Garbage) => Ok(text(200, "<html>sign in</html>".to_owned())),
            fault if asked == Asked::Watch => {
                let from = parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
                Ok(self.watch(from, fault))
            }
            _ if asked == Asked::Get => {
                let name = request.uri().path().rsplit('/').next().unwrap_or_default();
                let found = self.state.lock().unwrap().objects.get(name).cloned();
                Ok(found.map_or_else(
                    || text(404, failure(404).to_string()),
                    |found| text(200, found.to_string()),
                ))
            }
            _ => {
                let number = |name| parameter(name).and_then(|text| text.parse::<usize>().ok());
                let (from, most) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
                let state = self.state.lock().unwrap();
                let objects: Vec<&Value> = state.objects.values().skip(from).take(most).collect();
                let end = from + objects.len();
                let go_on = if end < state.objects.len() { end.to_string() } else { String::new() };
                let list = json!({"apiVersion": "v1", "kind": "SecretList", "items": objects,
                    "metadata": {"resourceVersion": state.version.to_string(), "continue": go_on}});
                Ok(text(200, list.to_string()))
            }
        }
    }

    /// Changes after the version, and bookmarks, as the real one sends them: none from below it.
    fn watch(&self, from: u64, fault: Option<Fault>) -> Answer {
        let (lines, body) = channel::<Result<Frame<Bytes>, BoxError>>(1);
        tokio::spawn(self.clone().tell(from, fault, lines));
        let body = stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
        Response::new(StreamBody::new(body).boxed_unsync())
    }

    async fn tell(self, from: u64, fault: Option<Fault>, lines: Sender<Result<Frame<Bytes>, BoxError>>) {
        let say = async |line: Bytes| lines.send(Ok(Frame::data(line))).await.is_ok();
        let end = match fault {
            Some(Fault::InStream(code)) => {
                say(line("ERROR", &failure(code))).await;
                return;
            }
            Some(Fault::Mute(time)) => return sleep(time).await,
            Some(Fault::Deaf) => return lines.closed().await,
            Some(Fault::Ends(time) | Fault::Breaks(time)) => Instant::now() + time,
            _ => Instant::now() + TIMEOUT,
        };
        let mut changes = self.changes.subscribe();
        let mut bookmarks = interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
        let (mut last, mut broken) = (from, false);
        while !broken {
            let news: Vec<_> = {
                let state = self.state.lock().unwrap();
                state.history.iter().filter(|(version, ..)| *version > last).cloned().collect()
            };
            for (version, kind, object) in news {
                last = version;
                if !say(line(kind, &object)).await {
                    return;
                }
            }
            tokio::select! {
                cut = changes.recv() => broken |= cut == Ok(true),
                () = sleep_until(end) => break,
                () = lines.closed() => return,
                _ = bookmarks.tick() => {
                    let version = self.version();
                    if version >= last && fault != Some(Fault::WithoutBookmarks) {
                        say(line("BOOKMARK", &bookmark(version))).await;
                    }
                }
            }
        }
        if broken || matches!(fault, Some(Fault::Breaks(_))) {
            let _ = lines.send(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())).await;
        }
    }
}
