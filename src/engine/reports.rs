//! Statuses of integrations are written here, and counters taken.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tracing::{Instrument, info_span, warn};

use super::devices::ContestedObjects;
use super::integrations::Report;
use super::publish::EventWindow;
use super::{Engine, Message};
use crate::api::integration::DpsIntegration;
use crate::clock::Now;
use crate::controller::events::{CONTESTED, EventNote, EventReason};
use crate::kube_io::events::reference;
use crate::telemetry::metrics::CONTESTABLE;

impl Engine {
    /// Writes the statuses of integrations that are due, and takes counters if they are.
    pub(super) fn report_integrations(&mut self, now: Now) {
        let counting = self.sync.is_complete();
        let counted = counting && self.registry.count_if_due(&self.fleet, now);
        if counted {
            self.active.forget_calm(now.mono);
        }
        let due = self.registry.due(now.mono);
        if counted || !due.is_empty() {
            self.publisher.gauges_changed(now.mono);
        }
        for sym in due {
            if let Some((object, notes)) = self.registry.warnings(sym) {
                let DpsIntegration { metadata: ObjectMeta { namespace, name, .. }, .. } = &*object;
                let regarding = reference(&*object);
                for note in notes {
                    warn!(namespace, integration = name, "{}", note.note);
                    self.publisher.emit(EventWindow::Own(sym), &regarding, Some(&regarding), note, now);
                }
            }
            let paused = self.permits.paused_until(sym.index());
            let throttled_for = paused.and_then(|until| until.checked_duration_since(now.mono));
            if let Some(report) = self.registry.report(sym, throttled_for, counting, now) {
                self.start_report(report, now);
            }
        }
        if counting && self.publisher.may_set_gauges(now.mono) {
            self.show_contested(now);
            self.publisher.set_fleet_gauges(self.registry.gauges(), self.registry.unserved());
        }
    }

    /// Shows how many objects have another writer, and looks again while there are any.
    fn show_contested(&mut self, now: Now) {
        let ContestedObjects { statuses, secrets } = self.active.contested_objects();
        let integrations = self.registry.contested(now.mono);
        let objects = [integrations, statuses, secrets];
        let by_resource: Vec<_> = CONTESTABLE.into_iter().zip(objects).collect();
        self.context.telemetry.metrics.set_contested(&by_resource);
        if objects.iter().any(|count| *count > 0) {
            self.registry.recount(now.mono);
        }
    }

    fn start_report(&mut self, report: Report, now: Now) {
        let Report { integration, object, status, mut notes, contested } = report;
        let regarding = reference(&*object);
        if contested {
            let DpsIntegration { metadata: ObjectMeta { namespace, name, .. }, .. } = &*object;
            warn!(namespace, integration = name, "{CONTESTED}");
            notes.push(EventNote::new(EventReason::StatusContested, CONTESTED));
        }
        for event in notes {
            self.publisher.emit(EventWindow::Own(integration), &regarding, Some(&regarding), event, now);
        }
        let (writer, sender) = (self.context.writer.clone(), self.context.sender.clone());
        let span = info_span!("report", integration = self.fleet.names.text(integration));
        let object = Arc::clone(&object);
        tokio::spawn(async move {
            let result = writer.replace_status(&*object, &status).instrument(span).await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::IntegrationWritten(integration, result)).await;
        });
    }
}
