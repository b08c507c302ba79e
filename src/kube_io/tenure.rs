//! The time in which this process may act. The client itself lets no write out after it: whoever asks for
//! one, and for however long it has waited for a slot, a connection or a processor.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, Service};

/// Where leases are: the election itself has to write one before and after.
const LEASES: &str = "/apis/coordination.k8s.io/";

/// The lease is over, or was never held: the request has not left.
#[derive(Debug, thiserror::Error)]
#[error("this process does not lead, so the request was not sent")]
pub(super) struct NotLeading;

/// Until when this process may act, as the election says; it moves with each renewal.
#[derive(Clone, Debug)]
pub struct Tenure(watch::Receiver<Option<Instant>>);

impl Tenure {
    pub fn new(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }

    fn lasts(&self) -> bool {
        // The clock is read each time: a process that was frozen wakes up with timers that have not fired.
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Ends when the tenure does; at once if there is none.
    pub async fn over(&self) {
        let mut renewals = self.0.clone();
        loop {
            let until = *renewals.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            tokio::select! {
                () = sleep_until(until) => {}
                // An election that is over renews nothing.
                Ok(()) = renewals.changed() => {}
            }
        }
    }
}

impl<S> Layer<S> for Tenure {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, tenure: self.clone() }
    }
}

/// A client that writes nothing after the end of the tenure.
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    inner: S,
    tenure: Tenure,
}

impl<S, A, B> Service<Request<A>> for Fenced<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let open = reads || request.uri().path().starts_with(LEASES);
        let (tenure, answer) = (self.tenure.clone(), self.inner.call(request));
        Box::pin(async move {
            if open {
                return answer.await.map_err(Into::into);
            }
            let (mut answer, mut over) = (pin!(answer), pin!(tenure.over()));
            poll_fn(|context| {
                if !tenure.lasts() || over.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(NotLeading.into()));
                }
                answer.as_mut().poll(context).map_err(Into::into)
            })
            .await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tower::ServiceExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SECRETS: &str = "/api/v1/namespaces/fleet/secrets";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/dps-system/leases/dps-operator";

    /// Sends a request that needs three seconds before it leaves; true if it has left.
    async fn leaves(tenure: &Tenure, method: &Method, path: &str) -> bool {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let wire = tower::service_fn(move |_: Request<()>| {
            let counter = counter.clone();
            async move {
                tokio::time::sleep(3 * SECOND).await;
                counter.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(()))
            }
        });
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let answered = tenure.layer(wire).oneshot(request).await.is_ok();
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(answered, sent.load(Ordering::Relaxed) == 1);
        answered
    }

    #[tokio::test(start_paused = true)]
    async fn no_write_leaves_after_the_tenure_however_long_it_has_waited() {
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        // Tenure left when the request is made, and whether it leaves.
        for (left, expected) in [(None, false), (Some(0), false), (Some(2), false), (Some(4), true)] {
            for method in &writes {
                let until = left.map(|seconds| Instant::now() + seconds * SECOND);
                let (_election, until) = watch::channel(until);
                let tenure = Tenure::new(until);
                assert_eq!(leaves(&tenure, method, SECRETS).await, expected, "{method} {left:?}");
                assert!(leaves(&tenure, method, LEASE).await, "the election goes on");
                assert!(leaves(&tenure, &Method::GET, SECRETS).await, "a standby reads");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_lets_go_on_and_a_resignation_ends_it_at_once() {
        let (election, until) = watch::channel(Some(Instant::now() + 2 * SECOND));
        let tenure = Tenure::new(until);
        let renewed = async {
            tokio::time::sleep(SECOND).await;
            election.send_replace(Some(Instant::now() + 20 * SECOND));
        };
        assert!(tokio::join!(leaves(&tenure, &Method::PUT, SECRETS), renewed).0);

        let resigned = async {
            tokio::time::sleep(SECOND).await;
            election.send_replace(None);
        };
        assert!(!tokio::join!(leaves(&tenure, &Method::PUT, SECRETS), resigned).0);
        let begun = Instant::now();
        tenure.over().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
