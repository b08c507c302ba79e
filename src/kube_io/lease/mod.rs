//! Leader election by a Lease, observed as client-go does. One leader acts; the others watch and
//! wait. A leader that cannot renew in time ends: another process may lead already.

mod decide;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use self::decide::{Election, LEASE, LeaseRecord, LeaseStep, POLL_INTERVAL, RENEW_INTERVAL};
use super::error::ApiError;
use crate::api::names::FIELD_MANAGER;
use crate::clock;

/// A call of a standby that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// A standby warns after this many failures in a row.
const WORTH_A_WARNING: u32 = 8;

/// The lease was not renewed in time, or another process took it.
#[derive(Debug, thiserror::Error)]
#[error("the lease {namespace}/{name} was lost: another replica may lead now, so this one ends")]
pub struct LeaseLost {
    namespace: String,
    name: String,
}

/// The lease to compete for, and the identity to do it with.
#[derive(Clone, Debug)]
pub struct ElectionSettings {
    pub namespace: String,
    pub name: String,
    /// Unique for each process, so that one that was restarted does not take itself for its predecessor.
    pub identity: String,
}

/// Takes part in the election until `end` turns true, then gives the lease away if it holds it.
/// `leads` says until when this process may act as the leader; nothing while it stands by.
///
/// # Errors
/// `LeaseLost` when it was the leader and is not any more.
pub async fn run(
    client: Client,
    settings: ElectionSettings,
    leads: watch::Sender<Option<Instant>>,
    mut end: watch::Receiver<bool>,
) -> Result<(), LeaseLost> {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut candidate = Candidate {
        election: Election::new(settings.identity.clone(), clock::now().mono),
        api,
        settings,
        known: None,
        failures: 0,
    };
    info!(lease = candidate.settings.name, namespace = candidate.settings.namespace, "standing by");
    loop {
        let next = candidate.round(&leads).await?;
        let ended = tokio::select! {
            () = sleep_until(next) => false,
            // A sender that is dropped counts as the end, too.
            _ = end.wait_for(|end| *end) => true,
        };
        if ended {
            // From here on nothing is written any more: the next leader may begin at once.
            leads.send_replace(None);
            candidate.release().await;
            return Ok(());
        }
    }
}

struct Candidate {
    api: Api<Lease>,
    settings: ElectionSettings,
    election: Election,
    /// The lease as it was last read or written.
    known: Option<Lease>,
    failures: u32,
}

impl Candidate {
    /// One turn: reads the lease, decides, writes. Returns when the next turn is due.
    async fn round(&mut self, leads: &watch::Sender<Option<Instant>>) -> Result<Instant, LeaseLost> {
        let begun = clock::now().mono;
        // A leader knows its lease: no other process writes it.
        if !self.election.leads() && !self.read().await {
            return Ok(begun + POLL_INTERVAL);
        }
        match self.election.decide(clock::now().mono) {
            LeaseStep::Wait => Ok(begun + POLL_INTERVAL),
            LeaseStep::Lost => Err(self.lost()),
            step @ (LeaseStep::Create | LeaseStep::Take | LeaseStep::Renew) => {
                let wrote = self.write(step).await;
                if self.election.decide(clock::now().mono) == LeaseStep::Lost {
                    return Err(self.lost());
                }
                if wrote && leads.send_replace(self.election.deadline()).is_none() {
                    info!(lease = self.settings.name, identity = self.settings.identity, "leading");
                }
                let next = begun + if wrote { RENEW_INTERVAL } else { POLL_INTERVAL };
                // It ends at the deadline, not a moment later.
                Ok(self.election.deadline().map_or(next, |deadline| deadline.min(next)))
            }
        }
    }

    fn lost(&self) -> LeaseLost {
        LeaseLost { namespace: self.settings.namespace.clone(), name: self.settings.name.clone() }
    }

    /// Reads the lease; false if the API server did not answer.
    async fn read(&mut self) -> bool {
        let deadline = self.patience();
        let answer = timeout_at(deadline, self.api.get_opt(&self.settings.name)).await;
        match answer.unwrap_or(Err(kube::Error::Service("no answer in time".into()))) {
            Ok(lease) => {
                self.election.observe(lease.as_ref().map(record), clock::now().mono);
                (self.known, self.failures) = (lease, 0);
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Writes the lease with our name; true if it is ours now.
    async fn write(&mut self, step: LeaseStep) -> bool {
        let (begun, deadline) = (clock::now().mono, self.patience());
        let lease = self.lease(&self.settings.identity, LEASE);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = &self.settings.name;
        let answer = match step {
            LeaseStep::Create => timeout_at(deadline, self.api.create(&params, &lease)).await,
            _ => timeout_at(deadline, self.api.replace(name, &params, &lease)).await,
        };
        match answer.unwrap_or(Err(kube::Error::Service("no answer in time".into()))) {
            Ok(written) => {
                self.election.written(record(&written), begun);
                (self.known, self.failures) = (Some(written), 0);
                true
            }
            Err(error) => {
                self.failed(&error);
                if self.election.leads() {
                    // Another process wrote, or our own write got through and its answer was lost.
                    self.read().await;
                }
                false
            }
        }
    }

    /// Gives the lease away: the next one need not wait until it expires.
    async fn release(&mut self) {
        if !self.election.leads() {
            return;
        }
        let lease = self.lease("", Duration::from_secs(1));
        let params = PostParams::default();
        let released = self.api.replace(&self.settings.name, &params, &lease);
        match timeout_at(self.patience(), released).await {
            Ok(Ok(_)) => info!(lease = self.settings.name, "the lease is released"),
            _ => warn!(lease = self.settings.name, "the lease was not released; it expires by itself"),
        }
    }

    /// A leader waits for no answer beyond the time in which it has to stop.
    fn patience(&self) -> Instant {
        let patience = clock::now().mono + PATIENCE;
        self.election.deadline().map_or(patience, |deadline| deadline.min(patience))
    }

    fn lease(&self, holder: &str, duration: Duration) -> Lease {
        let before = self.known.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(clock::now().wall);
        let same = before.holder_identity.as_deref() == Some(holder);
        let transitions = before.lease_transitions.unwrap_or(0);
        let changes = !same && !holder.is_empty() && self.known.is_some();
        let metadata = self.known.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
        Lease {
            metadata: ObjectMeta { name: Some(self.settings.name.clone()), managed_fields: None, ..metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
                acquire_time: if same { before.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if changes { transitions.saturating_add(1) } else { transitions }),
                ..LeaseSpec::default()
            }),
        }
    }

    fn failed(&mut self, error: &kube::Error) {
        self.failures += 1;
        let (failures, lease) = (self.failures, &self.settings.name);
        match ApiError::from(error) {
            ApiError::Conflict => debug!(lease, "another process wrote the lease first"),
            ApiError::Forbidden(_) if failures.is_power_of_two() => {
                warn!(
                    failures,
                    lease,
                    "the operator may not read or write its lease; check the RBAC rules of its ServiceAccount"
                );
            }
            error if failures.is_power_of_two() && (failures >= WORTH_A_WARNING || self.election.leads()) => {
                warn!(failures, lease, %error, "the lease cannot be read or written; it is tried again");
            }
            error => debug!(failures, lease, %error, "the lease was not read or written"),
        }
    }
}

fn record(lease: &Lease) -> LeaseRecord {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    LeaseRecord {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        duration: seconds.map_or(LEASE, Duration::from_secs),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kube_io::tests::scripted::{Asked, Fault, Scripted};
    use crate::telemetry::Telemetry;

    #[tokio::test(start_paused = true)]
    async fn a_standby_looks_every_second_while_the_api_server_fails() {
        for fault in [Fault::Status(403), Fault::Status(500), Fault::Refused, Fault::Garbage] {
            let api = Scripted::new();
            api.fail(Some(fault), None);
            let client = api.server(Arc::new(Telemetry::new().unwrap())).client;
            let settings = ElectionSettings {
                namespace: "dps-system".to_owned(),
                name: "dps-operator".to_owned(),
                identity: "me".to_owned(),
            };
            let ((leads, _), (_end, ended)) = (watch::channel(None), watch::channel(false));
            let begun = Instant::now();
            tokio::spawn(run(client, settings, leads, ended));
            tokio::time::sleep(Duration::from_secs(60)).await;
            let asked = api.asked_since(begun, Asked::Get);
            assert!((59..=62).contains(&asked), "{fault:?}: {asked} in a minute");
        }
    }
}
