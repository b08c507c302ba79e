//! The injected faults.

use serde::Serialize;

use super::fault::Fault;
use crate::route::Route;

/// An injected fault and what it has done so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveFault {
    /// The id by which the ledger names it.
    pub id: u64,
    pub fault: Fault,
    /// The number of requests that it fitted.
    pub fitted: u32,
    /// The number of requests that it hit.
    pub hit: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: Vec<ActiveFault>,
    last_id: u64,
}

impl Faults {
    pub fn inject(&mut self, fault: Fault) -> u64 {
        self.last_id += 1;
        self.active.push(ActiveFault { id: self.last_id, fault, fitted: 0, hit: 0 });
        self.last_id
    }

    /// Clears one fault; returns whether it was there.
    pub fn clear(&mut self, id: u64) -> bool {
        let before = self.active.len();
        self.active.retain(|active| active.id != id);
        self.active.len() < before
    }

    pub fn clear_all(&mut self) {
        self.active.clear();
    }

    pub fn list(&self) -> Vec<ActiveFault> {
        self.active.clone()
    }

    /// The fault that hits this request, if any; counts it.
    pub fn take(&mut self, route: &Route) -> Option<Hit> {
        self.active.iter_mut().find_map(|active| active.hits(route))
    }
}

/// A fault that hits a request.
pub(crate) struct Hit {
    pub id: u64,
    pub fault: Fault,
}

impl ActiveFault {
    fn hits(&mut self, route: &Route) -> Option<Hit> {
        let fault = &self.fault;
        if fault.times.is_some_and(|times| self.hit >= times.get()) || !fits(fault, route) {
            return None;
        }
        self.fitted = self.fitted.saturating_add(1);
        if fault.every.is_some_and(|every| !self.fitted.is_multiple_of(every.get())) {
            return None;
        }
        self.hit = self.hit.saturating_add(1);
        Some(Hit { id: self.id, fault: fault.clone() })
    }
}

fn fits(fault: &Fault, route: &Route) -> bool {
    let operations = match fault.operations.as_slice() {
        [] => fault.action.usual_operations(),
        named => named,
    };
    let same = |wanted: &Option<String>, sent: &Option<String>| match (wanted, sent) {
        (None, _) => true,
        (Some(wanted), Some(sent)) => wanted.eq_ignore_ascii_case(sent),
        (Some(_), None) => false,
    };
    operations.contains(&route.kind)
        && same(&fault.id_scope, &route.id_scope)
        && same(&fault.registration_id, &route.registration_id)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::fault::FaultAction;
    use super::*;
    use crate::dps::RegistrationStatus;
    use crate::route::OperationKind;

    fn register(device: &str) -> Route {
        Route::of(&Method::PUT, &format!("/0ne1/registrations/{device}/register"))
    }

    fn poll(device: &str) -> Route {
        Route::of(&Method::GET, &format!("/0ne1/registrations/{device}/operations/1"))
    }

    fn ids(faults: &mut Faults, routes: &[Route]) -> Vec<Option<u64>> {
        routes.iter().map(|route| faults.take(route).map(|hit| hit.id)).collect()
    }

    #[test]
    fn a_fault_hits_its_device_and_its_calls_only() {
        let mut faults = Faults::default();
        faults.inject(Fault::device("Dev", FaultAction::Html).on(OperationKind::Register));
        let hits = ids(&mut faults, &[register("dev"), register("other"), poll("dev")]);
        assert_eq!(hits, [Some(1), None, None]);
    }

    #[test]
    fn a_fault_of_another_id_scope_does_not_hit() {
        let mut faults = Faults::default();
        let elsewhere = Some("0ne2".to_owned());
        faults.inject(Fault { id_scope: elsewhere, ..Fault::global(FaultAction::Html) });
        assert_eq!(ids(&mut faults, &[register("dev")]), [None]);
    }

    #[test]
    fn after_a_fault_that_is_used_up_the_next_applies() {
        let mut faults = Faults::default();
        faults.inject(Fault::global(FaultAction::Html).times(1));
        faults.inject(Fault::global(FaultAction::Malformed));
        let hits = ids(&mut faults, &[register("a"), register("a"), register("a")]);
        assert_eq!(hits, [Some(1), Some(2), Some(2)]);
        assert_eq!(faults.list()[0].hit, 1);
    }

    #[test]
    fn a_fault_can_hit_every_third_request() {
        let mut faults = Faults::default();
        faults.inject(Fault::global(FaultAction::Html).every(3));
        let routes: Vec<Route> = (0..6).map(|_| register("a")).collect();
        assert_eq!(ids(&mut faults, &routes), [None, None, Some(1), None, None, Some(1)]);
    }

    #[test]
    fn a_failure_is_for_the_poll_and_disabled_for_register_too() {
        let outcome = |status| FaultAction::Outcome { status, error_code: None, error_message: None };
        let mut faults = Faults::default();
        faults.inject(Fault::device("a", outcome(RegistrationStatus::Failed)));
        faults.inject(Fault::device("b", outcome(RegistrationStatus::Disabled)));
        let hits = ids(&mut faults, &[register("a"), poll("a"), register("b")]);
        assert_eq!(hits, [None, Some(1), Some(2)]);
    }

    #[test]
    fn faults_are_cleared_one_by_one_or_all_at_once() {
        let mut faults = Faults::default();
        let first = faults.inject(Fault::global(FaultAction::Html));
        faults.inject(Fault::global(FaultAction::Malformed));
        assert!(faults.clear(first));
        assert!(!faults.clear(first));
        assert_eq!(ids(&mut faults, &[register("a")]), [Some(2)]);
        faults.clear_all();
        assert_eq!(ids(&mut faults, &[register("a")]), [None]);
    }
}
