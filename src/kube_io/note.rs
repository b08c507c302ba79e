//! What becomes of each request is noted where it leaves the process: for all who wait for the API server,
//! and for the metrics.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use super::answers::Answers;
use crate::telemetry::Telemetry;
use crate::telemetry::api_requests::ApiRequest;

/// Wraps the Kubernetes client.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub answers: Answers,
    pub telemetry: Arc<Telemetry>,
}

impl<S> Layer<S> for Note {
    type Service = Noted<S>;

    fn layer(&self, inner: S) -> Noted<S> {
        Noted { inner, note: self.clone() }
    }
}

/// A client whose requests are noted.
#[derive(Clone, Debug)]
pub(super) struct Noted<S> {
    inner: S,
    note: Note,
}

impl<S, A, B> Service<Request<A>> for Noted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let note = self.note.clone();
        let asked = ApiRequest::of(request.method(), request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let answered = answer.as_ref().ok();
            note.answers.take_in(answered);
            note.telemetry.api_request_ended(asked, answered.map(|answer| answer.status().as_u16()));
            answer
        })
    }
}
