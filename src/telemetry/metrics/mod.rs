//! Metrics, named as Prometheus asks. Labels are closed sets, and the namespace and name of an
//! integration; never a device, an id or a message.

mod fleet;
mod watches;

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::fleet::FleetCollector;
pub use self::fleet::{CertificateGauges, IntegrationGauges, RotationGauges, Unserved};
use self::watches::WatchMetrics;
use super::api_requests::{OUTCOMES, WRITES};
use super::watches::WatchStates;

/// From a call that was answered at once to a registration that ran into its limit, in seconds.
const DPS_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// From a queue that is empty to a fleet that waits for hours.
const WAIT_SECONDS: [f64; 10] = [0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0];

/// Resources that the operator writes and writes again when something else has changed them.
pub const CONTESTABLE: [&str; 3] = ["dpsintegrations", "provisioneddevices", "secrets"];

/// How the queues stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueGauges {
    /// Waiting devices by lane.
    pub waiting: Vec<(&'static str, usize)>,
    pub in_flight: u32,
    /// Id scopes in which DPS has asked to wait.
    pub throttled_scopes: usize,
    /// Share of its rate that the slowest id scope uses: 1 if none is slowed down, 0 while one waits.
    pub rate_factor: f64,
}

/// Values of labels that are not known here.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Lanes of the queue for permits.
    pub lanes: &'a [&'a str],
    /// Kinds of objects that are watched.
    pub kinds: &'a [&'static str],
    /// Of connections to DPS.
    pub credentials: &'a [&'a str],
    /// Requests to DPS, and their outcomes.
    pub operations: &'a [&'a str],
    pub outcomes: &'a [&'a str],
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leader: IntGauge,
    watches: WatchMetrics,
    watch_starts: IntCounterVec,
    queue: QueueMetrics,
    dps: DpsMetrics,
    api_requests: IntCounterVec,
    write_conflicts: IntCounterVec,
    contested: IntGaugeVec,
    events_dropped: IntCounter,
    loop_busy: Histogram,
    fleet: FleetCollector,
}

/// The queue for permits.
#[derive(Debug)]
struct QueueMetrics {
    waiting: IntGaugeVec,
    wait: HistogramVec,
    permits: IntCounterVec,
    throttled_scopes: IntGauge,
    rate_factor: Gauge,
}

impl QueueMetrics {
    fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            waiting: make.gauges(
                "queue_length",
                "Devices that wait for a permit to call DPS.",
                &["lane"],
            )?,
            wait: make.histograms(
                "queue_wait_seconds",
                "How long devices waited for a permit to call DPS.",
                &["lane"],
                &WAIT_SECONDS,
            )?,
            permits: make.counters("permits_total", "Permits to call DPS that were granted.", &["lane"])?,
            throttled_scopes: make.gauge("throttled_scopes", "Id scopes in which DPS has asked to wait.")?,
            rate_factor: make.float(
                "rate_factor",
                "Share of its rate that the slowest id scope uses: halved by a 429, 0 while DPS has asked to wait.",
            )?,
        })
    }
}

/// Calls to DPS.
#[derive(Debug)]
struct DpsMetrics {
    throttled: IntCounter,
    in_flight: IntGauge,
    requests: IntCounterVec,
    seconds: HistogramVec,
    handshakes: IntCounterVec,
    failed: IntCounterVec,
}

impl DpsMetrics {
    fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            throttled: make.counter("throttled_total", "Calls that DPS answered with 429.")?,
            in_flight: make.gauge("dps_operations_in_flight", "Registrations and lookups that go on.")?,
            requests: make.counters(
                "dps_requests_total",
                "Requests to DPS.",
                &["operation", "outcome"],
            )?,
            seconds: make.histograms(
                "dps_request_duration_seconds",
                "Time until DPS has answered a request.",
                &["operation"],
                &DPS_SECONDS,
            )?,
            handshakes: make.counters(
                "dps_handshakes_total",
                "TLS connections to DPS that were made, by the credential of the devices.",
                &["credential"],
            )?,
            failed: make.counters(
                "dps_operations_failed_total",
                "Registrations and lookups that did not end with an assignment, by the reason that the device shows.",
                &["reason"],
            )?,
        })
    }
}

impl Metrics {
    /// # Errors
    /// When a name is taken or cannot be one.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let build = make.gauges("build_info", "Which version runs; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let fleet = FleetCollector::new()?;
        registry.register(Box::new(fleet.clone()))?;
        let metrics = Self {
            leader: make.gauge("leader", "1 while this replica acts, 0 while it stands by.")?,
            watches: WatchMetrics::new(&make)?,
            watch_starts: make.counters(
                "watch_starts_total",
                "Watches that were begun; each ends after some minutes.",
                &["resource"],
            )?,
            queue: QueueMetrics::new(&make)?,
            dps: DpsMetrics::new(&make)?,
            api_requests: make.counters(
                "api_requests_total",
                "Requests to the Kubernetes API server.",
                &["verb", "resource", "outcome"],
            )?,
            write_conflicts: make.counters(
                "write_conflicts_total",
                "Writes that were refused because the object had changed or existed.",
                &["resource"],
            )?,
            contested: make.gauges(
                "contested_objects",
                "Objects that something else keeps changing after the operator has written them.",
                &["resource"],
            )?,
            events_dropped: make
                .counter("events_dropped_total", "Events that were not sent because too many waited.")?,
            loop_busy: make.histogram(
                "loop_busy_seconds",
                "Time that the loop took for what it had to do at once.",
                &DPS_SECONDS,
            )?,
            fleet,
            registry: registry.clone(),
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A series that is there from the start shows its first increase.
    fn begin_at_zero(&self) {
        for (verb, resource) in WRITES {
            for outcome in OUTCOMES {
                self.api_requests.with_label_values(&[verb, resource, outcome]);
            }
            self.write_conflicts.with_label_values(&[resource]);
        }
        self.set_contested(&CONTESTABLE.map(|resource| (resource, 0)));
        self.queue.rate_factor.set(1.0);
    }

    /// Does the same for series whose labels are not known here.
    pub fn begin_series_at_zero(&self, labels: &Labels<'_>) {
        let Labels { lanes, kinds, credentials, operations, outcomes } = *labels;
        for lane in lanes {
            self.queue.waiting.with_label_values(&[*lane]).set(0);
            self.queue.permits.with_label_values(&[*lane]);
            self.queue.wait.with_label_values(&[*lane]);
        }
        for kind in kinds {
            self.watches.set_read(kind, false);
        }
        for credential in credentials {
            self.dps.handshakes.with_label_values(&[*credential]);
        }
        for operation in operations {
            self.dps.seconds.with_label_values(&[*operation]);
            for outcome in outcomes {
                self.dps.requests.with_label_values(&[*operation, *outcome]);
            }
        }
    }

    /// Everything, in the text format; `watches` as they stand now.
    ///
    /// # Errors
    /// When a family is inconsistent, which its test rules out.
    pub(super) fn text(&self, watches: &WatchStates) -> Result<String, prometheus::Error> {
        self.watches.refresh(watches);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub fn set_leading(&self) {
        self.leader.set(1);
    }

    /// Whether everything of a kind has been read, and the API server lets us watch it.
    pub fn set_synced(&self, kind: &'static str, is: bool) {
        self.watches.set_read(kind, is);
    }

    pub fn set_queues(&self, gauges: &QueueGauges) {
        for (lane, waiting) in &gauges.waiting {
            self.queue.waiting.with_label_values(&[*lane]).set(i64::try_from(*waiting).unwrap_or(i64::MAX));
        }
        self.dps.in_flight.set(i64::from(gauges.in_flight));
        self.queue.throttled_scopes.set(i64::try_from(gauges.throttled_scopes).unwrap_or(i64::MAX));
        self.queue.rate_factor.set(gauges.rate_factor);
    }

    /// Counts a permit that a device got to call DPS.
    pub fn count_grant(&self, lane: &str, waited: Duration) {
        self.queue.permits.with_label_values(&[lane]).inc();
        self.queue.wait.with_label_values(&[lane]).observe(waited.as_secs_f64());
    }

    /// Counts a connection to DPS.
    pub fn count_dps_handshake(&self, credential: &str) {
        self.dps.handshakes.with_label_values(&[credential]).inc();
    }

    /// Counts a request that DPS answered, or did not.
    pub fn count_dps_request(&self, operation: &str, outcome: &str, took: Duration) {
        self.dps.requests.with_label_values(&[operation, outcome]).inc();
        self.dps.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
        if outcome == "throttled" {
            self.dps.throttled.inc();
        }
    }

    /// Counts a registration or lookup that has failed for good or until its next try.
    pub fn count_failed_operation(&self, reason: &str) {
        self.dps.failed.with_label_values(&[reason]).inc();
    }

    /// Counts a request that the API server answered, or did not.
    pub(super) fn count_api_request(&self, verb: &str, resource: &str, outcome: &str) {
        self.api_requests.with_label_values(&[verb, resource, outcome]).inc();
        match (verb, outcome) {
            ("watch", _) => self.watch_starts.with_label_values(&[resource]).inc(),
            ("create" | "update" | "patch", "conflict") => {
                self.write_conflicts.with_label_values(&[resource]).inc()
            }
            _ => {}
        }
    }

    /// Sets how many objects of each resource have another writer.
    pub fn set_contested(&self, contested: &[(&str, usize)]) {
        for (resource, objects) in contested {
            let gauge = self.contested.with_label_values(&[*resource]);
            gauge.set(i64::try_from(*objects).unwrap_or(i64::MAX));
        }
    }

    pub fn count_dropped_event(&self) {
        self.events_dropped.inc();
    }

    pub fn observe_turn(&self, took: Duration) {
        self.loop_busy.observe(took.as_secs_f64());
    }

    /// Sets what is known now of all integrations, and of namespaces that have devices without one.
    pub fn set_fleet(&self, integrations: Vec<IntegrationGauges>, unserved: Vec<Unserved>) {
        self.fleet.set(integrations, unserved);
    }
}

/// Makes metrics of the operator and registers them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::with_opts(opts(name, help))?)
    }

    fn float(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.keep(Gauge::with_opts(opts(name, help))?)
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.keep(GaugeVec::new(opts(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::with_opts(opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.keep(Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(opts, labels)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("dps_operator")
}

#[cfg(test)]
mod tests;
