//! `status`: how everything stands.

use dps_operator_api::device::ProvisionedDevice;
use dps_operator_api::integration::DpsIntegration;
use serde::Serialize;

use crate::cli::{Format, Status};
use crate::cluster::{Cluster, now};
use crate::failure::{Failure, Outcome};
use crate::model::brief::Brief;
use crate::model::device::{DeviceReport, Integration};
use crate::model::fleet::{FleetReport, key_of};
use crate::targets::Target;
use crate::terminal::{Output, note};
use crate::text::Line;
use crate::view;

/// What was found: of programs the output, of people the base of it.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    fleet: FleetReport,
    /// Devices that were asked for by name.
    devices: Vec<DeviceReport>,
}

pub async fn run(cluster: &Cluster, output: &Output, arguments: &Status) -> Result<Outcome, Failure> {
    let Status { target, all_namespaces, output: format, exit_code } = arguments;
    let report = match target {
        None => fleet(cluster, (!all_namespaces).then_some(&cluster.namespace)).await?,
        Some(target) => one(cluster, target).await?,
    };
    match format {
        Some(Format::Json) => output.raw(&(json(&report)? + "\n"))?,
        None => print(output, &report, &cluster.namespace)?,
    }
    let needs_you = report.fleet.needs_you() || report.devices.iter().any(DeviceReport::needs_you);
    Ok(if *exit_code && needs_you { Outcome::NeedsYou } else { Outcome::Fine })
}

fn json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string_pretty(report).map_err(|error| Failure::Output(error.into()))
}

fn print(output: &Output, report: &Report, namespace: &str) -> Result<(), Failure> {
    let Report { fleet, devices } = report;
    let mut lines = view::fleet::lines(fleet, output.width(), now());
    for device in devices {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(view::device::lines(device, output.width(), now()));
    }
    if lines.is_empty() {
        note(&format!(
            "Namespace {namespace} has no integrations and no devices. -n names another one, -A shows all."
        ));
    }
    output.lines(&lines)
}

/// Everything in a namespace, or in all.
async fn fleet(cluster: &Cluster, namespace: Option<&String>) -> Result<Report, Failure> {
    let namespace = namespace.map(String::as_str);
    let (mut integrations, mut devices) = (Vec::new(), Vec::new());
    let mut unreadable =
        cluster.each(namespace, |integration: DpsIntegration| integrations.push(integration)).await?;
    unreadable +=
        cluster.each(namespace, |device: ProvisionedDevice| devices.push(Brief::of(&device))).await?;
    if unreadable > 0 {
        let left_out = if unreadable == 1 { "1 object is" } else { &format!("{unreadable} objects are") };
        note(&format!(
            "{left_out} left out, which this version cannot read: the operator may be newer (\"kubectl dps version\"), or a \
             payload is nested too deeply. kubectl get shows them."
        ));
    }
    Ok(Report { fleet: FleetReport::of(&integrations, devices, namespace, now()), devices: Vec::new() })
}

/// What was named: an integration with its devices, or a device, or one of each.
async fn one(cluster: &Cluster, target: &Target) -> Result<Report, Failure> {
    let namespace = &cluster.namespace;
    let (integration, device) = match target {
        Target::Integration(name) => (Some(cluster.get::<DpsIntegration>(name).await?), None),
        Target::Device(name) => (None, Some(cluster.get::<ProvisionedDevice>(name).await?)),
        Target::Named(name) => {
            (cluster.find(namespace, name).await?, cluster.find::<ProvisionedDevice>(namespace, name).await?)
        }
    };
    if let (None, None, Target::Named(name)) = (&integration, &device, target) {
        return Err(Failure::NeedsYou(format!(
            "Namespace {namespace} has no integration and no device \"{name}\". -n names another namespace."
        )));
    }
    let fleet = match integration {
        Some(integration) => of_integration(cluster, integration).await?,
        None => FleetReport { integrations: Vec::new(), unlisted: Vec::new() },
    };
    let devices = match device {
        Some(device) => {
            let integration = integration_of(cluster, &device).await?;
            vec![DeviceReport::of(&device, integration, now())]
        }
        None => Vec::new(),
    };
    Ok(Report { fleet, devices })
}

/// An integration and those of its devices that are in the namespace.
async fn of_integration(cluster: &Cluster, integration: DpsIntegration) -> Result<FleetReport, Failure> {
    let key = key_of(&integration);
    let mut devices = Vec::new();
    let take = |device: ProvisionedDevice| {
        let brief = Brief::of(&device);
        if brief.integration == key {
            devices.push(brief);
        }
    };
    cluster.each(Some(&cluster.namespace), take).await?;
    Ok(FleetReport::of(&[integration], devices, Some(&cluster.namespace), now()))
}

/// How the integration of a device stands, if that may be read.
async fn integration_of(cluster: &Cluster, device: &ProvisionedDevice) -> Result<Integration, Failure> {
    let key = device.integration_key();
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    match cluster.find::<DpsIntegration>(namespace, name).await {
        Ok(integration) => Ok(Integration::of(integration.as_ref())),
        Err(Failure::Cluster(_)) => Ok(Integration::Hidden),
        Err(failure) => Err(failure),
    }
}
