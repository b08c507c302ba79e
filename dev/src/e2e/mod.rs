//! `dps-dev e2e`: the images and the chart on a real node, in steps. This process builds what is needed
//! and then starts another one in a sandbox, with network, mounts and processes of its own.

mod cluster;
mod failure;
mod handover;
mod inside;
mod steps;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use dps_dev::{Assets, Sandbox};

use self::failure::Failure;
use self::handover::Handover;
use crate::checkout::checkout;
use crate::progress::Progress;
use crate::stop::StopSignal;

/// How often a stop signal is looked for.
const POLL: Duration = Duration::from_millis(100);
/// Where distributions put the plugins of the container network interface.
const NETWORK_PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

#[derive(Debug, Args)]
pub struct Arguments {
    /// The chart to install
    #[arg(long, value_name = "DIR", default_value_os_t = checkout().join("charts/dps-operator"))]
    chart: PathBuf,

    /// Images that dev/build-images made, instead of building them
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,

    /// The handover from the process that started the sandbox.
    #[arg(long, hide = true, value_name = "FILE")]
    inside: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(handover) = &arguments.inside {
        return Ok(inside::run(handover)?);
    }
    if let Some(reason) = Sandbox::unavailable_because() {
        writeln!(io::stdout(), "End to end: skipped, it takes root and namespaces of its own ({reason})")?;
        return Ok(());
    }
    check_requirements()?;
    let mut progress = Progress::start(&[
        "dps-operator end to end: the chart and the images on a Kubernetes cluster of one real node.",
        "Its network, mounts and processes are its own; nothing of it stays on this machine.",
    ])?;
    let built = build(&mut progress, arguments)?;
    // Only now: until here Ctrl-C may simply end this process, since no child process outlives it.
    let stop = StopSignal::register()?;
    run_in_sandbox(built, &stop)?;
    writeln!(
        io::stdout(),
        "\nEnd to end finished after {:.0} s; nothing of it is left running.",
        progress.seconds()
    )?;
    Ok(())
}

/// Fails if this machine lacks something, and prints what.
fn check_requirements() -> Result<(), Failure> {
    let need = "dev/need";
    let status = Command::new(checkout().join(need))
        .args(["cargo", "go", "real-node"])
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Failure::Missing(need, error))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::Build(need, status)),
    }
}

fn build(progress: &mut Progress, arguments: &Arguments) -> Result<Handover, Failure> {
    progress.step("Build the images, and once Kubernetes, containerd and Helm")?;
    Assets::locate()?;
    let mut built = |script, arguments: &[&str]| {
        progress.command([&[script], arguments].concat().join(" ").trim())?;
        run_script(script, arguments)
    };
    let node = built("dev/build-node", &[])?;
    let helm = built("dev/build-tool", &["helm"])?;
    let images = match &arguments.images {
        Some(folder) => folder.canonicalize()?,
        None => built("dev/build-images", &[])?,
    };
    let network_plugins = NETWORK_PLUGINS.iter().find(|folder| Path::new(folder).join("ptp").is_file());
    let handover = Handover {
        directory: PathBuf::new(),
        cgroup: String::new(),
        node,
        network_plugins: network_plugins.ok_or(Failure::NoNetworkPlugins(NETWORK_PLUGINS[0]))?.to_string(),
        images,
        helm,
        chart: arguments.chart.canonicalize()?,
    };
    progress.done()?;
    Ok(handover)
}

/// Runs a script of the checkout, with its progress on standard error; returns the path that is the
/// last line of its output.
fn run_script(script: &'static str, arguments: &[&str]) -> Result<PathBuf, Failure> {
    let output = Command::new(checkout().join(script))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::Missing(script, error))?;
    if !output.status.success() {
        return Err(Failure::Build(script, output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().last().map(PathBuf::from).unwrap_or_default())
}

/// Starts the process in the sandbox and waits for it. All that it has started ends with it.
fn run_in_sandbox(handover: Handover, stop: &StopSignal) -> Result<(), Failure> {
    let sandbox = Sandbox::create()?;
    let directory = sandbox.directory().to_owned();
    let file = directory.join("handover.json");
    let handover = Handover { directory: directory.clone(), cgroup: sandbox.cgroup().to_owned(), ..handover };
    let text = serde_json::to_string(&handover).map_err(|error| Failure::Json("serde", error))?;
    fs::write(&file, text)?;
    // A copy, because cargo may have replaced the file of this program while the images were built.
    let program = directory.join("dps-dev");
    fs::copy("/proc/self/exe", &program)?;
    let mut process = sandbox.spawn(Command::new(program).args(["e2e", "--inside"]).arg(&file))?;
    let status = loop {
        if stop.received() {
            process.kill()?;
            return Err(Failure::Interrupted);
        }
        if let Some(status) = process.wait_timeout(POLL)? {
            break status;
        }
    };
    if status.success() {
        return Ok(());
    }
    sandbox.keep_directory();
    Err(Failure::Inside(directory.display().to_string()))
}
