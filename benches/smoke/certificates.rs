//! What devices with certificates cost, beside as many with keys that are derived from a group's: each kind on a control
//! plane of its own, one after the other.

use dps_dev::audit::Request;
use dps_dev::pki::Identity;
use dps_simulator::{Certificate, Certificates};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{from_value, json};

use crate::report::{Outcome, beside_watches, say, seconds};
use crate::setup::{FACTORY, ID_SCOPE, Setup, each};

/// A key of RSA with 2048 bits: to make one for each device would take longer than all the rest.
const RSA: &str = include_str!("../../src/dps/attestation/certificate/fixtures/rsa-2048.key");
/// Secrets with certificates that no device names.
const UNRELATED: usize = 10_000;

/// How devices prove who they are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Key,
    P256,
    Rsa2048,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "a group's key",
            Self::P256 => "certificate, P-256",
            Self::Rsa2048 => "certificate, RSA 2048",
        }
    }
}

/// `n` devices of each kind.
pub async fn run(n: usize) -> Outcome<()> {
    let columns = ["time", "ms of CPU", "requests", "idle KiB", "peak", "settled", "restarted"];
    let title = columns.map(|column| format!("{column:>10}")).concat();
    say(&format!("{:<24}{title}   (ms and requests a device)", format!("{n} devices with")))?;
    for kind in [Kind::Key, Kind::P256, Kind::Rsa2048] {
        let mut setup = Setup::start().await?;
        if kind != Kind::Key {
            issue(&setup, kind, n).await?;
        }
        measure(&mut setup, kind, n).await?;
        if kind == Kind::P256 {
            unrelated(&mut setup).await?;
        }
        setup.stop_operator()?;
    }
    Ok(())
}

/// DPS knows a CA, and every device has a certificate of it.
async fn issue(setup: &Setup, kind: Kind, n: usize) -> Outcome<()> {
    let root = Identity::root("bench-root")?;
    let ca = Certificate::from_pem(&root.pem)?;
    setup.dps.control().upload_certificate_authority(ID_SCOPE, "root", ca.clone(), true)?;
    let group = Certificates { primary: ca, secondary: None };
    setup.dps.control().set_group_certificates(ID_SCOPE, "fleet", group)?;
    let attestation = json!({"spec": {"attestation": {"symmetricKey": null, "x509": {}}}});
    setup.integrations().patch(FACTORY, &PatchParams::default(), &Patch::Merge(attestation)).await?;
    let names = (0..n).map(Setup::device_name).chain(["extra-1".to_owned(), "extra-2".to_owned()]);
    let secrets = setup.secrets();
    each(names.map(|name| {
        let (root, secrets) = (&root, &secrets);
        async move {
            let device = match kind {
                Kind::Key | Kind::P256 => root.device(&name)?,
                Kind::Rsa2048 => root.device_of_key(&name, RSA)?,
            };
            secrets.create(&PostParams::default(), &tls_secret(&name, &device)?).await?;
            Ok(())
        }
    }))
    .await
}

fn tls_secret(name: &str, device: &Identity) -> Outcome<Secret> {
    Ok(from_value(json!({
        "metadata": {"name": format!("{name}-tls")}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": device.pem, "tls.key": device.key_pem()},
    }))?)
}

async fn measure(setup: &mut Setup, kind: Kind, n: usize) -> Outcome<()> {
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let idle = setup.resident_kib().await?;
    setup.stop_operator()?;
    setup.create_devices(0, n).await?;
    setup.reset_counts();
    setup.start_operator()?;
    let taken = setup.wait_ready(n, n + 1).await?;
    let cpu = setup.operator_cpu()?;
    let (settled, peak) = (setup.resident_kib().await?, setup.peak_kib()?);
    let requests = beside_watches(&setup.requests()?);

    setup.stop_operator()?;
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_read().await?;
    let restarted = setup.resident_kib().await?;
    let (after, calls) = (beside_watches(&setup.requests()?), setup.dps_calls().sum());
    let each = |value: f64| value / n as f64;
    say(&format!(
        "{:<24}{:>10}{:>10.3}{:>10.3}{idle:>10}{peak:>10}{settled:>10}{restarted:>10}",
        kind.as_str(),
        seconds(taken),
        each(cpu.as_secs_f64() * 1000.0),
        each(requests as f64),
    ))?;
    say(&format!("{:<24}a restart: {calls} calls to DPS, {after} requests besides list and watch", ""))
}

/// The operator has listed them, and their watch is open.
async fn unrelated(setup: &mut Setup) -> Outcome<()> {
    let before = setup.resident_kib().await?;
    let secrets = setup.secrets();
    let device = Identity::own("unrelated")?;
    each((0..UNRELATED).map(|number| {
        let (secrets, device) = (&secrets, &device);
        async move {
            let secret = tls_secret(&format!("unrelated-{number}"), device)?;
            secrets.create(&PostParams::default(), &secret).await?;
            Ok(())
        }
    }))
    .await?;
    setup.await_extra_device().await?;
    let watched = setup.resident_kib().await?;
    setup.stop_operator()?;
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_read().await?;
    let (listed, peak) = (setup.resident_kib().await?, setup.peak_kib()?);
    let reads = setup.requests()?.get(&Request::new("get", "secrets").to_string()).copied().unwrap_or(0);
    say(&format!(
        "{:<24}with {UNRELATED} more Secrets of certificates: {before} KiB before, {watched} once they were there, {listed} \
         after a restart (peak {peak}), {reads} of them read",
        ""
    ))
}
