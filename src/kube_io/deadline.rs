//! A deadline around every request to the API server, from its first byte to the last of its answer, and a
//! bound on the length of that: nothing that the server or the way to it does can hold a slot for longer, or
//! more memory. Of a watch only the beginning has one; what comes after it is looked after by the watch itself.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

/// Time that the API server has for an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// Longest answer, in bytes; a watch's may be longer. What etcd stores of one object is far shorter, so only
/// a list can be cut off: it is asked for in smaller pages then.
pub(super) const LONGEST: usize = 8 * 1024 * 1024;

/// The request was given up.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub(super) struct NoAnswer(Duration);

/// The rest of the answer was not read.
#[derive(Debug, thiserror::Error)]
#[error("an answer of more than {} MiB", LONGEST / 1024 / 1024)]
pub(super) struct TooLong;

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Wraps the Kubernetes client: requests are given up when this time is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub Duration);

impl<S> Layer<S> for Deadline {
    type Service = Timely<S>;

    fn layer(&self, inner: S) -> Timely<S> {
        Timely { inner, limit: self.0 }
    }
}

/// A client whose requests end in time.
#[derive(Clone, Debug)]
pub(super) struct Timely<S> {
    inner: S,
    limit: Duration,
}

impl<S, A, B> Service<Request<A>> for Timely<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (limit, deadline) = (self.limit, Instant::now() + self.limit);
        let watches = is_watch(&request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let whole = async {
                let answer = answer.await.map_err(Into::into)?;
                let answer = answer.map(|body| body.map_err(Into::into).boxed_unsync());
                if watches { Ok(answer) } else { read(answer).await }
            };
            timeout_at(deadline, whole).await.unwrap_or_else(|_| Err(NoAnswer(limit).into()))
        })
    }
}

/// Reads the whole of an answer, unless it is too long.
async fn read(answer: Answer) -> Result<Answer, BoxError> {
    let (head, mut body) = answer.into_parts();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        if read.len() + piece.len() > LONGEST {
            return Err(TooLong.into());
        }
        read.extend_from_slice(&piece);
    }
    let read = Full::new(Bytes::from(read)).map_err(|never| match never {});
    Ok(Response::from_parts(head, read.boxed_unsync()))
}

/// True for a request whose answer goes on and on.
pub(super) fn is_watch<A>(request: &Request<A>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|part| part == "watch=true" || part == "watch=1")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tower::ServiceExt;

    use super::*;

    /// An answer whose body says a little and then nothing.
    fn stalls() -> UnsyncBoxBody<Bytes, Infallible> {
        let little = stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) });
        StreamBody::new(little.chain(stream::pending())).boxed_unsync()
    }

    async fn ask(uri: &str, headers: Duration) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
        let server = tower::service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(headers).await;
            Ok::<_, Infallible>(Response::new(stalls()))
        });
        Deadline(ANSWER).layer(server).oneshot(Request::get(uri).body(()).unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stalls_anywhere_is_given_up_when_its_time_is_over() {
        for headers in [0, 10, 40] {
            for uri in ["/api/v1/secrets?limit=100", "/api/v1/namespaces/watch=true/secrets/a"] {
                let begun = Instant::now();
                let error = ask(uri, Duration::from_secs(headers)).await.err().unwrap();
                assert_eq!(error.to_string(), "no answer within 30 s");
                assert_eq!(begun.elapsed().as_secs(), ANSWER.as_secs(), "{uri}, headers after {headers} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_has_to_begin_in_time_and_may_go_on() {
        let uri = "/api/v1/secrets?limit=1&watch=true";
        assert!(ask(uri, Duration::from_secs(40)).await.is_err());
        let mut answer = ask(uri, Duration::from_secs(10)).await.unwrap();
        assert!(answer.frame().await.unwrap().is_ok(), "its body is passed on as it comes");
    }
}
