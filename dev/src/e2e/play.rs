//! The steps, each with what proves it.

use std::time::{Duration, Instant};

use dps_dev::eventually;
use serde::Deserialize;

use super::failure::Failure;
use super::stage::{DeviceKey, SYSTEM, Stage};
use crate::story::Story;

/// In all namespaces of the story only Pods of the strictest standard are admitted.
const RESTRICTED: &str = "pod-security.kubernetes.io/enforce=restricted";
const INSTALL: &str = "install dps-operator charts/dps-operator -n dps-system --values dev/node/values.yaml \
                       --wait --timeout 3m";
/// Besides the three of the chart's example.
const MORE_DEVICES: usize = 17;
/// More than a Lease is good for that was not given back.
const TAKEOVER: Duration = Duration::from_secs(60);
const OPERATOR: &str = "app.kubernetes.io/name=dps-operator,app.kubernetes.io/component=operator";

pub(super) fn all(story: &mut Story, stage: &mut Stage) -> Result<(), Failure> {
    install(story, stage)?;
    declare(story, stage)?;
    prove(story, stage)?;
    upgrade(story, stage)?;
    lose_pod(story, stage)?;
    lose_process(story, stage)?;
    uninstall(story, stage)?;
    install_again(story, stage)
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

fn install(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Install the chart, with the DPS simulator, where only restricted Pods are admitted")?;
    stage.show(story, "create namespace dps-system")?;
    stage.show(story, &format!("label namespace dps-system {RESTRICTED}"))?;
    refuse_others(story, stage)?;
    stage.helm(story, INSTALL)?;
    stage.show(story, "get pods -n dps-system")?;
    expect_image(stage, "localhost/dps-operator:e2e-1")?;
    story.done()?;
    Ok(())
}

/// The label is only worth something where it is heeded.
fn refuse_others(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    let command = "run any -n dps-system --image localhost/pause:e2e --dry-run=server";
    let arguments: Vec<&str> = command.split(' ').collect();
    let refused =
        stage.kubectl(&arguments).is_err_and(|failure| failure.to_string().contains("violates PodSecurity"));
    expect(refused, || format!("kubectl {command} was not refused"))?;
    story.line("(a Pod that does not restrict itself is refused)")?;
    Ok(())
}

fn declare(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Declare an integration and twenty devices: the chart's example, and more of its kind")?;
    stage.show(story, "create namespace fleet")?;
    apply_example(story, stage)?;
    for number in 1..=MORE_DEVICES {
        stage.apply_in("fleet", &device(&format!("sensor-{number:02}")))?;
    }
    story.line(&format!("and {MORE_DEVICES} devices sensor-01 …"))?;
    await_devices(stage)?;
    stage.show(story, "get pdev -n fleet")?;
    story.done()?;
    Ok(())
}

/// What the chart's notes say to do with the simulator.
fn apply_example(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    let template = r#"go-template={{index .data "example.yaml"}}"#;
    let name = "dps-operator-simulator-example";
    let example = stage.kubectl(&["get", "configmap", "-n", SYSTEM, name, "-o", template])?;
    story.shown(&format!(
        "kubectl get configmap -n {SYSTEM} {name} -o '{template}' | kubectl apply --server-side -n fleet -f -"
    ))?;
    story.lines(&stage.apply_in("fleet", &example)?)?;
    Ok(())
}

fn device(name: &str) -> String {
    format!(
        "apiVersion: dps-operator.io/v1alpha1\nkind: ProvisionedDevice\nmetadata: {{name: {name}}}\n\
         spec: {{integrationRef: {{name: simulator}}}}\n"
    )
}

fn await_devices(stage: &Stage) -> Result<(), Failure> {
    stage.kubectl(&["wait", "--for=condition=Ready", "pdev", "--all", "-n", "fleet", "--timeout=120s"])?;
    Ok(())
}

/// The Secrets hold keys that a hub takes, and no device was registered twice.
fn prove(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Ask the simulator whether it accepts the key in every Secret, and what it was asked")?;
    let keys = published_keys(stage)?;
    let devices = MORE_DEVICES + 3;
    expect(keys.len() == devices, || format!("{} Secrets for {devices} devices", keys.len()))?;
    let refused = stage.refused(&keys)?;
    expect(refused.is_empty(), || {
        format!("DPS does not accept the published keys of {}", refused.join(", "))
    })?;
    story.line(&format!("{} Secrets, every key accepted", keys.len()))?;
    let registrations = stage.totals()?.register;
    expect(registrations == devices as u64, || {
        format!("{registrations} registrations for {devices} devices")
    })?;
    story.line(&format!("{registrations} registrations, one for each device"))?;
    story.done()?;
    Ok(())
}

/// The keys in the Secrets that the operator wrote.
fn published_keys(stage: &Stage) -> Result<Vec<DeviceKey>, Failure> {
    let template = "go-template={{range .items}}{{if .data.sharedAccessKey}}{{.data.idScope | base64decode}} \
                    {{.data.registrationId | base64decode}} {{.data.sharedAccessKey | base64decode}}{{\"\\n\"}}\
                    {{end}}{{end}}";
    let said = stage.kubectl(&["get", "secrets", "-n", "fleet", "-o", template])?;
    let key = |line: &str| {
        let mut fields = line.split(' ').map(str::to_owned);
        Some(DeviceKey { id_scope: fields.next()?, registration_id: fields.next()?, key: fields.next()? })
    };
    Ok(said.lines().filter_map(key).collect())
}

fn upgrade(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Upgrade to another image, with other settings: no device registers again")?;
    let before = Witness::of(stage)?;
    stage.helm(
        story,
        "upgrade dps-operator charts/dps-operator -n dps-system --values dev/node/values.yaml \
         --set image.tag=e2e-2 --set logLevel=debug --wait --timeout 3m",
    )?;
    stage.kubectl(&["rollout", "status", "-n", SYSTEM, "deployment/dps-operator", "--timeout=120s"])?;
    gone(stage, |pod| before.pods.contains(&pod.metadata.name))?;
    expect_image(stage, "localhost/dps-operator:e2e-2")?;
    stage.show(story, "get pods -n dps-system")?;
    new_device(story, stage, "after-upgrade")?;
    before.expect_one_more(story, stage)?;
    story.done()?;
    Ok(())
}

fn lose_pod(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Delete the Pod that acts: the one that waited takes over")?;
    let before = Witness::of(stage)?;
    let acting = acting(stage)?;
    stage.show(story, &format!("delete pod {} -n dps-system --wait=false", acting.pod.metadata.name))?;
    await_successor(story, stage, &acting)?;
    new_device(story, stage, "after-pod")?;
    before.expect_one_more(story, stage)?;
    gone(stage, |pod| pod.metadata.uid == acting.pod.metadata.uid)?;
    stage.kubectl(&["rollout", "status", "-n", SYSTEM, "deployment/dps-operator", "--timeout=120s"])?;
    story.done()?;
    Ok(())
}

fn lose_process(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Kill the acting process with -9: it cannot give back the Lease, and nothing is lost")?;
    let before = Witness::of(stage)?;
    let acting = acting(stage)?;
    let pid = stage.operator_in(&acting.pod.metadata.uid)?;
    story.shown(&format!("kill -9 {pid}"))?;
    stage.kill(pid)?;
    await_successor(story, stage, &acting)?;
    new_device(story, stage, "after-kill")?;
    let name = &acting.pod.metadata.name;
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    stage.kubectl(&["wait", "pod", name, "-n", SYSTEM, restarted, "--timeout=60s"])?;
    stage.kubectl(&["wait", "pod", name, "-n", SYSTEM, "--for=condition=Ready", "--timeout=60s"])?;
    stage.show(story, "get pods -n dps-system")?;
    before.expect_one_more(story, stage)?;
    story.done()?;
    Ok(())
}

fn uninstall(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Uninstall: CRDs, devices and Secrets stay")?;
    let before = inventory(stage)?;
    stage.helm(story, "uninstall dps-operator -n dps-system --wait --timeout 2m")?;
    gone(stage, |_| true)?;
    let after = inventory(stage)?;
    expect(before == after, || format!("there was\n{before}\nand now there is\n{after}"))?;
    stage.show(story, "get crd -o name")?;
    story.lines(&format!(
        "{} devices and {} Secrets",
        count(&after, "ProvisionedDevice"),
        count(&after, "Secret")
    ))?;
    story.done()?;
    Ok(())
}

/// Somebody uninstalled it by mistake.
fn install_again(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    story.step("Install it again: it takes the devices as it finds them")?;
    stage.helm(story, INSTALL)?;
    // The simulator is a new one: it has another certificate, and has never heard of these devices.
    apply_example(story, stage)?;
    new_device(story, stage, "after-return")?;
    let registrations = stage.totals()?.register;
    expect(registrations == 1, || format!("{registrations} registrations: only one device is new"))?;
    story.line("no other device has registered")?;
    story.done()?;
    Ok(())
}

/// Names and uids of all that must outlive the release.
fn inventory(stage: &Stage) -> Result<String, Failure> {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid";
    let crds = stage.kubectl(&["get", "crd", "-o", columns])?;
    Ok(crds + &stage.kubectl(&["get", "dpsi,pdev,secrets", "-n", "fleet", "-o", columns])?)
}

fn count(inventory: &str, kind: &str) -> usize {
    inventory.lines().filter(|line| line.split_whitespace().next() == Some(kind)).count()
}

/// A device that is declared now gets ready, so somebody acts.
fn new_device(story: &mut Story, stage: &Stage, name: &str) -> Result<(), Failure> {
    stage.apply_in("fleet", &device(name))?;
    await_devices(stage)?;
    story.line(&format!("a new device, {name}, is ready"))?;
    Ok(())
}

/// What was so before something happened.
#[derive(Debug)]
struct Witness {
    registrations: u64,
    pods: Vec<String>,
    simulator: String,
}

impl Witness {
    fn of(stage: &Stage) -> Result<Self, Failure> {
        let pods = operators(stage)?.into_iter().map(|pod| pod.metadata.name).collect();
        Ok(Self { registrations: stage.totals()?.register, pods, simulator: simulator(stage)? })
    }

    /// Only the device that is new has registered since.
    fn expect_one_more(&self, story: &mut Story, stage: &Stage) -> Result<(), Failure> {
        let simulator = simulator(stage)?;
        expect(simulator == self.simulator, || {
            format!("the simulator, which has all in memory, was replaced: {} by {simulator}", self.simulator)
        })?;
        let registrations = stage.totals()?.register;
        let since = registrations.checked_sub(self.registrations);
        expect(since == Some(1), || {
            format!(
                "{} registrations before, {registrations} now: only one device is new",
                self.registrations
            )
        })?;
        story.line("no other device has registered")?;
        Ok(())
    }
}

/// The simulator's Pods; one, unless it is being replaced.
fn simulator(stage: &Stage) -> Result<String, Failure> {
    let label = "app.kubernetes.io/component=simulator";
    stage.kubectl(&["get", "pods", "-n", SYSTEM, "-l", label, "-o", "jsonpath={.items[*].metadata.name}"])
}

fn operators(stage: &Stage) -> Result<Vec<Pod>, Failure> {
    let said = stage.kubectl(&["get", "pods", "-n", SYSTEM, "-l", OPERATOR, "-o", "json"])?;
    let list: List<Pod> = serde_json::from_str(&said).map_err(|error| Failure::Json("kubectl", error))?;
    Ok(list.items)
}

/// Who holds the Lease: a process, named after its Pod.
#[derive(Debug)]
struct Acting {
    identity: String,
    pod: Pod,
}

fn acting(stage: &Stage) -> Result<Acting, Failure> {
    let identity = holder(stage)?;
    match operators(stage)?.into_iter().find(|pod| identity.starts_with(&pod.metadata.name)) {
        Some(pod) => Ok(Acting { identity, pod }),
        None => Err(Failure::Unexpected(format!("the Lease is held by {identity:?}, which is no Pod"))),
    }
}

fn holder(stage: &Stage) -> Result<String, Failure> {
    stage.kubectl(&["get", "lease", "dps-operator", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"])
}

fn await_successor(story: &mut Story, stage: &Stage, former: &Acting) -> Result<(), Failure> {
    let begin = Instant::now();
    let found = eventually(TAKEOVER, || {
        holder(stage).ok().filter(|holder| !holder.is_empty() && *holder != former.identity)
    });
    let Some(holder) = found else {
        let seconds = TAKEOVER.as_secs();
        return Err(Failure::Unexpected(format!("{seconds} s after {} nobody else acts", former.identity)));
    };
    story.line(&format!("{holder} has the Lease after {:.1} s", begin.elapsed().as_secs_f64()))?;
    Ok(())
}

/// Until no operator's Pod is left that fits.
fn gone(stage: &Stage, fits: impl Fn(&Pod) -> bool) -> Result<(), Failure> {
    eventually(TAKEOVER, || match operators(stage) {
        Ok(pods) => (!pods.iter().any(&fits)).then_some(Ok(())),
        Err(failure) => Some(Err(failure)),
    })
    .unwrap_or_else(|| Err(Failure::Unexpected("the operator's former Pods do not go away".to_owned())))
}

fn expect_image(stage: &Stage, image: &str) -> Result<(), Failure> {
    for pod in operators(stage)?.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        for container in &pod.spec.containers {
            expect(container.image == image, || format!("{} runs {}", pod.metadata.name, container.image))?;
        }
    }
    Ok(())
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Unexpected(otherwise())) }
}
