//! The admin API: JSON over plain HTTP on a loopback address.

mod api;

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use self::api::Call;
use crate::control::Control;
use crate::server::{Stop, serve_until_stop};

const MAX_BODY: usize = 1024 * 1024;

/// Serves one connection of the admin API.
pub(crate) async fn serve(control: Control, stream: TcpStream, stop: Stop) {
    let service = service_fn(|request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(handle(&control, request).await) }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serve_until_stop(&mut connection, stop).await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

async fn handle(control: &Control, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return respond(StatusCode::PAYLOAD_TOO_LARGE, api::problem("the body is too large"));
    };
    let call = Call {
        control,
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        body: &body.to_bytes(),
    };
    match api::answer(&call) {
        Ok(None) => respond(StatusCode::NO_CONTENT, Vec::new()),
        Ok(Some(body)) => respond(StatusCode::OK, body),
        Err(error) => respond(error.status(), api::problem(&error.to_string())),
    }
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let has_body = !body.is_empty();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if has_body {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}
