//! All that happens to certificates, in any order: what is in a device's Secret DPS has accepted for it, and in the
//! end it is the newest.

use dps_simulator::{Fault, FaultAction};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::dps::attestation::certificate::{DeviceCertificate, TlsFiles};
use crate::dps::ids::RegistrationId;

const NAMES: [&str; 2] = ["truck-1", "truck-2"];

/// What happens next.
#[derive(Clone, Debug)]
enum Happens {
    /// The device has another certificate: of the CA that DPS knows, or of one that it does not know.
    Renewed(usize, bool),
    /// Its source is gone until it is renewed.
    SourceGone(usize),
    SecretDeleted(usize),
    SecretEdited(usize),
    Moved(usize),
    Suspended(usize, bool),
    /// Answers of DPS.
    Fails(u16),
    /// What DPS has done it does not say.
    Silent,
    Well,
    Restarted,
    Passed(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let device = || 0..NAMES.len();
    prop_oneof![
        4 => (device(), prop::bool::weighted(0.8)).prop_map(|(device, known)| Happens::Renewed(device, known)),
        1 => device().prop_map(Happens::SourceGone),
        1 => device().prop_map(Happens::SecretDeleted),
        1 => device().prop_map(Happens::SecretEdited),
        1 => device().prop_map(Happens::Moved),
        1 => (device(), any::<bool>()).prop_map(|(device, on)| Happens::Suspended(device, on)),
        1 => prop_oneof![Just(401), Just(429), Just(503)].prop_map(Happens::Fails),
        1 => Just(Happens::Silent),
        2 => Just(Happens::Well),
        1 => Just(Happens::Restarted),
        3 => prop_oneof![Just(1), Just(15), Just(700)].prop_map(Happens::Passed),
    ]
}

struct Story {
    world: World,
    known: Identity,
    unknown: Identity,
}

impl Story {
    async fn begin() -> Self {
        let (known, unknown) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
        let mut world = World::with_group(&known).await;
        world.list_certificates();
        for name in NAMES {
            world = world.with_certified(&known, name).await;
        }
        Self { world, known, unknown }
    }

    async fn go_on(&mut self, what: &Happens) {
        let control = self.world.dps.control();
        match *what {
            Happens::Renewed(device, known) => self.renew(device, known),
            Happens::SourceGone(device) => {
                let name = format!("{}-tls", NAMES[device]);
                if self.world.api.get("secrets", &name).is_some() {
                    self.world.delete("secrets", &name);
                }
            }
            Happens::SecretDeleted(device) => {
                let name = format!("{}-hub", NAMES[device]);
                if self.world.api.get("secrets", &name).is_some() {
                    self.world.delete("secrets", &name);
                }
            }
            Happens::SecretEdited(device) => {
                let name = format!("{}-hub", NAMES[device]);
                if self.world.api.get("secrets", &name).is_some() {
                    self.world.api.apply("secrets", &name, json!({"data": {"deviceId": "ZXZpbA=="}}));
                }
            }
            Happens::Moved(device) => {
                let hub = self.world.status(NAMES[device])["assignedHub"].clone();
                let other = HUBS.into_iter().find(|other| hub != *other).unwrap();
                let _ = control.move_device(SCOPE, NAMES[device], other);
            }
            Happens::Suspended(device, on) => self.world.declare(NAMES[device], json!({"suspend": on})),
            Happens::Fails(status) => drop(control.inject(Fault::global(FaultAction::status(status)))),
            Happens::Silent => drop(control.inject(Fault::global(FaultAction::Reset))),
            Happens::Well => control.clear_faults(),
            Happens::Restarted => {
                self.world.restart();
                self.world.list_certificates();
            }
            Happens::Passed(seconds) => self.world.pass(Duration::from_secs(seconds)),
        }
        self.world.deliver();
        self.world.until_idle(0).await;
        self.assert_accepted(what);
    }

    fn renew(&mut self, device: usize, known: bool) {
        let ca = if known { &self.known } else { &self.unknown };
        let certificate = ca.device(NAMES[device]).unwrap();
        self.world.give_certificate(NAMES[device], &certificate, &[]);
    }

    /// Every certificate that is published DPS has accepted for that device, and its key is beside it.
    fn assert_accepted(&self, after: &Happens) {
        for name in NAMES {
            let secret = self.world.device_secret(name);
            if secret.is_null() {
                continue;
            }
            let leaf = Certificate::from_pem(&text(&secret, "tls.crt")).unwrap();
            let accepted = self.world.registers_of(name).into_iter().any(|entry| {
                let presented = entry.certificate.map(|presented| presented.leaf.thumbprint);
                entry.key.is_some() && presented.as_ref() == Some(&leaf.thumbprint())
            });
            assert!(accepted, "{name} has what DPS has never accepted, after {after:?}");
            let files = TlsFiles {
                certificates: text(&secret, "tls.crt").into_bytes(),
                key: Zeroizing::new(text(&secret, "tls.key").into_bytes()),
                authority: None,
            };
            let read = DeviceCertificate::read(files, &RegistrationId::parse(name).unwrap());
            assert!(read.is_ok(), "{name} has {read:?}, after {after:?}");
        }
    }

    /// All is well again, and each has another certificate at last.
    async fn end(&mut self) {
        self.world.dps.control().clear_faults();
        for (device, name) in NAMES.into_iter().enumerate() {
            self.renew(device, true);
            self.world.declare(name, json!({"suspend": false}));
            let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "the end"}}});
            self.world.api.apply("provisioneddevices", name, asked);
        }
        self.world.deliver();
        for _ in 0..30 {
            self.world.until_idle(0).await;
            self.world.pass(MINUTE * 2);
        }
        for name in NAMES {
            let source = self.world.api.get("secrets", &format!("{name}-tls")).unwrap();
            let secret = self.world.device_secret(name);
            assert_eq!(text(&secret, "tls.crt"), text(&source, "tls.crt"), "{name}");
            assert!(self.world.hub_takes(name), "{name}");
            let status = self.world.status(name);
            assert_eq!(
                self.world.ready_reason(name),
                ("True".to_owned(), "Provisioned".to_owned()),
                "{status}"
            );
            let hub = status["assignedHub"].as_str().unwrap();
            assert!(
                text(&secret, "connectionString").starts_with(&format!("HostName={hub};DeviceId={name};"))
            );
        }
    }
}

fn cases() -> u32 {
    if std::env::var("DPS_FAULTS").is_ok_and(|which| which == "all") { 500 } else { 8 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_published_is_what_dps_has_accepted_and_in_the_end_the_newest(
        what in prop::collection::vec(happens(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut story = Story::begin().await;
            for what in &what {
                story.go_on(what).await;
            }
            story.end().await;
        });
    }
}
