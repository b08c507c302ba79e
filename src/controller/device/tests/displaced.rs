use jiff::SignedDuration;
use serde_json::json;

use super::vouching::{KNOWN, record};
use super::{NOW, Situation, registered, target};
use crate::api::device::ProvisionedDeviceStatus;
use crate::controller::device::decide::{Call, Step};
use crate::controller::device::facts::{Doubt, Facts, Registered, Unresolved};
use crate::schedule::permits::Lane;

#[test]
fn a_device_whose_registration_id_another_one_had_registers_or_looks_where_it_is_with_policy_never() {
    for (policy, call) in [("OnChange", Call::Register), ("Never", Call::Lookup)] {
        let mut situation = Situation::settled_device();
        situation.device.spec.reprovision = serde_json::from_value(json!({"policy": policy})).unwrap();
        assert_eq!(situation.decide().step, Step::Nothing, "{policy}");
        situation.facts.unresolved = Unresolved::Displaced;
        assert_eq!(situation.decide().step, Step::Call(call, Lane::Changed), "{policy}");
    }
}

#[test]
fn what_dps_says_ends_it_and_a_registration_that_was_begun_ends_by_success_alone() {
    let after = |before: Unresolved, take: fn(&mut Facts)| {
        let mut facts = Situation::settled_device().facts;
        facts.unresolved = before;
        take(&mut facts);
        facts.unresolved
    };
    let register: fn(&mut Facts) = |facts| {
        let again = facts.registered.clone().unwrap();
        facts.register(again, facts.served.clone());
    };
    for (before, take, left) in [
        (Unresolved::Displaced, register, Unresolved::Nothing),
        (Unresolved::Begun, register, Unresolved::Nothing),
        (Unresolved::Displaced, Facts::not_found, Unresolved::Nothing),
        (Unresolved::Begun, Facts::not_found, Unresolved::Begun),
    ] {
        assert_eq!(after(before, take), left);
    }
}

#[test]
fn a_status_says_that_another_device_had_the_id_since_the_last_registration() {
    let minute = SignedDuration::from_mins(1);
    let status = |reason: &str| -> ProvisionedDeviceStatus {
        let condition = json!({
            "type": "Ready", "status": "False", "reason": reason, "message": "m", "lastTransitionTime": NOW.wall,
        });
        serde_json::from_value(json!({"conditions": [condition]})).unwrap()
    };
    let device = Situation::settled_device().device;
    let at = |time| Some(Registered { time, ..registered(&device, &target()) });
    let taken = "DuplicateRegistrationId";
    for (reason, known, stated) in [
        (taken, at(Some(NOW.wall - minute)), Unresolved::Displaced),
        (taken, at(None), Unresolved::Displaced),
        // It has the id again, and the status was not written since.
        (taken, at(Some(NOW.wall)), Unresolved::Nothing),
        (taken, at(Some(NOW.wall + minute)), Unresolved::Nothing),
        (taken, None, Unresolved::Nothing),
        ("Provisioned", at(None), Unresolved::Nothing),
    ] {
        let what = format!("{reason}, {:?}", known.as_ref().map(|known| known.time));
        assert_eq!(Unresolved::stated(&status(reason), known.as_ref()), stated, "{what}");
    }
    assert_eq!(
        Unresolved::stated(&ProvisionedDeviceStatus::default(), at(None).as_ref()),
        Unresolved::Nothing
    );
}

/// A lookup confirms what is in the Secret, and mends nothing at DPS. With policy Never it is all that is wanted.
#[test]
fn a_secret_without_a_seal_is_confirmed_by_a_lookup_unless_a_registration_has_to_be_made_good() {
    for (policy, unresolved, call) in [
        ("OnChange", Unresolved::Nothing, Call::Adopt),
        ("OnChange", Unresolved::Displaced, Call::Register),
        ("OnChange", Unresolved::Begun, Call::Register),
        ("Never", Unresolved::Nothing, Call::Adopt),
        ("Never", Unresolved::Displaced, Call::Adopt),
        ("Never", Unresolved::Begun, Call::Adopt),
    ] {
        let mut situation = Situation::new_device();
        situation.device.spec.reprovision = serde_json::from_value(json!({"policy": policy})).unwrap();
        situation.facts.doubt = Some(Doubt::Unsealed(Box::new(record(KNOWN, 0, false))));
        situation.facts.unresolved = unresolved;
        assert_eq!(situation.decide().step, Step::Call(call, Lane::New), "{policy}, {unresolved:?}");
    }
}
