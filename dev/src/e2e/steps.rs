//! The steps of the end-to-end test. Each checks that it has had its effect.

use std::time::{Duration, Instant};

use dps_dev::eventually;
use serde::Deserialize;

use super::cluster::{Cluster, DeviceKey, SYSTEM};
use super::failure::Failure;
use crate::progress::Progress;

/// The namespace of the operator admits only Pods of the strictest standard.
const RESTRICTED: &str = "pod-security.kubernetes.io/enforce=restricted";
const INSTALL: &str = "install dps-operator charts/dps-operator -n dps-system --values dev/node/values.yaml \
                       --wait --timeout 3m";
/// The number of devices besides the three of the chart's example.
const MORE_DEVICES: usize = 17;
/// Longer than a Lease is valid that was not given back.
const TAKEOVER: Duration = Duration::from_secs(60);
const OPERATOR: &str = "app.kubernetes.io/name=dps-operator,app.kubernetes.io/component=operator";

pub(super) fn run_all(progress: &mut Progress, cluster: &mut Cluster) -> Result<(), Failure> {
    install(progress, cluster)?;
    create_devices(progress, cluster)?;
    check_keys(progress, cluster)?;
    upgrade(progress, cluster)?;
    delete_leader_pod(progress, cluster)?;
    kill_leader_process(progress, cluster)?;
    uninstall(progress, cluster)?;
    install_again(progress, cluster)
}

#[derive(Debug, Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PodSpec {
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Container {
    image: String,
}

fn install(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Install the chart, with the DPS simulator, where only restricted Pods are admitted")?;
    cluster.show(progress, "create namespace dps-system")?;
    cluster.show(progress, &format!("label namespace dps-system {RESTRICTED}"))?;
    check_that_others_are_refused(progress, cluster)?;
    cluster.helm(progress, INSTALL)?;
    cluster.show(progress, "get pods -n dps-system")?;
    expect_image(cluster, "localhost/dps-operator:e2e-1")?;
    progress.done()?;
    Ok(())
}

/// Checks that the label has an effect.
fn check_that_others_are_refused(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    let command = "run any -n dps-system --image localhost/pause:e2e --dry-run=server";
    let arguments: Vec<&str> = command.split(' ').collect();
    let refused = cluster
        .kubectl(&arguments)
        .is_err_and(|failure| failure.to_string().contains("violates PodSecurity"));
    expect(refused, || format!("kubectl {command} was not refused"))?;
    progress.line("(a Pod that does not restrict itself is refused)")?;
    Ok(())
}

fn create_devices(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Declare an integration and twenty devices: the chart's example, and more of its kind")?;
    cluster.show(progress, "create namespace fleet")?;
    apply_example(progress, cluster)?;
    for number in 1..=MORE_DEVICES {
        cluster.apply_in("fleet", &device(&format!("sensor-{number:02}")))?;
    }
    progress.line(&format!("and {MORE_DEVICES} devices sensor-01 …"))?;
    await_devices(cluster)?;
    cluster.show(progress, "get pdev -n fleet")?;
    progress.done()?;
    Ok(())
}

/// Applies the example that the chart's notes name.
fn apply_example(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    let template = r#"go-template={{index .data "example.yaml"}}"#;
    let name = "dps-operator-simulator-example";
    let example = cluster.kubectl(&["get", "configmap", "-n", SYSTEM, name, "-o", template])?;
    progress.command(&format!(
        "kubectl get configmap -n {SYSTEM} {name} -o '{template}' | kubectl apply --server-side -n fleet -f -"
    ))?;
    progress.lines(&cluster.apply_in("fleet", &example)?)?;
    Ok(())
}

fn device(name: &str) -> String {
    format!(
        "apiVersion: dps-operator.io/v1alpha1\nkind: ProvisionedDevice\nmetadata: {{name: {name}}}\n\
         spec: {{integrationRef: {{name: simulator}}}}\n"
    )
}

fn await_devices(cluster: &Cluster) -> Result<(), Failure> {
    cluster.kubectl(&["wait", "--for=condition=Ready", "pdev", "--all", "-n", "fleet", "--timeout=120s"])?;
    Ok(())
}

/// Checks that a hub would accept the keys in the Secrets, and that no device registered twice.
fn check_keys(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Ask the simulator whether it accepts the key in every Secret, and what it was asked")?;
    let keys = published_keys(cluster)?;
    let devices = MORE_DEVICES + 3;
    expect(keys.len() == devices, || format!("{} Secrets for {devices} devices", keys.len()))?;
    let refused = cluster.refused(&keys)?;
    expect(refused.is_empty(), || {
        format!("DPS does not accept the published keys of {}", refused.join(", "))
    })?;
    progress.line(&format!("{} Secrets, every key accepted", keys.len()))?;
    let registrations = cluster.totals()?.register;
    expect(registrations == devices as u64, || {
        format!("{registrations} registrations for {devices} devices")
    })?;
    progress.line(&format!("{registrations} registrations, one for each device"))?;
    progress.done()?;
    Ok(())
}

/// The keys in the Secrets that the operator wrote.
fn published_keys(cluster: &Cluster) -> Result<Vec<DeviceKey>, Failure> {
    let template = "go-template={{range .items}}{{if .data.sharedAccessKey}}{{.data.idScope | base64decode}} \
                    {{.data.registrationId | base64decode}} {{.data.sharedAccessKey | base64decode}}{{\"\\n\"}}\
                    {{end}}{{end}}";
    let printed = cluster.kubectl(&["get", "secrets", "-n", "fleet", "-o", template])?;
    let key = |line: &str| {
        let mut fields = line.split(' ').map(str::to_owned);
        Some(DeviceKey { id_scope: fields.next()?, registration_id: fields.next()?, key: fields.next()? })
    };
    Ok(printed.lines().filter_map(key).collect())
}

fn upgrade(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Upgrade to another image, with other settings: no device registers again")?;
    let before = Before::of(cluster)?;
    cluster.helm(
        progress,
        "upgrade dps-operator charts/dps-operator -n dps-system --values dev/node/values.yaml \
         --set image.tag=e2e-2 --set logLevel=debug --wait --timeout 3m",
    )?;
    cluster.kubectl(&["rollout", "status", "-n", SYSTEM, "deployment/dps-operator", "--timeout=120s"])?;
    await_pods_gone(cluster, |pod| before.pods.contains(&pod.metadata.name))?;
    expect_image(cluster, "localhost/dps-operator:e2e-2")?;
    cluster.show(progress, "get pods -n dps-system")?;
    await_new_device(progress, cluster, "after-upgrade")?;
    before.expect_one_registration(progress, cluster)?;
    progress.done()?;
    Ok(())
}

fn delete_leader_pod(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Delete the Pod that acts: the one that waited takes over")?;
    let before = Before::of(cluster)?;
    let leader = leader(cluster)?;
    cluster.show(progress, &format!("delete pod {} -n dps-system --wait=false", leader.pod.metadata.name))?;
    await_successor(progress, cluster, &leader)?;
    await_new_device(progress, cluster, "after-pod")?;
    before.expect_one_registration(progress, cluster)?;
    await_pods_gone(cluster, |pod| pod.metadata.uid == leader.pod.metadata.uid)?;
    cluster.kubectl(&["rollout", "status", "-n", SYSTEM, "deployment/dps-operator", "--timeout=120s"])?;
    progress.done()?;
    Ok(())
}

fn kill_leader_process(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Kill the acting process with -9: it cannot give back the Lease, and nothing is lost")?;
    let before = Before::of(cluster)?;
    let leader = leader(cluster)?;
    let pid = cluster.operator_in(&leader.pod.metadata.uid)?;
    progress.command(&format!("kill -9 {pid}"))?;
    cluster.kill(pid)?;
    await_successor(progress, cluster, &leader)?;
    await_new_device(progress, cluster, "after-kill")?;
    let name = &leader.pod.metadata.name;
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    cluster.kubectl(&["wait", "pod", name, "-n", SYSTEM, restarted, "--timeout=60s"])?;
    cluster.kubectl(&["wait", "pod", name, "-n", SYSTEM, "--for=condition=Ready", "--timeout=60s"])?;
    cluster.show(progress, "get pods -n dps-system")?;
    before.expect_one_registration(progress, cluster)?;
    progress.done()?;
    Ok(())
}

fn uninstall(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Uninstall: CRDs, devices and Secrets stay")?;
    let before = inventory(cluster)?;
    cluster.helm(progress, "uninstall dps-operator -n dps-system --wait --timeout 2m")?;
    await_pods_gone(cluster, |_| true)?;
    let after = inventory(cluster)?;
    expect(before == after, || format!("there was\n{before}\nand now there is\n{after}"))?;
    cluster.show(progress, "get crd -o name")?;
    progress.lines(&format!(
        "{} devices and {} Secrets",
        count(&after, "ProvisionedDevice"),
        count(&after, "Secret")
    ))?;
    progress.done()?;
    Ok(())
}

/// As after a removal by mistake.
fn install_again(progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
    progress.step("Install it again: it takes the devices as it finds them")?;
    cluster.helm(progress, INSTALL)?;
    // The simulator is a new one: it has another certificate, and has never heard of these devices.
    apply_example(progress, cluster)?;
    await_new_device(progress, cluster, "after-return")?;
    let registrations = cluster.totals()?.register;
    expect(registrations == 1, || format!("{registrations} registrations: only one device is new"))?;
    progress.line("no other device has registered")?;
    progress.done()?;
    Ok(())
}

/// Names and uids of the objects that must outlive the release.
fn inventory(cluster: &Cluster) -> Result<String, Failure> {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid";
    let crds = cluster.kubectl(&["get", "crd", "-o", columns])?;
    Ok(crds + &cluster.kubectl(&["get", "dpsi,pdev,secrets", "-n", "fleet", "-o", columns])?)
}

fn count(inventory: &str, kind: &str) -> usize {
    inventory.lines().filter(|line| line.split_whitespace().next() == Some(kind)).count()
}

/// Creates a device and waits until it is ready, which shows that a replica acts.
fn await_new_device(progress: &mut Progress, cluster: &Cluster, name: &str) -> Result<(), Failure> {
    cluster.apply_in("fleet", &device(name))?;
    await_devices(cluster)?;
    progress.line(&format!("a new device, {name}, is ready"))?;
    Ok(())
}

/// The state before a step.
#[derive(Debug)]
struct Before {
    registrations: u64,
    pods: Vec<String>,
    simulator: String,
}

impl Before {
    fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let pods = operators(cluster)?.into_iter().map(|pod| pod.metadata.name).collect();
        Ok(Self { registrations: cluster.totals()?.register, pods, simulator: simulator(cluster)? })
    }

    /// Checks that only the new device has registered since.
    fn expect_one_registration(&self, progress: &mut Progress, cluster: &Cluster) -> Result<(), Failure> {
        let simulator = simulator(cluster)?;
        expect(simulator == self.simulator, || {
            format!("the simulator, which has all in memory, was replaced: {} by {simulator}", self.simulator)
        })?;
        let registrations = cluster.totals()?.register;
        let since = registrations.checked_sub(self.registrations);
        expect(since == Some(1), || {
            format!(
                "{} registrations before, {registrations} now: only one device is new",
                self.registrations
            )
        })?;
        progress.line("no other device has registered")?;
        Ok(())
    }
}

/// The names of the simulator's Pods: one, unless it is being replaced.
fn simulator(cluster: &Cluster) -> Result<String, Failure> {
    let label = "app.kubernetes.io/component=simulator";
    cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", label, "-o", "jsonpath={.items[*].metadata.name}"])
}

fn operators(cluster: &Cluster) -> Result<Vec<Pod>, Failure> {
    let printed = cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", OPERATOR, "-o", "json"])?;
    let list: List<Pod> = serde_json::from_str(&printed).map_err(|error| Failure::Json("kubectl", error))?;
    Ok(list.items)
}

/// The holder of the Lease: a process, which is named after its Pod.
#[derive(Debug)]
struct Leader {
    identity: String,
    pod: Pod,
}

fn leader(cluster: &Cluster) -> Result<Leader, Failure> {
    let identity = lease_holder(cluster)?;
    match operators(cluster)?.into_iter().find(|pod| identity.starts_with(&pod.metadata.name)) {
        Some(pod) => Ok(Leader { identity, pod }),
        None => Err(Failure::Unexpected(format!("the Lease is held by {identity:?}, which is no Pod"))),
    }
}

fn lease_holder(cluster: &Cluster) -> Result<String, Failure> {
    cluster.kubectl(&["get", "lease", "dps-operator", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"])
}

fn await_successor(progress: &mut Progress, cluster: &Cluster, former: &Leader) -> Result<(), Failure> {
    let begin = Instant::now();
    let found = eventually(TAKEOVER, || {
        lease_holder(cluster).ok().filter(|holder| !holder.is_empty() && *holder != former.identity)
    });
    let Some(holder) = found else {
        let seconds = TAKEOVER.as_secs();
        return Err(Failure::Unexpected(format!(
            "{seconds} s after {} no other replica holds the Lease",
            former.identity
        )));
    };
    progress.line(&format!("{holder} has the Lease after {:.1} s", begin.elapsed().as_secs_f64()))?;
    Ok(())
}

/// Waits until no Pod of the operator fits.
fn await_pods_gone(cluster: &Cluster, fits: impl Fn(&Pod) -> bool) -> Result<(), Failure> {
    eventually(TAKEOVER, || match operators(cluster) {
        Ok(pods) => (!pods.iter().any(&fits)).then_some(Ok(())),
        Err(failure) => Some(Err(failure)),
    })
    .unwrap_or_else(|| Err(Failure::Unexpected("the operator's former Pods do not go away".to_owned())))
}

fn expect_image(cluster: &Cluster, image: &str) -> Result<(), Failure> {
    for pod in operators(cluster)?.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        for container in &pod.spec.containers {
            expect(container.image == image, || format!("{} runs {}", pod.metadata.name, container.image))?;
        }
    }
    Ok(())
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Unexpected(otherwise())) }
}
