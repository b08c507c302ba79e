//! Random stories of a device to which DPS issues its certificate.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::HUBS;
use super::*;
use crate::dps::attestation::certificate::{DeviceCertificate, TlsFiles};
use crate::dps::ids::RegistrationId;

/// What happens next to the one device.
#[derive(Clone, Debug)]
enum Happens {
    SecretDeleted,
    SecretEdited(&'static str),
    Labelled(u8),
    Moved,
    Suspended(bool),
    /// Whether certificates are asked for.
    Asked(bool),
    Fails(u16),
    /// What DPS has done it does not say.
    Silent,
    Well,
    Restarted,
    StatusLost,
    Passed(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let keys = || prop_oneof![Just("deviceId"), Just("tls.crt"), Just("tls.key")];
    prop_oneof![
        1 => Just(Happens::SecretDeleted),
        1 => keys().prop_map(Happens::SecretEdited),
        1 => any::<u8>().prop_map(Happens::Labelled),
        1 => Just(Happens::Moved),
        1 => any::<bool>().prop_map(Happens::Suspended),
        1 => any::<bool>().prop_map(Happens::Asked),
        1 => prop_oneof![Just(401), Just(429), Just(503)].prop_map(Happens::Fails),
        1 => Just(Happens::Silent),
        2 => Just(Happens::Well),
        1 => Just(Happens::Restarted),
        1 => Just(Happens::StatusLost),
        3 => prop_oneof![Just(1), Just(15), Just(700)].prop_map(Happens::Passed),
    ]
}

impl World {
    async fn happens(&mut self, what: &Happens) {
        let control = self.dps.control();
        let there = self.api.get("secrets", "truck-1-hub").is_some();
        match *what {
            Happens::SecretDeleted if there => self.delete("secrets", "truck-1-hub"),
            Happens::SecretEdited(key) if there => {
                self.api.apply("secrets", "truck-1-hub", json!({"data": {key: "ZXZpbA=="}}));
            }
            Happens::SecretDeleted | Happens::SecretEdited(_) => {}
            Happens::Labelled(team) => {
                let labels = json!({"labels": {"team": format!("t{team}")}});
                self.declare("truck-1", json!({"secret": labels}));
            }
            Happens::Moved => {
                let hub = self.status("truck-1")["assignedHub"].clone();
                let other = HUBS.into_iter().find(|other| hub != *other).unwrap();
                let _ = control.move_device(SCOPE, "truck-1", other);
                let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": other}}});
                self.api.apply("provisioneddevices", "truck-1", asked);
            }
            Happens::Suspended(on) => self.declare("truck-1", json!({"suspend": on})),
            Happens::Asked(on) => {
                let certificate = on.then(|| json!({"issuedBy": "Dps"}));
                self.declare_integration(json!({"certificate": certificate}));
            }
            Happens::Fails(status) => drop(control.inject(Fault::global(FaultAction::status(status)))),
            Happens::Silent => drop(control.inject(Fault::global(FaultAction::Reset))),
            Happens::Well => control.clear_faults(),
            Happens::Restarted => self.restart(),
            Happens::StatusLost => self.api.forget_statuses(),
            Happens::Passed(seconds) => self.pass(Duration::from_secs(seconds)),
        }
        self.deliver();
        self.until_idle(0).await;
    }

    /// What is in its Secret is of one piece, unless others have just edited it.
    fn assert_of_one_piece(&self, after: &Happens) {
        let secret = self.hub_secret("truck-1");
        let edited = secret["data"].as_object().is_some_and(|data| data.values().any(|it| it == "ZXZpbA=="));
        if secret.is_null() || edited {
            return;
        }
        let (has_key, has_leaf) = (self.has("truck-1", "sharedAccessKey"), self.has("truck-1", "tls.crt"));
        assert!(has_key != has_leaf, "after {after:?}");
        if has_leaf {
            let files = TlsFiles {
                certificates: text(&secret, "tls.crt").into_bytes(),
                key: Zeroizing::new(text(&secret, "tls.key").into_bytes()),
                authority: None,
            };
            let read = DeviceCertificate::read(files, &RegistrationId::parse("truck-1").unwrap());
            assert!(read.is_ok(), "{read:?} after {after:?}");
            let thumbprint = self.leaf("truck-1").thumbprint();
            let issued = |entry: LedgerEntry| entry.issued.as_ref() == Some(&thumbprint);
            assert!(self.registrations("truck-1").into_iter().any(issued), "after {after:?}");
        }
    }
}

fn cases() -> u32 {
    if std::env::var("DPS_FAULTS").is_ok_and(|which| which == "all") { 500 } else { 8 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_dps_has_issued_is_published_whole_whatever_happens_and_in_the_end_it_is_there(
        what in prop::collection::vec(happens(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::issuing().await.with_issued("truck-1").await;
            for what in &what {
                world.happens(what).await;
                world.assert_of_one_piece(what);
            }
            world.dps.control().clear_faults();
            for what in [Happens::Asked(true), Happens::Suspended(false), Happens::Labelled(0)] {
                world.happens(&what).await;
            }
            // A request that was made before the status was lost counts as served.
            let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "the end"}}});
            world.api.apply("provisioneddevices", "truck-1", asked);
            for _ in 0..30 {
                world.happens(&Happens::Passed(120)).await;
            }
            world.until_ready("truck-1").await;
            world.assert_issued("truck-1");
            let status = world.status("truck-1");
            let hub = status["assignedHub"].as_str().unwrap();
            let registered = world.dps.control().registration(SCOPE, "truck-1").unwrap();
            assert_eq!(registered.assigned_hub.as_deref(), Some(hub));
            let connection = text(&world.hub_secret("truck-1"), "connectionString");
            assert!(connection.starts_with(&format!("HostName={hub};")), "{connection}");
        });
    }
}
