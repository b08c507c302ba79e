//! `dps-dev demo`: the operator at work, told in steps, on a control plane and a DPS of its own.

mod binaries;
mod failure;
mod fleet;
mod simulator;
mod stage;
mod stop;
mod words;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use dps_dev::{Assets, ControlPlane, Options};

use self::binaries::Binaries;
use self::failure::Failure;
use self::fleet::Device;
use self::simulator::Simulator;
use self::stage::Stage;
use self::stop::Stop;
use crate::checkout::checkout;
use crate::story::Story;

/// Many times what it takes, so that a slow machine does not fail.
const READY_TIMEOUT: &str = "60s";
/// The simplest of the examples.
const SHOWN_DEVICE: &str = "press-01";
/// How often processes are looked after while somebody looks around.
const LOOK_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Arguments {
    /// End when the story is told [default: only without a terminal, or when CI=true]
    #[arg(long)]
    no_wait: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let wait = !arguments.no_wait && somebody_is_there();
    let mut story = words::begin()?;
    let binaries = build(&mut story)?;
    // Only now: until here Ctrl-C may simply end this process, nothing outlives it.
    let stop = Stop::on_signals()?;
    match perform(&mut story, &binaries, &stop, wait) {
        // Ctrl-C reaches kubectl, too: whatever failed after it, failed because of it.
        Err(_) if stop.is_asked() => Err(Failure::Interrupted.into()),
        Err(failure) => Err(failure.into()),
        Ok(()) => Ok(words::end(&story)?),
    }
}

/// Whether anybody could read the hints and press Ctrl-C.
fn somebody_is_there() -> bool {
    let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
    !ci && io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn build(story: &mut Story) -> Result<Binaries, Failure> {
    story.step("Build the operator, the simulator and, once, a Kubernetes control plane")?;
    story.shown("cargo build -p dps-operator -p dps-simulator --bins")?;
    let binaries = Binaries::build(&checkout())?;
    story.shown("dev/build-control-plane")?;
    Assets::locate()?;
    story.done()?;
    Ok(binaries)
}

fn perform(story: &mut Story, binaries: &Binaries, stop: &Stop, wait: bool) -> Result<(), Failure> {
    let control_plane = start_control_plane(story, stop)?;
    let simulator =
        start_simulator(story, &control_plane, binaries).inspect_err(|_| control_plane.keep_directory())?;
    let mut stage = Stage::new(control_plane, simulator, stop);
    match play(story, &mut stage, binaries, wait) {
        Err(failure) if !stop.is_asked() => Err(stage.explain(&failure)),
        // Also when somebody pressed Ctrl-C everything ends in order.
        outcome => stage.clear().and(outcome),
    }
}

fn start_control_plane(story: &mut Story, stop: &Stop) -> Result<ControlPlane, Failure> {
    story.step("Start etcd, kube-apiserver and kube-controller-manager as plain processes")?;
    let crds = vec![checkout().join("crds")];
    let control_plane = ControlPlane::start(Options { crds, ..Options::default() })?;
    stop.check()?;
    story.line(&format!("{}, with the operator's CRDs installed", control_plane.url()))?;
    story.done()?;
    Ok(control_plane)
}

fn start_simulator(
    story: &mut Story,
    control_plane: &ControlPlane,
    binaries: &Binaries,
) -> Result<Simulator, Failure> {
    story.step("Start a simulated Azure Device Provisioning Service")?;
    let config = checkout().join("dev/demo/simulator.yaml");
    let log = control_plane.logs_dir().join("simulator.log");
    let simulator = Simulator::start(&binaries.simulator, &config, control_plane.directory(), &log)?;
    story.line(&format!("https://{}, which takes 2 s to assign a device", simulator.host()))?;
    story.done()?;
    Ok(simulator)
}

fn play(story: &mut Story, stage: &mut Stage, binaries: &Binaries, wait: bool) -> Result<(), Failure> {
    story.step("Start the operator, with the rights of its own ServiceAccount and no others")?;
    stage.kubectl(story, "apply --server-side -f dev/rbac.yaml -f dev/demo/operator.yaml")?;
    story.shown(&format!("dps-operator run --allowed-dps-hosts {}", stage.simulator.host()))?;
    stage.start_operator(&binaries.operator)?;
    story.done()?;

    story.step("Declare an integration and five devices")?;
    declare(story, stage)?;
    story.done()?;

    story.step("Wait until the operator has registered every device and written its Secret")?;
    let ready = format!("wait --for=condition=Ready dpsi,pdev --all -n fleet --timeout={READY_TIMEOUT}");
    stage.kubectl_until_done(story, &ready)?;
    story.done()?;

    story.step("See where the devices are: the payload's site decided")?;
    stage.kubectl(story, "get pdev -n fleet")?;
    let devices = fleet::devices(&stage.control_plane)?;
    story.done()?;

    prove(story, stage, &devices)?;
    rotate(story, stage)?;
    follow(story, stage, &devices)?;
    overview(story, stage, devices.len())?;
    if wait { look_around(story, stage) } else { Ok(()) }
}

fn declare(story: &mut Story, stage: &Stage) -> Result<(), Failure> {
    stage.kubectl(story, "create namespace fleet")?;
    let ca = format!("--from-file=ca.crt={}", stage.simulator.ca_file().display());
    stage.control_plane.kubectl_ok(&["create", "configmap", fleet::CA_BUNDLE, "-n", "fleet", &ca])?;
    let manifest = fleet::examples(&stage.control_plane, &checkout(), &stage.simulator.host())?;
    story.shown("kubectl apply --server-side -n fleet -f examples/")?;
    let manifest = manifest.to_string_lossy();
    // A warning would be the first thing that a newcomer sees.
    let arguments = ["apply", "--server-side", "--warnings-as-errors", "-n", "fleet", "-f", &manifest];
    story.lines(&stage.control_plane.kubectl_ok(&arguments)?)?;
    story.line("(with spec.hostname and spec.caBundleRef naming the simulator; nothing else is changed)")?;
    Ok(())
}

fn prove(story: &mut Story, stage: &Stage, devices: &[Device]) -> Result<(), Failure> {
    story.step("Ask the simulator whether it accepts the key in every Secret")?;
    check_keys(story, stage, devices)?;
    story.done()?;
    let device = shown(devices)?;
    story.step("Read what a device connects with (only here its key is masked)")?;
    story.shown(&device.connection_string_command())?;
    story.line(&fleet::connection_string(&stage.control_plane, device)?.masked())?;
    story.done()?;
    Ok(())
}

fn shown(devices: &[Device]) -> Result<&Device, Failure> {
    let found = devices.iter().find(|device| device.name() == SHOWN_DEVICE);
    found.ok_or(Failure::NoDevice(SHOWN_DEVICE))
}

fn check_keys(story: &mut Story, stage: &Stage, devices: &[Device]) -> Result<(), Failure> {
    let width = devices.iter().map(|device| device.secret_name().len()).max().unwrap_or_default();
    for device in devices {
        let connection = fleet::connection_string(&stage.control_plane, device)?;
        stage.check_key(device, &connection)?;
        story.line(&format!("Secret {:width$}  key accepted for {}", device.secret_name(), device.id()))?;
    }
    Ok(())
}

/// Every device moves to the group's other key.
fn rotate(story: &mut Story, stage: &mut Stage) -> Result<(), Failure> {
    story.step("Rotate: the integration asks for the group's secondary key, and every device follows")?;
    let patch = r#"{"spec":{"attestation":{"symmetricKey":{"active":"Secondary"}}}}"#;
    story.shown(&format!("kubectl patch dpsi factory -n fleet --type merge -p '{patch}'"))?;
    let arguments = ["patch", "dpsi", "factory", "-n", "fleet", "--type", "merge", "-p", patch];
    story.lines(&stage.control_plane.kubectl_ok(&arguments)?)?;
    let moved = format!(
        "wait --for=jsonpath={{.status.credential.slot}}=Secondary pdev --all -n fleet --timeout={READY_TIMEOUT}"
    );
    stage.kubectl_until_done(story, &moved)?;
    let devices = fleet::devices(&stage.control_plane)?;
    check_keys(story, stage, &devices)?;
    story.done()?;
    Ok(())
}

/// A device is moved in Azure, and the operator follows it.
fn follow(story: &mut Story, stage: &mut Stage, devices: &[Device]) -> Result<(), Failure> {
    let device = shown(devices)?;
    let elsewhere = devices.iter().map(Device::hub).find(|hub| *hub != device.hub());
    let Some(hub) = elsewhere else { return Err(Failure::NoDevice("on another hub")) };
    story.step(&format!(
        "Move {} to another hub in the simulated Azure, and ask to look again",
        device.id()
    ))?;
    stage.simulator.move_device(device.id_scope(), device.id(), hub)?;
    stage.kubectl(
        story,
        &format!("annotate pdev {SHOWN_DEVICE} -n fleet reconcile.fluxcd.io/requestedAt=now"),
    )?;
    let followed = format!(
        "wait --for=jsonpath={{.status.assignedHub}}={hub} pdev/{SHOWN_DEVICE} -n fleet --timeout={READY_TIMEOUT}"
    );
    stage.kubectl_until_done(story, &followed)?;
    story.line("(it would have been found by the daily drift check, too; nothing was registered)")?;
    story.shown(&device.connection_string_command())?;
    story.line(&fleet::connection_string(&stage.control_plane, device)?.masked())?;
    story.done()?;
    Ok(())
}

fn overview(story: &mut Story, stage: &mut Stage, devices: usize) -> Result<(), Failure> {
    story.step("See the fleet in one line; its counters are written every ten seconds at most")?;
    let counted = format!(
        "wait --for=jsonpath={{.status.devices.ready}}={devices} dpsi/factory -n fleet --timeout={READY_TIMEOUT}"
    );
    stage.wait_quietly(&counted)?;
    stage.kubectl(story, "get dpsi -n fleet")?;
    story.done()?;
    Ok(())
}

fn look_around(story: &mut Story, stage: &mut Stage) -> Result<(), Failure> {
    let control_plane = &stage.control_plane;
    words::invite(
        story,
        control_plane.admin_kubeconfig(),
        control_plane.assets().folder(),
        &stage.operator_log(),
    )?;
    loop {
        match stage.look_after() {
            Err(Failure::Interrupted) => return Ok(()),
            other => other?,
        }
        std::thread::sleep(LOOK_AFTER);
    }
}
