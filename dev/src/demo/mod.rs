//! `dps-dev demo`: the operator at work, in steps, on a control plane and a simulated DPS of its own.

mod binaries;
mod failure;
mod fleet;
mod messages;
mod setup;
mod simulator;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use dps_dev::{Assets, ControlPlane, Options};

use self::binaries::Binaries;
use self::failure::{Failure, check_stop};
use self::fleet::Device;
use self::setup::Setup;
use self::simulator::Simulator;
use crate::checkout::checkout;
use crate::progress::Progress;
use crate::stop::StopSignal;

/// Much longer than usual, for slow machines.
const READY_TIMEOUT: &str = "60s";
/// The device that is shown: the simplest of the examples.
const SHOWN_DEVICE: &str = "press-01";
/// How often the processes are checked while the demo waits for Ctrl-C.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Arguments {
    /// End when the story is told [default: only without a terminal, or when CI=true]
    #[arg(long)]
    no_wait: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let wait = !arguments.no_wait && is_interactive();
    let mut progress = messages::start()?;
    let binaries = build(&mut progress)?;
    // Only now: until here Ctrl-C may simply end this process, since no child process outlives it.
    let stop = StopSignal::register()?;
    match start_and_run(&mut progress, &binaries, &stop, wait) {
        // Ctrl-C also reaches kubectl: a failure after it is a consequence of it.
        Err(_) if stop.received() => Err(Failure::Interrupted.into()),
        Err(failure) => Err(failure.into()),
        Ok(()) => Ok(messages::end(&progress)?),
    }
}

/// Whether there is a terminal for the hints and for Ctrl-C.
fn is_interactive() -> bool {
    let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
    !ci && io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn build(progress: &mut Progress) -> Result<Binaries, Failure> {
    progress.step("Build the operator, the simulator and, once, a Kubernetes control plane")?;
    progress.command("cargo build -p dps-operator -p dps-simulator --bins")?;
    let binaries = Binaries::build(&checkout())?;
    progress.command("dev/build-control-plane")?;
    Assets::locate()?;
    progress.done()?;
    Ok(binaries)
}

fn start_and_run(
    progress: &mut Progress,
    binaries: &Binaries,
    stop: &StopSignal,
    wait: bool,
) -> Result<(), Failure> {
    let control_plane = start_control_plane(progress, stop)?;
    let simulator = start_simulator(progress, &control_plane, binaries)
        .inspect_err(|_| control_plane.keep_directory())?;
    let mut setup = Setup::new(control_plane, simulator, stop);
    match run_steps(progress, &mut setup, binaries, wait) {
        Err(failure) if !stop.received() => Err(setup.explain(&failure)),
        // After a stop signal, too, the processes end in order.
        outcome => setup.shut_down().and(outcome),
    }
}

fn start_control_plane(progress: &mut Progress, stop: &StopSignal) -> Result<ControlPlane, Failure> {
    progress.step("Start etcd, kube-apiserver and kube-controller-manager as plain processes")?;
    let crds = vec![checkout().join("crds")];
    let control_plane = ControlPlane::start(Options { crds, ..Options::default() })?;
    check_stop(stop)?;
    progress.line(&format!("{}, with the operator's CRDs installed", control_plane.url()))?;
    progress.done()?;
    Ok(control_plane)
}

fn start_simulator(
    progress: &mut Progress,
    control_plane: &ControlPlane,
    binaries: &Binaries,
) -> Result<Simulator, Failure> {
    progress.step("Start a simulated Azure Device Provisioning Service")?;
    let config = checkout().join("dev/demo/simulator.yaml");
    let log = control_plane.logs_dir().join("simulator.log");
    let simulator = Simulator::start(&binaries.simulator, &config, control_plane.directory(), &log)?;
    progress.line(&format!("https://{}, which takes 2 s to assign a device", simulator.host()))?;
    progress.done()?;
    Ok(simulator)
}

fn run_steps(
    progress: &mut Progress,
    setup: &mut Setup,
    binaries: &Binaries,
    wait: bool,
) -> Result<(), Failure> {
    progress.step("Start the operator, with the rights of its own ServiceAccount and no others")?;
    setup.kubectl(progress, "apply --server-side -f dev/rbac.yaml -f dev/demo/operator.yaml")?;
    progress.command(&format!("dps-operator run --allowed-dps-hosts {}", setup.simulator.host()))?;
    setup.start_operator(&binaries.operator)?;
    progress.done()?;

    progress.step("Declare an integration and five devices")?;
    apply_examples(progress, setup)?;
    progress.done()?;

    progress.step("Wait until the operator has registered every device and written its Secret")?;
    let ready = format!("wait --for=condition=Ready dpsi,pdev --all -n fleet --timeout={READY_TIMEOUT}");
    setup.kubectl_until_done(progress, &ready)?;
    progress.done()?;

    progress.step("See where the devices are: the payload's site decided")?;
    setup.kubectl(progress, "get pdev -n fleet")?;
    let devices = fleet::devices(&setup.control_plane)?;
    progress.done()?;

    check_and_show_keys(progress, setup, &devices)?;
    rotate_keys(progress, setup)?;
    follow_moved_device(progress, setup, &devices)?;
    show_overview(progress, setup, devices.len())?;
    if wait { wait_for_stop(progress, setup) } else { Ok(()) }
}

fn apply_examples(progress: &mut Progress, setup: &Setup) -> Result<(), Failure> {
    setup.kubectl(progress, "create namespace fleet")?;
    let ca = format!("--from-file=ca.crt={}", setup.simulator.ca_file().display());
    setup.control_plane.kubectl_ok(&["create", "configmap", fleet::CA_BUNDLE, "-n", "fleet", &ca])?;
    let manifest = fleet::examples(&setup.control_plane, &checkout(), &setup.simulator.host())?;
    progress.command("kubectl apply --server-side -n fleet -f examples/")?;
    let manifest = manifest.to_string_lossy();
    // A warning would be the first thing that a newcomer sees.
    let arguments = ["apply", "--server-side", "--warnings-as-errors", "-n", "fleet", "-f", &manifest];
    progress.lines(&setup.control_plane.kubectl_ok(&arguments)?)?;
    progress
        .line("(with spec.hostname and spec.caBundleRef naming the simulator; nothing else is changed)")?;
    Ok(())
}

fn check_and_show_keys(progress: &mut Progress, setup: &Setup, devices: &[Device]) -> Result<(), Failure> {
    progress.step("Ask the simulator whether it accepts the key in every Secret")?;
    check_keys(progress, setup, devices)?;
    progress.done()?;
    let device = shown_device(devices)?;
    progress.step("Read what a device connects with (only here its key is masked)")?;
    progress.command(&device.connection_string_command())?;
    progress.line(&fleet::connection_string(&setup.control_plane, device)?.masked())?;
    progress.done()?;
    Ok(())
}

fn shown_device(devices: &[Device]) -> Result<&Device, Failure> {
    let found = devices.iter().find(|device| device.name() == SHOWN_DEVICE);
    found.ok_or(Failure::NoDevice(SHOWN_DEVICE))
}

fn check_keys(progress: &mut Progress, setup: &Setup, devices: &[Device]) -> Result<(), Failure> {
    let width = devices.iter().map(|device| device.secret_name().len()).max().unwrap_or_default();
    for device in devices {
        let connection = fleet::connection_string(&setup.control_plane, device)?;
        setup.check_key(device, &connection)?;
        progress.line(&format!(
            "Secret {:width$}  key accepted for {}",
            device.secret_name(),
            device.id()
        ))?;
    }
    Ok(())
}

/// Every device moves to the group's other key.
fn rotate_keys(progress: &mut Progress, setup: &mut Setup) -> Result<(), Failure> {
    progress.step("Rotate: the integration asks for the group's secondary key, and every device follows")?;
    let patch = r#"{"spec":{"attestation":{"symmetricKey":{"active":"Secondary"}}}}"#;
    progress.command(&format!("kubectl patch dpsi factory -n fleet --type merge -p '{patch}'"))?;
    let arguments = ["patch", "dpsi", "factory", "-n", "fleet", "--type", "merge", "-p", patch];
    progress.lines(&setup.control_plane.kubectl_ok(&arguments)?)?;
    let moved = format!(
        "wait --for=jsonpath={{.status.credential.slot}}=Secondary pdev --all -n fleet --timeout={READY_TIMEOUT}"
    );
    setup.kubectl_until_done(progress, &moved)?;
    let devices = fleet::devices(&setup.control_plane)?;
    check_keys(progress, setup, &devices)?;
    progress.done()?;
    Ok(())
}

/// A device is moved to another hub in Azure, and the operator follows it.
fn follow_moved_device(
    progress: &mut Progress,
    setup: &mut Setup,
    devices: &[Device],
) -> Result<(), Failure> {
    let device = shown_device(devices)?;
    let elsewhere = devices.iter().map(Device::hub).find(|hub| *hub != device.hub());
    let Some(hub) = elsewhere else { return Err(Failure::NoDevice("on another hub")) };
    progress.step(&format!(
        "Move {} to another hub in the simulated Azure, and ask to look again",
        device.id()
    ))?;
    setup.simulator.move_device(device.id_scope(), device.id(), hub)?;
    setup.kubectl(
        progress,
        &format!("annotate pdev {SHOWN_DEVICE} -n fleet reconcile.fluxcd.io/requestedAt=now"),
    )?;
    let followed = format!(
        "wait --for=jsonpath={{.status.assignedHub}}={hub} pdev/{SHOWN_DEVICE} -n fleet --timeout={READY_TIMEOUT}"
    );
    setup.kubectl_until_done(progress, &followed)?;
    progress.line("(it would have been found by the daily drift check, too; nothing was registered)")?;
    progress.command(&device.connection_string_command())?;
    progress.line(&fleet::connection_string(&setup.control_plane, device)?.masked())?;
    progress.done()?;
    Ok(())
}

fn show_overview(progress: &mut Progress, setup: &mut Setup, devices: usize) -> Result<(), Failure> {
    progress.step("See the fleet in one line; its counters are written every ten seconds at most")?;
    let counted = format!(
        "wait --for=jsonpath={{.status.devices.ready}}={devices} dpsi/factory -n fleet --timeout={READY_TIMEOUT}"
    );
    setup.wait_quietly(&counted)?;
    setup.kubectl(progress, "get dpsi -n fleet")?;
    progress.done()?;
    Ok(())
}

fn wait_for_stop(progress: &mut Progress, setup: &mut Setup) -> Result<(), Failure> {
    let control_plane = &setup.control_plane;
    messages::show_hints(
        progress,
        control_plane.admin_kubeconfig(),
        control_plane.assets().folder(),
        &setup.operator_log(),
    )?;
    loop {
        match setup.check() {
            Err(Failure::Interrupted) => return Ok(()),
            other => other?,
        }
        std::thread::sleep(POLL);
    }
}
