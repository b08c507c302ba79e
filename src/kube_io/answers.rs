//! Whether the API server answers, known to all: after an outage everybody who waits is called as soon
//! as one request has got through.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Response;
use http::header::RETRY_AFTER;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest that a server may ask to wait.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Answers that lie further apart, with failures between them, are the end of an outage.
const OUTAGE: Duration = Duration::from_secs(2);

/// What requests have shown.
#[derive(Debug)]
struct Shown {
    answered: Instant,
    failed_since: bool,
    /// Until when the server has asked to wait.
    wait_until: Option<Instant>,
}

/// Shared by everything that talks to one API server.
#[derive(Clone, Debug)]
pub struct Answers {
    shown: Arc<Mutex<Shown>>,
    outages: Arc<watch::Sender<u64>>,
}

/// Ends when an outage does.
pub struct Recovery(watch::Receiver<u64>);

impl Recovery {
    pub async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Answers {
    pub(super) fn new() -> Self {
        let shown = Shown { answered: Instant::now(), failed_since: false, wait_until: None };
        Self { shown: Arc::new(Mutex::new(shown)), outages: Arc::new(watch::channel(0).0) }
    }

    /// The end of the next outage.
    pub fn recovery(&self) -> Recovery {
        Recovery(self.outages.subscribe())
    }

    /// How long the server has asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        let wait = self.lock().wait_until?.saturating_duration_since(Instant::now());
        Some(wait.min(LONGEST_RETRY_AFTER)).filter(|wait| !wait.is_zero())
    }

    fn answered(&self) {
        let now = Instant::now();
        let mut shown = self.lock();
        let outage = std::mem::take(&mut shown.failed_since) && shown.answered + OUTAGE <= now;
        shown.answered = now;
        drop(shown);
        if outage {
            self.outages.send_modify(|outages| *outages += 1);
        }
    }

    fn failed(&self) {
        self.lock().failed_since = true;
    }

    pub(crate) fn take_in<B>(&self, answer: Option<&Response<B>>) {
        let status = answer.map_or(0, |answer| answer.status().as_u16());
        if status == 429 {
            let after = answer.and_then(|answer| answer.headers().get(RETRY_AFTER)?.to_str().ok());
            let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            self.lock().wait_until = after.and_then(|after| Instant::now().checked_add(after));
        }
        match status {
            0 | 401 | 502..=504 => self.failed(),
            _ => self.answered(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn answer(status: u16, retry_after: &str) -> Response<()> {
        Response::builder().status(status).header(RETRY_AFTER, retry_after).body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_called_when_an_outage_ends_and_not_before() {
        let answers = Answers::new();
        let mut recovery = answers.recovery();
        for failure in [None, Some(answer(503, "")), Some(answer(401, ""))] {
            tokio::time::advance(OUTAGE).await;
            answers.take_in(failure.as_ref());
        }
        assert!(recovery.wait().now_or_never().is_none());
        answers.take_in(Some(&answer(404, "")));
        assert!(recovery.wait().now_or_never().is_some());

        // One resource that fails among others that do not is no outage.
        let mut recovery = answers.recovery();
        for _ in 0..10 {
            tokio::time::advance(OUTAGE / 4).await;
            answers.take_in(None::<&Response<()>>);
            answers.take_in(Some(&answer(200, "")));
        }
        assert!(recovery.wait().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_to_wait_is_remembered_for_as_long_as_it_asks() {
        let answers = Answers::new();
        answers.take_in(Some(&answer(429, "7")));
        assert_eq!(answers.retry_after(), Some(Duration::from_secs(7)));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(answers.retry_after(), None);
        for odd in ["", "soon", "-1", "99999999999999999999"] {
            answers.take_in(Some(&answer(429, odd)));
            assert_eq!(answers.retry_after(), None, "{odd:?}");
        }
    }
}
