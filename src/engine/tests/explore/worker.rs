//! Runs one course after the other, with one simulator.

use std::collections::HashMap;
use std::time::Duration;

use dps_simulator::{
    AllocationPolicy, EnrollmentGroup, IdScope, Quotas, Running, Simulator, Webhook, WebhookRule,
};
use serde_json::json;
use tokio::runtime::Runtime;

use super::course::{Breach, Course, Site};
use super::fresh::{Fresh, Likeness};
use super::moves::{Effects, NAMES, Start, Step};
use super::play::ELSEWHERE;
use crate::engine::tests::{HUBS, KEY, OTHER_HUB, OTHER_KEY, OTHER_SCOPE, SCOPE};

const OTHER_HUBS: [&str; 2] = [OTHER_HUB, "hub-d.azure-devices.net"];

/// What a course came to.
pub(super) struct Ended {
    /// Of the last move.
    pub effects: Effects,
    pub breach: Option<Breach>,
}

pub(super) struct Worker {
    runtime: Runtime,
    site: Option<Site>,
    /// For devices that nothing happens to.
    other_site: Option<Site>,
    /// What devices have that were declared like this.
    fresh: HashMap<Likeness, Fresh>,
}

impl Worker {
    pub(super) fn new() -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let [site, other_site] =
            [(), ()].map(|()| Some(Site { dps: runtime.block_on(simulator()), before: None }));
        Self { runtime, site, other_site, fresh: HashMap::new() }
    }

    /// `None`: its last move cannot be made. `ends`: whether a course of this digest is led to its end.
    pub(super) fn run(
        &mut self,
        start: Start,
        steps: &[Step],
        ends: impl FnOnce(&str) -> bool,
    ) -> Option<Ended> {
        let site = self.site.take().unwrap();
        reset(&site.dps);
        let (mut course, ended) = self.runtime.block_on(async {
            let mut course = Course::new(site, start == Start::Rivals);
            let ended = lead(&mut course, start, steps, ends).await;
            (course, ended)
        });
        if ended.is_some_and(|(_, at_end)| at_end) {
            for (device, likeness) in course.likenesses() {
                let fresh = self.fresh_like(likeness);
                course.judge_likeness(device, &fresh);
            }
        }
        let breach = course.breach.take();
        self.site = Some(course.leave());
        ended.map(|(effects, _)| Ended { effects, breach })
    }

    fn fresh_like(&mut self, likeness: Likeness) -> Fresh {
        if let Some(known) = self.fresh.get(&likeness) {
            return known.clone();
        }
        let site = self.other_site.take().unwrap();
        reset(&site.dps);
        let Likeness { device, wanted, secondary } = likeness.clone();
        let (course, fresh) = self.runtime.block_on(async {
            let mut course = Course::new(site, wanted.rival);
            course.secondary = secondary;
            course.wanted[device] = wanted;
            course.begin(Start::Empty).await;
            course.declare_and_settle(device).await;
            let fresh = Fresh::of(&course, device);
            (course, fresh)
        });
        assert_eq!(course.world.reason(NAMES[device]), "Provisioned", "a device that nothing happens to");
        self.other_site = Some(course.leave());
        self.fresh.insert(likeness, fresh.clone());
        fresh
    }
}

/// Leads a course through its moves, and to its end if it should be.
async fn lead(
    course: &mut Course,
    start: Start,
    steps: &[Step],
    ends: impl FnOnce(&str) -> bool,
) -> Option<(Effects, bool)> {
    course.begin(start).await;
    let mut is_made = true;
    for step in steps {
        is_made = course.can(*step);
        if is_made {
            course.step(*step).await;
        }
    }
    if !is_made {
        return None;
    }
    let (digest, effects) = (course.digest(), course.effects);
    let ends = course.breach.is_none() && ends(&digest);
    if ends {
        course.end().await;
    }
    Some((effects, ends))
}

/// Nothing is left of a course before.
fn reset(simulator: &Running) {
    let control = simulator.control();
    control.clear_faults();
    control.set_retry_after(Some(Duration::ZERO));
    control.clear_ledger();
    for (scope, id) in [SCOPE, OTHER_SCOPE].into_iter().flat_map(|scope| NAMES.map(|id| (scope, id))) {
        // There need not be one.
        let _ = control.delete_registration(scope, id);
    }
}

/// Each of two payloads leads to a hub of its own, and DPS says which one it was given last.
async fn simulator() -> Running {
    let config = dps_simulator::Config {
        think_time: Duration::ZERO,
        retry_after: Some(Duration::ZERO),
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![scope(SCOPE, HUBS), scope(OTHER_SCOPE, OTHER_HUBS)],
        ..dps_simulator::Config::default()
    };
    Simulator::start(config).await.unwrap()
}

fn scope(id_scope: &str, hubs: [&str; 2]) -> IdScope {
    let rule = |(site, hub): (&str, &str)| {
        let value = json!({"site": site});
        WebhookRule { value: json!(site), hub: hub.to_owned(), payload: value.as_object().cloned() }
    };
    let webhook = Webhook {
        field: "site".to_owned(),
        rules: ["a", "b"].into_iter().zip(hubs).map(rule).collect(),
        otherwise: None,
    };
    let group = EnrollmentGroup::new("fleet", KEY, OTHER_KEY).unwrap();
    let group =
        EnrollmentGroup { allocation_policy: AllocationPolicy::Custom, webhook: Some(webhook), ..group };
    IdScope {
        id_scope: id_scope.to_owned(),
        hubs: hubs.into_iter().chain([ELSEWHERE]).map(str::to_owned).collect(),
        enrollment_groups: vec![group],
        ..IdScope::default()
    }
}
