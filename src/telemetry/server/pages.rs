//! The pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Purpose, Telemetry};

/// The text format that every Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Least time between two renderings of the metrics, which take time of the processor.
const PACE: Duration = Duration::from_millis(50);

/// What a listener answers to.
pub fn router(purpose: Purpose, telemetry: Arc<Telemetry>) -> Router {
    let probes =
        Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(telemetry.clone());
    match purpose {
        Purpose::Probes => probes,
        Purpose::ProbesAndMetrics => {
            let metrics = Arc::new(MetricsPage::new(telemetry));
            probes.merge(Router::new().route("/metrics", get(MetricsPage::answer)).with_state(metrics))
        }
    }
}

async fn livez(State(telemetry): State<Arc<Telemetry>>) -> (StatusCode, &'static str) {
    if telemetry.health.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop has stopped\n")
    }
}

async fn readyz(State(telemetry): State<Arc<Telemetry>>) -> (StatusCode, String) {
    if !telemetry.health.is_ready() {
        let unread = "the cluster's objects have not all been read\n";
        return (StatusCode::SERVICE_UNAVAILABLE, unread.to_owned());
    }
    match telemetry.watches.stale() {
        kinds if kinds.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        kinds => {
            let stale = format!("watches fail, what is known may be out of date: {}\n", kinds.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, stale)
        }
    }
}

/// The metrics as text. However many ask, one rendering goes on at a time, away from the thread of the
/// probes, and those who wait for the next share it: its numbers are never older than their requests.
struct MetricsPage {
    telemetry: Arc<Telemetry>,
    /// Renderings that were begun.
    begun: Arc<AtomicU64>,
    latest: Arc<Mutex<Latest>>,
}

struct Latest {
    pace: Interval,
    /// Which rendering it is.
    number: u64,
    status: StatusCode,
    text: Bytes,
}

impl MetricsPage {
    fn new(telemetry: Arc<Telemetry>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let latest = Latest { pace, number: 0, status: StatusCode::OK, text: Bytes::new() };
        Self { telemetry, begun: Arc::default(), latest: Arc::new(Mutex::new(latest)) }
    }

    async fn answer(State(page): State<Arc<Self>>) -> impl IntoResponse {
        let (status, text) = page.text().await;
        (status, [(CONTENT_TYPE, TEXT)], text)
    }

    async fn text(&self) -> (StatusCode, Bytes) {
        let begun_before = self.begun.load(Ordering::Relaxed);
        let mut latest = self.latest.clone().lock_owned().await;
        if latest.number > begun_before {
            return (latest.status, latest.text.clone());
        }
        latest.pace.tick().await;
        let (telemetry, begun) = (self.telemetry.clone(), self.begun.clone());
        // The lock goes with it: a peer that hangs up meanwhile does not let a second one begin.
        let rendered = tokio::task::spawn_blocking(move || {
            latest.number = begun.fetch_add(1, Ordering::Relaxed) + 1;
            (latest.status, latest.text) = match telemetry.metrics.text(&telemetry.watches) {
                Ok(text) => (StatusCode::OK, text.into()),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
            };
            (latest.status, latest.text.clone())
        });
        rendered.await.unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()))
    }
}
