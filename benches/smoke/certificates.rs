//! What devices with certificates cost, beside as many with keys that are derived from a group's: each kind on a control
//! plane of its own, one after the other.

use std::time::{Duration, Instant};

use dps_dev::audit::Request;
use dps_dev::pki::Identity;
use dps_simulator::{Certificate, Certificates, Issuance};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, from_value, json};

use crate::cert_manager;

use crate::report::{Outcome, beside_watches, named_beside_watches, say, seconds};
use crate::setup::{FACTORY, ID_SCOPE, Setup, each};

/// A key of RSA with 2048 bits: to make one for each device would take longer than all the rest.
const RSA: &str = include_str!("../../src/dps/attestation/certificate/fixtures/rsa-2048.key");
/// Of certificates that DPS issues.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Secrets with certificates that no device names.
const UNRELATED: usize = 10_000;

/// Certificates that are renewed, one after the other.
const RENEWALS: usize = 100;
/// cert-manager takes some twenty milliseconds of a processor for each certificate.
const CERT_MANAGER: usize = 1_000;

/// How devices prove who they are, and what they get.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Key,
    P256,
    Rsa2048,
    /// They register with a key, and DPS issues a certificate to each.
    FromDps,
    /// The operator has cert-manager issue them.
    FromCertManager,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Key, Self::P256, Self::Rsa2048, Self::FromDps, Self::FromCertManager];

    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "a group's key",
            Self::P256 => "certificate, P-256",
            Self::Rsa2048 => "certificate, RSA 2048",
            Self::FromDps => "issued by DPS",
            Self::FromCertManager => "asked of cert-manager",
        }
    }
}

/// `n` devices of each kind, of cert-manager's fewer; of the first two it goes on to `grow_to` if that is more.
pub async fn run(n: usize, grow_to: usize) -> Outcome<()> {
    let columns = ["time", "ms of CPU", "requests", "etcd KiB", "idle KiB", "peak", "settled", "restarted"];
    let title = columns.map(|column| format!("{column:>10}")).concat();
    say(&format!("{:<24}{title}   (ms, requests and etcd KiB a device)", format!("{n} devices with")))?;
    for kind in Kind::ALL {
        let mut setup = Setup::start().await?;
        let root = prepare(&mut setup, kind, n).await?;
        let count = if kind == Kind::FromCertManager { n.min(CERT_MANAGER) } else { n };
        let settled_kib = measure(&mut setup, kind, count).await?;
        if let (Kind::P256, Some(root)) = (kind, &root) {
            renewals(&mut setup, root, count.min(RENEWALS)).await?;
        }
        if matches!(kind, Kind::Key | Kind::P256) && grow_to > n {
            grow(&mut setup, root.as_ref(), n, grow_to, settled_kib).await?;
        }
        if kind == Kind::P256 {
            unrelated(&mut setup).await?;
        }
        setup.stop_operator()?;
    }
    Ok(())
}

/// What a kind needs beside its devices. Returns the CA of certificates that the bench itself issues.
async fn prepare(setup: &mut Setup, kind: Kind, n: usize) -> Outcome<Option<Identity>> {
    match kind {
        Kind::Key => Ok(None),
        Kind::P256 | Kind::Rsa2048 => {
            let root = Identity::root("bench-root")?;
            trust(setup, &root.pem)?;
            declare(setup, json!({"attestation": {"symmetricKey": null, "x509": {}}})).await?;
            let names = (0..n).map(Setup::device_name).chain(["extra-1".to_owned(), "extra-2".to_owned()]);
            issue(setup, kind, &root, names).await?;
            Ok(Some(root))
        }
        Kind::FromDps => {
            let policy = Issuance { validity: VALIDITY };
            setup.dps.control().set_group_issuance(ID_SCOPE, "fleet", Some(policy))?;
            declare(setup, json!({"certificate": {"issuedBy": "Dps"}})).await?;
            Ok(None)
        }
        Kind::FromCertManager => {
            let root = cert_manager::start(setup).await?;
            trust(setup, &root)?;
            let asked = json!({"x509": {"certManager": cert_manager::asked()}, "symmetricKey": null});
            declare(setup, json!({"attestation": asked})).await?;
            Ok(None)
        }
    }
}

/// DPS knows this CA.
fn trust(setup: &Setup, root: &str) -> Outcome<()> {
    let ca = Certificate::from_pem(root)?;
    setup.dps.control().upload_certificate_authority(ID_SCOPE, "root", ca.clone(), true)?;
    let group = Certificates { primary: ca, secondary: None };
    Ok(setup.dps.control().set_group_certificates(ID_SCOPE, "fleet", group)?)
}

async fn declare(setup: &Setup, spec: Value) -> Outcome<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    setup.integrations().patch(FACTORY, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Every device has a certificate of it.
async fn issue(
    setup: &Setup,
    kind: Kind,
    root: &Identity,
    names: impl Iterator<Item = String>,
) -> Outcome<()> {
    let secrets = &setup.secrets();
    each(names.map(|name| async move {
        let device = match kind {
            Kind::Rsa2048 => root.device_of_key(&name, RSA)?,
            _ => root.device(&name)?,
        };
        secrets.create(&PostParams::default(), &tls_secret(&name, &device)?).await?;
        Ok(())
    }))
    .await
}

fn tls_secret(name: &str, device: &Identity) -> Outcome<Secret> {
    Ok(from_value(json!({
        "metadata": {"name": format!("{name}-tls")}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": device.pem, "tls.key": device.key_pem()},
    }))?)
}

/// Returns how much memory is resident after a restart with all of them.
async fn measure(setup: &mut Setup, kind: Kind, n: usize) -> Outcome<u64> {
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let idle = setup.resident_kib().await?;
    setup.stop_operator()?;
    setup.create_devices(0, n).await?;
    setup.reset_counts();
    let stored = setup.stored_kib()?;
    setup.start_operator()?;
    let taken = match kind {
        Kind::FromCertManager => setup.wait_all_ready(n + 1).await?,
        _ => setup.wait_ready(n, n + 1).await?,
    };
    let cpu = setup.operator_cpu()?;
    let (settled, peak) = (setup.resident_kib().await?, setup.peak_kib()?);
    let requests = beside_watches(&setup.requests()?);
    let stored = setup.stored_kib()?.saturating_sub(stored);

    let restarted = restart(setup).await?;
    let (after, calls) = (named_beside_watches(&setup.requests()?), setup.dps_calls().sum());
    let each = |value: f64| value / n as f64;
    say(&format!(
        "{:<24}{:>10}{:>10.3}{:>10.3}{:>10.2}{idle:>10}{peak:>10}{settled:>10}{restarted:>10}",
        kind.as_str(),
        seconds(taken),
        each(cpu.as_secs_f64() * 1000.0),
        each(requests as f64),
        each(stored as f64),
    ))?;
    say(&format!("{:<24}a restart: {calls} calls to DPS, and {after} beside list and watch", ""))?;
    Ok(restarted)
}

/// Counts from then on. Returns how much memory is resident.
async fn restart(setup: &mut Setup) -> Outcome<u64> {
    setup.stop_operator()?;
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_read().await?;
    setup.resident_kib().await
}

/// From a new certificate to the device's Secret with it, registered, while nothing else goes on.
async fn renewals(setup: &mut Setup, root: &Identity, count: usize) -> Outcome<()> {
    let secrets = setup.secrets();
    let mut times = Vec::new();
    for name in (0..count).map(Setup::device_name) {
        let device = root.device(&name)?;
        let renewed = Patch::Merge(tls_secret(&name, &device)?);
        secrets.patch(&format!("{name}-tls"), &PatchParams::default(), &renewed).await?;
        let begun = Instant::now();
        while !holds(&secrets.get(&format!("{name}-hub")).await?, &device.pem) {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("the certificate of {name} is not renewed").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(begun.elapsed());
    }
    times.sort();
    let [middle, most] = [50, 99].map(|percent| times[(times.len() * percent / 100).min(times.len() - 1)]);
    let line = format!("a renewal: {} ms at the median, {} ms p99", middle.as_millis(), most.as_millis());
    say(&format!("{:<24}{line}, of {count}", ""))
}

fn holds(secret: &Secret, pem: &str) -> bool {
    let held = secret.data.as_ref().and_then(|data| data.get("tls.crt"));
    held.is_some_and(|held| held.0.starts_with(pem.trim_end().as_bytes()))
}

/// The slope of resident memory, after restarts with `n` and with `to` devices.
async fn grow(setup: &mut Setup, root: Option<&Identity>, n: usize, to: usize, before: u64) -> Outcome<()> {
    if let Some(root) = root {
        issue(setup, Kind::P256, root, (n..to).map(Setup::device_name)).await?;
    }
    setup.reset_counts();
    setup.create_devices(n, to).await?;
    setup.wait_written(to - n).await?;
    let after = restart(setup).await?;
    let slope = (after.saturating_sub(before) * 1024) / (to - n) as u64;
    let (requests, calls) = (named_beside_watches(&setup.requests()?), setup.dps_calls().sum());
    say(&format!(
        "{:<24}{to} of them: {after} KiB after a restart, {slope} bytes for each beyond {n}; {calls} calls, {requests}",
        ""
    ))
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
    let (listed, peak) = (restart(setup).await?, setup.peak_kib()?);
    let reads = setup.requests()?.get(&Request::new("get", "secrets").to_string()).copied().unwrap_or(0);
    say(&format!(
        "{:<24}with {UNRELATED} more Secrets of certificates: {before} KiB before, {watched} once they were there, {listed} \
         after a restart (peak {peak}), {reads} of them read",
        ""
    ))
}
