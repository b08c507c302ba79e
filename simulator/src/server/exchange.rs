//! One request and its answer: the entry in the ledger, the service, and the fault that hits it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::body::{AnswerBody, pause};
use super::pacing::Pacing;
use crate::dps::{Answer, MAX_BODY, Request, has_csr};
use crate::faults::{self, Context, Delivery, FaultAction, FaultyAnswer, Hit, SlowFrom};
use crate::ledger::{Closing, Opening, Outcome};
use crate::peer::Peer;
use crate::route::Route;
use crate::shared::{Outage, Shared};

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut by a fault")]
pub(super) struct Aborted;

/// A request that has been read, with its open entry in the ledger.
pub(super) struct Exchange<'a> {
    shared: &'a Shared,
    pacing: &'a Pacing,
    peer: &'a Peer,
    head: Parts,
    route: Route,
    /// None if the body is larger than DPS accepts.
    body: Option<Bytes>,
    entry: Entry<'a>,
}

impl<'a> Exchange<'a> {
    /// Reads a request and answers it.
    pub async fn run(
        shared: &'a Shared,
        pacing: &'a Pacing,
        peer: &'a Peer,
        request: http::Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Aborted> {
        let (head, body) = request.into_parts();
        let route = Route::of(&head.method, head.uri.path());
        let entry = Entry::open(shared, peer, &head, &route);
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.ok().map(|body| body.to_bytes());
        if body.as_deref().is_some_and(has_csr) {
            entry.note_csr();
        }
        let exchange = Self { shared, pacing, peer, head, route, body, entry };
        exchange.check_outage().await?;
        let fault = shared.faults().take(&exchange.route);
        match fault {
            None => Ok(exchange.answer()),
            Some(hit) => exchange.answer_with(hit).await,
        }
    }

    fn answer(mut self) -> Response<AnswerBody> {
        let answer = self.process();
        let closing = Closing {
            status: Some(answer.status),
            error_code: answer.error_code,
            key: answer.key.clone(),
            issued: answer.issued.clone(),
            fault: None,
            outcome: answer.outcome,
        };
        self.entry.close(closing);
        let response = response(self.shared, answer).map(|body| AnswerBody::Whole(Some(body)));
        self.finish(response)
    }

    async fn answer_with(mut self, Hit { id, fault }: Hit) -> Result<Response<AnswerBody>, Aborted> {
        if let (FaultAction::Delay { time }, false) = (&fault.action, fault.processed) {
            tokio::time::sleep(*time).await;
        }
        let mut closing = Closing { fault: Some(id), outcome: Outcome::Faulted, ..Closing::unanswered() };
        let mut answered = None;
        if fault.processed || fault.action.needs_answer() {
            let mut answer = self.process();
            closing.outcome = answer.outcome;
            closing.key = answer.key.take();
            closing.issued = answer.issued.take();
            closing.error_code = answer.error_code.filter(|_| fault.action.needs_answer());
            answered = Some(response(self.shared, answer));
        }
        let service = &self.shared.service;
        let context = Context {
            kind: self.route.kind,
            now: self.shared.clock.now().wall,
            ids: &service.ids,
            retry_after: service.settings().retry_after.map(whole_seconds),
        };
        let faulty = faults::apply(&fault.action, answered, &context);
        if faulty.delivery != Delivery::Reset {
            closing.status = Some(faulty.response.status().as_u16());
        }
        closing.error_code = faulty.error_code.or(closing.error_code);
        self.entry.close(closing);
        let response = self.deliver(faulty, fault.processed).await?;
        Ok(self.finish(response))
    }

    async fn deliver(&self, faulty: FaultyAnswer, processed: bool) -> Result<Response<AnswerBody>, Aborted> {
        let mut response = faulty.response;
        let body = std::mem::take(response.body_mut());
        let body = match faulty.delivery {
            Delivery::Whole => AnswerBody::Whole(Some(body)),
            Delivery::Late(time) => {
                if processed {
                    tokio::time::sleep(time).await;
                }
                AnswerBody::Whole(Some(body))
            }
            Delivery::Truncated => AnswerBody::truncated(body),
            Delivery::Slow { bytes_per_second, from: SlowFrom::Body } => {
                AnswerBody::slow(body, bytes_per_second)
            }
            Delivery::Slow { bytes_per_second, from: SlowFrom::Head } => {
                self.pacing.slow_down(pause(bytes_per_second));
                // The next answer is sent at full speed, so over another connection.
                close(&mut response);
                AnswerBody::Whole(Some(body))
            }
            Delivery::Fill { bytes, of } => AnswerBody::fill(bytes, of),
            Delivery::Endless => AnswerBody::endless(),
            Delivery::Reset => {
                self.pacing.request_reset();
                return Err(Aborted);
            }
        };
        Ok(response.map(|_| body))
    }

    /// Lets the service carry the request out.
    fn process(&self) -> Answer {
        let headers = &self.head.headers;
        let request = Request {
            route: &self.route,
            query: self.head.uri.query().unwrap_or_default(),
            host: text(headers, HOST),
            authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
            chain: self.peer.chain.as_ref(),
            content_type: text(headers, CONTENT_TYPE),
            body: self.body.as_deref(),
        };
        self.shared.service.answer(&request, self.shared.clock.now())
    }

    fn finish(&self, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
        if self.body.is_none() {
            // The rest of the request has not been read.
            close(&mut response);
        }
        // Otherwise the server adds one by the machine's clock.
        if self.shared.clock.ahead() != 0 && !response.headers().contains_key(DATE) {
            let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&self.shared.clock.now().wall);
            insert(response.headers_mut(), DATE, &date.unwrap_or_default());
        }
        response
    }

    /// An outage applies to connections that were open before it began, too.
    async fn check_outage(&self) -> Result<(), Aborted> {
        match self.shared.outage() {
            Outage::None => Ok(()),
            Outage::Reset => {
                self.pacing.request_reset();
                Err(Aborted)
            }
            Outage::Silent => std::future::pending().await,
        }
    }
}

/// An open entry of the ledger. It is closed as abandoned when the client disconnects.
struct Entry<'a> {
    shared: &'a Shared,
    sequence: Option<u64>,
}

impl<'a> Entry<'a> {
    fn open(shared: &'a Shared, peer: &Peer, head: &Parts, route: &Route) -> Self {
        let sequence = shared.ledger().open(Opening {
            time: shared.clock.now().wall,
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            authorized: head.headers.contains_key(AUTHORIZATION),
            peer,
            route,
        });
        shared.ledger_changed.notify_waiters();
        Self { shared, sequence: Some(sequence) }
    }

    fn note_csr(&self) {
        if let Some(sequence) = self.sequence {
            self.shared.ledger().note_csr(sequence);
        }
    }

    fn close(&mut self, closing: Closing) {
        if let Some(sequence) = self.sequence.take() {
            self.shared.ledger().close(sequence, closing);
            self.shared.ledger_changed.notify_waiters();
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.close(Closing::unanswered());
    }
}

fn response(shared: &Shared, answer: Answer) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    insert(headers, HeaderName::from_static("x-ms-request-id"), &shared.service.ids.guid());
    if let Some(code) = answer.error_code.filter(|_| answer.status >= 400) {
        insert(headers, HeaderName::from_static("x-ms-error-code"), &code.to_string());
    }
    if let Some(wait) = answer.retry_after {
        insert(headers, RETRY_AFTER, &whole_seconds(wait).to_string());
    }
    if let Some(location) = answer.location {
        insert(headers, LOCATION, &location);
    }
    response
}

fn close(response: &mut Response<impl Sized>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Rounded up, so that a client that waits this long does not retry too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Sets a header, unless the value has characters that no header can have.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
