//! One request on its way to whom it is for, and its answer on the way back.

use std::future::pending;
use std::time::Duration;

use futures_util::stream::unfold;
use http::{HeaderMap, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::call::{Call, Side};
use super::rule::{Action, Moment, Stream};

/// An answer that has been written to the connection has arrived after this time.
const ARRIVAL: Duration = Duration::from_millis(20);

type Body = UnsyncBoxBody<Bytes, Broken>;

/// The connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed by a rule, or was by the upstream")]
pub struct Broken;

/// `is_own`: it comes from the process whose proxy this is.
pub async fn answer(
    request: Request<Incoming>,
    is_own: bool,
    shared: Shared,
) -> Result<Response<Body>, Broken> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let call = Call::of(shared.side, &parts.method, path, query);
    let recorded = if shared.side == Side::ApiServer && call.is_effect() {
        serde_json::from_slice(&body).unwrap_or_default()
    } else {
        Value::Null
    };
    let call = call.with_body(&recorded);
    let action = shared.rules.action(&call);
    let is_watch = call.verb == "watch";
    let index = shared.records.begin(call, recorded, (is_own, action.is_some()));
    let forward = Forward { shared: &shared, parts: &parts, body, index };
    match action {
        None if is_watch => {
            let stream = shared.watches.follow();
            forward.go().await.map(|answer| answer.pass(Tail::Watch(stream)))
        }
        None => forward.go().await.map(|answer| answer.pass(Tail::None)),
        Some(Action::Delay(time)) => {
            sleep(time).await;
            forward.go().await.map(|answer| answer.pass(Tail::None))
        }
        Some(Action::Late(time)) => {
            let answer = forward.whole().await;
            sleep(time).await;
            answer
        }
        Some(Action::Refuse) => Err(Broken),
        Some(Action::Answer { status, headers, body }) => Ok(made(status, &headers, body)),
        Some(Action::Lose) => {
            forward.whole().await?;
            Err(Broken)
        }
        Some(Action::Replace { status, body }) => {
            forward.whole().await?;
            Ok(made(status, &[], body))
        }
        Some(Action::Cut { after }) => forward.go().await.map(|answer| answer.pass(Tail::Cut(after))),
        Some(Action::Stall { after }) => forward.go().await.map(|answer| answer.pass(Tail::Stall(after))),
        Some(Action::End { after }) => {
            forward.go().await.map(|answer| answer.pass(Tail::End(Instant::now() + after)))
        }
        Some(Action::Kill(moment)) => {
            forward.struck(moment, Blow { signal: Signal::KILL, lasts: None }).await
        }
        Some(Action::Freeze(moment, time)) => {
            forward.struck(moment, Blow { signal: Signal::STOP, lasts: Some(time) }).await
        }
        Some(Action::Signal(moment, signal)) => {
            forward.struck(moment, Blow { signal: signal.into(), lasts: None }).await
        }
    }
}

/// A signal, and how long until the process goes on.
#[derive(Clone, Copy)]
struct Blow {
    signal: Signal,
    lasts: Option<Duration>,
}

impl Blow {
    async fn strike(self, shared: &Shared) {
        shared.process.signal(self.signal);
        if let Some(time) = self.lasts {
            sleep(time).await;
            shared.process.signal(Signal::CONT);
        }
    }
}

struct Forward<'a> {
    shared: &'a Shared,
    parts: &'a http::request::Parts,
    body: Bytes,
    index: usize,
}

impl Forward<'_> {
    /// Carries the request out; its answer has begun.
    async fn go(self) -> Result<Upstream, Broken> {
        let Self { shared, parts, body, index } = self;
        let url =
            format!("{}{}", shared.upstream, parts.uri.path_and_query().map_or("/", |path| path.as_str()));
        let mut headers = parts.headers.clone();
        headers.remove(header::HOST);
        headers.remove(header::CONNECTION);
        let request = shared.client.request(parts.method.clone(), url).headers(headers).body(body);
        let answer = request.send().await.map_err(|_| Broken)?;
        shared.records.answered(index, answer.status().as_u16());
        Ok(Upstream(answer))
    }

    /// The same; its answer has ended.
    async fn whole(self) -> Result<Response<Body>, Broken> {
        let Upstream(answer) = self.go().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|_| Broken)?;
        Ok(response(status.as_u16(), headers, full(body)))
    }

    /// The process is hit at this moment of the request. One that goes on gets its answer.
    async fn struck(self, moment: Moment, blow: Blow) -> Result<Response<Body>, Broken> {
        let (shared, goes_on) = (self.shared.clone(), blow.signal != Signal::KILL);
        match moment {
            Moment::Before => {
                blow.strike(&shared).await;
                if goes_on { self.whole().await } else { Err(Broken) }
            }
            Moment::Forwarded => {
                let answer = self.whole().await;
                blow.strike(&shared).await;
                if goes_on { answer } else { Err(Broken) }
            }
            Moment::Answered => {
                let answer = self.whole().await;
                tokio::spawn(async move {
                    sleep(ARRIVAL).await;
                    blow.strike(&shared).await;
                });
                answer
            }
        }
    }
}

/// What becomes of the rest of an answer.
enum Tail {
    None,
    Cut(usize),
    Stall(usize),
    End(Instant),
    Watch(Stream),
}

struct Upstream(reqwest::Response);

impl Upstream {
    fn pass(self, tail: Tail) -> Response<Body> {
        let Self(answer) = self;
        let (status, mut headers) = (answer.status().as_u16(), answer.headers().clone());
        if !matches!(tail, Tail::None) {
            headers.remove(header::CONTENT_LENGTH);
        }
        let frames = unfold((answer, tail, 0), |(mut answer, mut tail, sent)| async move {
            let frame = next(&mut answer, &mut tail, sent).await?;
            let sent = sent + frame.as_ref().map_or(0, Bytes::len);
            Some((frame.map(Frame::data), (answer, tail, sent)))
        });
        response(status, headers, StreamBody::new(Box::pin(frames)).boxed_unsync())
    }
}

/// The next piece of an answer of which so many bytes have been sent; `None` at its end.
async fn next(answer: &mut reqwest::Response, tail: &mut Tail, sent: usize) -> Option<Result<Bytes, Broken>> {
    let room = match tail {
        Tail::Cut(after) if sent >= *after => return Some(Err(Broken)),
        Tail::Stall(after) if sent >= *after => pending().await,
        Tail::Cut(after) | Tail::Stall(after) => *after - sent,
        Tail::None | Tail::End(_) | Tail::Watch(_) => usize::MAX,
    };
    let piece = match tail {
        Tail::End(at) => tokio::select! {
            piece = answer.chunk() => piece,
            () = sleep_until(*at) => return None,
        },
        Tail::Watch(stream) => {
            let piece = tokio::select! {
                piece = answer.chunk() => piece,
                () = stream.cut() => return Some(Err(Broken)),
            };
            stream.released().await;
            piece
        }
        _ => answer.chunk().await,
    };
    match piece {
        Ok(piece) => piece.map(|piece| Ok(piece.slice(..piece.len().min(room)))),
        Err(_) => Some(Err(Broken)),
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

fn made(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Body> {
    let mut map = HeaderMap::new();
    map.insert(header::CONTENT_TYPE, "application/json".parse().expect("a header"));
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a header"));
    }
    response(status, map, full(body))
}

fn response(status: u16, mut headers: HeaderMap, body: Body) -> Response<Body> {
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = headers;
    response
}
