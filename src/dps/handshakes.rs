//! Connections to DPS are counted as they are made: each is a TLS handshake.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::observe::Observer;

/// Reports each connection that a client makes.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub observer: Arc<dyn Observer>,
    /// One of `observe::CREDENTIALS`.
    pub credential: &'static str,
}

/// What makes connections.
#[derive(Clone, Debug)]
pub(super) struct CountedConnector<S> {
    inner: S,
    counted: Counted,
}

impl<S> Layer<S> for Counted {
    type Service = CountedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedConnector { inner, counted: self.clone() }
    }
}

impl<S, R> Service<R> for CountedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let (connecting, counted) = (self.inner.call(to), self.counted.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            counted.observer.handshake_made(counted.credential);
            Ok(connection)
        })
    }
}
