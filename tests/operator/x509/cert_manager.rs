//! cert-manager itself issues the certificates, renews them and goes over to another CA: its own controllers, on the
//! control plane beside the operator. `DEVICES=200` has it do so for more of them.

use std::process::Command;
use std::time::Duration;

use dps_dev::Guarded;
use dps_simulator::Certificates;
use jiff::Timestamp;

use super::*;
use crate::world::commands::{kubectl, list, read, succeeded, tool};
use crate::world::objects::{is_ready, ready_reason};
use crate::world::{GROUP, Setup};

const EXAMPLE: &str = "examples/certificates/cert-manager/certificates.yaml";
/// The Secret with the key of the Issuer, in the example and here.
const CA: &str = "fleet-ca";

/// Where cert-manager and the operator run, and nothing is declared yet but a CA of cert-manager's own.
pub struct Fleet {
    pub world: World,
    pub names: Vec<String>,
    /// What Certificates have behind the names of their devices.
    pub suffix: &'static str,
    /// It ends with the test.
    _cert_manager: Guarded,
}

pub fn devices() -> usize {
    std::env::var("DEVICES").ok().and_then(|number| number.parse().ok()).unwrap_or(24)
}

/// The Certificate of a CA that signs itself, into the Secret of this name, which the example's Issuer `fleet-ca` has.
pub fn ca(name: &str) -> Vec<Value> {
    let own = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let certificate = json!({
        "secretName": name, "isCA": true, "commonName": name, "duration": "87600h",
        "privateKey": {"algorithm": "ECDSA", "size": 256}, "issuerRef": {"name": "selfsigned", "kind": "Issuer"},
    });
    vec![own("Issuer", "selfsigned", json!({"selfSigned": {}})), own("Certificate", name, certificate)]
}

/// The example's Certificate for a device of this name, of the shortest life that cert-manager knows.
fn short_lived(name: &str) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name},
        "spec": {
            "secretName": format!("{name}-tls"), "commonName": name, "usages": ["digital signature", "client auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "duration": "1h", "renewBefore": "30m", "issuerRef": {"name": CA, "kind": "Issuer"},
        },
    })
}

impl Fleet {
    pub async fn start(setup: Setup) -> Self {
        let control_plane = setup.control_plane.clone().expect("it has one of its own");
        let program = tool("cert-manager");
        let crds = program.with_file_name("crds.yaml");
        let crds = crds.to_str().expect("paths are UTF-8");
        succeeded(&kubectl(&control_plane, &["apply", "--server-side", "-f", crds], ""));
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        succeeded(&kubectl(&control_plane, &established, ""));
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(control_plane.admin_kubeconfig());
        let log = control_plane.logs_dir().join("cert-manager.log");
        let cert_manager = Guarded::spawn(&command, &log).expect("it can be started");
        let world = World::with(setup).await;
        world.kubectl_ok(&["apply", "-f", "-"], &list(&ca(CA)));
        world.kubectl_ok(&["apply", "-f", "-"], &read(EXAMPLE));
        let names = (1..=devices()).map(|number| format!("truck-{number:06}")).collect();
        let fleet = Self { world, names, suffix: "", _cert_manager: cert_manager };
        let root = fleet.root(CA).await;
        fleet.trust("fleet", &[&root]);
        fleet
    }

    /// The certificate of this CA.
    pub async fn root(&self, name: &str) -> String {
        let is_there = |secret: &Value| data(secret).contains_key("tls.crt");
        data(&self.world.wait(Kind::Secret, name, "issued", is_there).await)["tls.crt"].clone()
    }

    /// DPS knows these CAs, the last one by this name, and admits devices under them.
    pub fn trust(&self, name: &str, roots: &[&String]) {
        let last = roots.last().expect("at least one is given");
        self.world
            .dps
            .upload_certificate_authority(SCOPE, name, certificate(last), true)
            .expect("the id scope is there");
        let secondary = roots.get(1).map(|root| certificate(root));
        let group = Certificates { primary: certificate(roots[0]), secondary };
        self.world.dps.set_group_certificates(SCOPE, GROUP, group).expect("the group is there");
    }

    /// Has cert-manager renew all at once, as `cmctl renew` does.
    pub async fn renew(&self) {
        let asked = json!({"status": {"conditions": [{
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test",
            "lastTransitionTime": Timestamp::now().to_string(),
        }]}});
        for name in &self.names {
            let certificate = format!("{name}{}", self.suffix);
            self.world.patch_status_of(Kind::Certificate, &certificate, asked.clone()).await;
        }
    }

    /// The device's certificate as cert-manager has issued it.
    async fn source(&self, name: &str) -> String {
        let secret = self.world.get(Kind::Secret, &format!("{name}-tls")).await;
        data(&secret)["tls.crt"].clone()
    }

    pub async fn sources(&self) -> Vec<String> {
        let mut sources = Vec::new();
        for name in &self.names {
            sources.push(self.source(name).await);
        }
        sources
    }

    /// Every device has what cert-manager has issued last, which is none of these, and its hub takes it.
    pub async fn wait_served(&self, before: &[String]) {
        for (name, before) in self.names.iter().zip(before) {
            let other = |secret: &Value| data(secret)["tls.crt"] != *before;
            self.world.wait(Kind::Secret, &format!("{name}-tls"), "issued", other).await;
            let source = fingerprint(&self.source(name).await);
            let served = |device: &Value| {
                device["status"]["credential"]["fingerprint"] == source
                    && ready_reason(device) == "Provisioned"
            };
            self.world.wait(Kind::Device, name, "registered with what was issued", served).await;
            assert!(self.world.hub_takes(name).await, "{name}");
        }
    }

    /// No device has lost its hub, and each has the certificate that the hub knows.
    pub async fn assert_untouched(&self, before: &[String]) {
        for (name, before) in self.names.iter().zip(before) {
            let secret = self.world.get(Kind::Secret, &format!("{name}-hub")).await;
            assert_eq!(data(&secret)["tls.crt"], *before, "{name}");
            assert!(is_ready(&self.world.get(Kind::Device, name).await) && self.world.hub_takes(name).await);
        }
    }
}

/// A certificate that is there before its device is declared, one that comes after it, renewals while the operator is
/// killed, and a CA that is replaced under the same name before DPS knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_of_cert_manager_is_renewed_and_follows_its_issuer_to_another_ca() {
    let mut fleet = Fleet::start(Setup::own_control_plane(&[])).await;
    fleet.world.patience = Duration::from_secs(60 + devices() as u64);
    let count = i32::try_from(devices()).expect("they are few");
    let world = &fleet.world;
    world
        .integration_without_key(INTEGRATION, json!({"attestation": {"symmetricKey": null, "x509": {}}}))
        .await;
    let (first, second) = fleet.names.split_at(fleet.names.len() / 2);
    let certificates =
        |names: &[String]| list(&names.iter().map(|name| short_lived(name)).collect::<Vec<_>>());
    world.kubectl_ok(&["apply", "-f", "-"], &certificates(first));
    for name in &fleet.names {
        world.device(name).await;
    }
    world.kubectl_ok(&["apply", "-f", "-"], &certificates(second));
    let all_ready = |devices: &Value| devices["ready"] == count;
    world.wait_counters(INTEGRATION, all_ready).await;

    let before = fleet.sources().await;
    fleet.assert_untouched(&before).await;
    let registers = world.mark().await;
    fleet.renew().await;
    fleet.world.kill_operator().await;
    fleet.world.start_operator().await;
    fleet.wait_served(&before).await;
    let asked = fleet.world.registers_since(registers);
    let most = 2 * devices();
    assert!(
        (devices()..=most).contains(&asked),
        "{asked} registrations for {count} renewals and one restart"
    );

    // The CA's key is replaced, and its name is the same.
    let (before, old) = (fleet.sources().await, fleet.root(CA).await);
    fleet.world.delete(Kind::Secret, CA).await;
    let is_new = |secret: &Value| data(secret)["tls.crt"] != old;
    fleet.world.wait(Kind::Secret, CA, "issued again", is_new).await;
    let new = fleet.root(CA).await;
    fleet.renew().await;
    let world = &fleet.world;
    let held = world.wait_integration(INTEGRATION, "Unauthorized").await;
    let message = condition(&held, "Ready").expect("it is Ready or not").message;
    assert!(message.contains("CN=fleet-ca"), "{message}");
    let all_wait = |object: &Value| object["status"]["certificates"]["unregistered"] == count;
    let held = world.wait(Kind::Integration, INTEGRATION, "all renewed", all_wait).await;
    assert_eq!(held["status"]["keyRotation"]["blocked"], true, "{}", held["status"]);
    fleet.assert_untouched(&before).await;

    fleet.trust("next", &[&old, &new]);
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    world.patch(Kind::Integration, INTEGRATION, asked).await;
    fleet.wait_served(&before).await;
    let is_over = |object: &Value| {
        let status = &object["status"];
        let issuers = &status["certificates"]["issuers"];
        let all_of_one = issuers.as_array().map(Vec::len) == Some(1) && issuers[0]["devices"] == count;
        status["keyRotation"].is_null() && status["certificates"]["unregistered"] == 0 && all_of_one
    };
    world.wait(Kind::Integration, INTEGRATION, "over", is_over).await;
    world.wait_integration(INTEGRATION, "Available").await;
}
