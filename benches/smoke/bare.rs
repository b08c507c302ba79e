//! The lower bounds: loops that make the same two writes per device, and lists of the same objects.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use dps_dev::process::own_cpu;
use dps_operator::api::device::ProvisionedDevice;
use dps_operator::bench::Writer;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{Api, ListParams, WatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::report::Outcome;
use crate::setup::{self, Setup};

const NAMESPACE: &str = "bench-bare";
const IN_FLIGHT: usize = 16;
const WARM_UP: usize = 500;

/// Writes devices that are not measured, because an API server is slower after its start.
pub async fn warm_up(setup: &Setup) -> Outcome<()> {
    create_namespace(setup)?;
    setup::create(&setup.client, NAMESPACE, 1_000_000, 1_000_000 + WARM_UP).await?;
    write_all(setup, WARM_UP).await.map(drop)
}

pub fn create_namespace(setup: &Setup) -> Outcome<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    setup.control_plane.apply(&namespace.to_string())?;
    Ok(())
}

/// Creates a device and makes the two writes for it; returns the time that this takes.
pub async fn one(setup: &Setup, name: &str) -> Outcome<Duration> {
    let writer = Writer::new(setup.client.clone());
    let begun = Instant::now();
    let device = setup::create_one(&setup.client, NAMESPACE, name, "none").await?;
    write(&writer, &device).await?;
    Ok(begun.elapsed())
}

/// What a loop takes.
#[derive(Clone, Copy, Default)]
pub struct Taken {
    pub time: Duration,
    /// Of this process: the loop's, and next to nothing of the simulator, which gets no calls.
    pub cpu: Duration,
}

/// Writes for this many existing devices.
pub async fn run(setup: &Setup, devices: usize) -> Outcome<Taken> {
    setup::create(&setup.client, NAMESPACE, 0, devices).await?;
    write_all(setup, devices).await
}

/// The same with others, while devices and Secrets are watched.
pub async fn run_watched(setup: &Setup, devices: usize) -> Outcome<Taken> {
    setup::create(&setup.client, NAMESPACE, devices, 2 * devices).await?;
    let watches = [
        drain(Api::<ProvisionedDevice>::namespaced(setup.client.clone(), NAMESPACE)).await?,
        drain(Api::<Secret>::namespaced(setup.client.clone(), NAMESPACE)).await?,
    ];
    let taken = write_all(setup, devices).await;
    watches.iter().for_each(JoinHandle::abort);
    taken
}

/// Watches what changes from now on.
async fn drain<K>(api: Api<K>) -> Outcome<JoinHandle<()>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let now = api.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let events = api.watch(&WatchParams::default(), &now.unwrap_or_default()).await?.boxed();
    Ok(tokio::spawn(events.for_each(|_| std::future::ready(()))))
}

/// Lists what a fleet consists of, in pages of this size: devices, and metadata of Secrets.
pub async fn list(setup: &Setup, page: u32) -> Outcome<Duration> {
    let (devices, secrets) = (setup.devices(), setup.secrets());
    let mut params = ListParams::default().limit(page);
    let begun = Instant::now();
    loop {
        params.continue_token =
            devices.list(&params).await?.metadata.continue_.filter(|next| !next.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    loop {
        params.continue_token =
            secrets.list_metadata(&params).await?.metadata.continue_.filter(|next| !next.is_empty());
        if params.continue_token.is_none() {
            return Ok(begun.elapsed());
        }
    }
}

async fn write_all(setup: &Setup, devices: usize) -> Outcome<Taken> {
    let api: Api<ProvisionedDevice> = Api::namespaced(setup.client.clone(), NAMESPACE);
    let list = api.list(&ListParams::default()).await?.items;
    let todo: Vec<_> =
        list.into_iter().filter(|d| d.status.as_ref().is_none_or(|s| s.assigned_hub.is_none())).collect();
    if todo.len() != devices {
        return Err(format!("{} devices to write, expected {devices}", todo.len()).into());
    }
    let writer = Writer::new(setup.client.clone());
    let (begun, used) = (Instant::now(), own_cpu()?);
    stream::iter(todo.iter().map(|device| write(&writer, device)))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(Taken { time: begun.elapsed(), cpu: own_cpu()? - used })
}

async fn write(writer: &Writer, device: &ProvisionedDevice) -> Outcome<()> {
    let name = device.metadata.name.clone().unwrap_or_default();
    let version = writer.create_secret(NAMESPACE, &secret(&name, device)?).await?;
    writer.replace_status(device, &status(&name, version)).await?;
    Ok(())
}

/// A Secret of the size that the operator writes.
fn secret(name: &str, device: &ProvisionedDevice) -> Outcome<Secret> {
    let assignment = format!(
        r#"{{"hub":"hub-0.azure-devices.net","deviceId":"{name}","status":"assigned","substatus":"initialAssignment","etag":"ImNiNGMwY2QzLWY3YTQtMGRlNC1hYWU3LTA2NDRiNWQ3NWJiOSI=","createdTime":"2026-11-23T00:05:09.7815573Z","lastUpdatedTime":"2026-11-23T00:05:12.7815573Z","enrollmentGroup":"fleet","slot":"Primary","time":"2026-11-23T00:05:12.784963984Z"}}"#
    );
    let key = "X4b/kD78ccdHTBrgBh80G65J3jlKHPrwLq6aysne9gA=";
    Ok(serde_json::from_value(json!({
        "metadata": {
            "name": format!("{name}-hub"), "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/managed-by": "bench", "dps-operator.io/device": name, "dps-operator.io/integration": "factory",
            },
            "annotations": {
                "dps-operator.io/assignment": assignment,
                "dps-operator.io/credential-fingerprint": "f88f24dcd8654d82",
                "dps-operator.io/device": format!("{NAMESPACE}/{name}"),
                "dps-operator.io/integration": format!("{NAMESPACE}/factory"),
                "dps-operator.io/managed-keys": "connectionString,deviceId,idScope,iotHubHostname,registrationId,sharedAccessKey",
                "dps-operator.io/registered-hash": "v1:6c7137d203b744b1",
                "dps-operator.io/registration": format!("0neBENCH/{name}"),
                "dps-operator.io/rendered-hash": "v1:7d4076f01bb7f459",
            },
            "ownerReferences": [{
                "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "name": name,
                "uid": device.metadata.uid, "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "type": "Opaque",
        "stringData": {
            "connectionString": format!("HostName=hub-0.azure-devices.net;DeviceId={name};SharedAccessKey={key}"),
            "deviceId": name, "idScope": "0neBENCH", "iotHubHostname": "hub-0.azure-devices.net",
            "registrationId": name, "sharedAccessKey": key,
        },
    }))?)
}

fn status(name: &str, version: u64) -> Value {
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "Assigned to hub-0.azure-devices.net.",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-23T00:05:12Z",
        })
    };
    json!({
        "observedGeneration": 1,
        "conditions": [condition("Ready", "Provisioned"), condition("Registered", "Registered"), condition("SecretReady", "Written")],
        "registrationId": name, "idScope": "0neBENCH", "enrollmentGroupId": "fleet",
        "assignedHub": "hub-0.azure-devices.net", "deviceId": name,
        "assignment": {
            "status": "assigned", "substatus": "initialAssignment", "etag": "ImNiNGMwY2QzLWY3YTQtMGRlNC1hYWU3LTA2NDRiNWQ3NWJiOSI=",
            "createdTime": "2026-11-23T00:05:09.7815573Z", "lastUpdatedTime": "2026-11-23T00:05:12.7815573Z",
        },
        "credential": {"type": "SymmetricKey", "slot": "Primary", "fingerprint": "f88f24dcd8654d82"},
        "registeredHash": "v1:6c7137d203b744b1",
        "secret": {"name": format!("{name}-hub"), "resourceVersion": version.to_string(), "renderedHash": "v1:7d4076f01bb7f459"},
        "lastRegistrationTime": "2026-11-23T00:05:12Z",
    })
}
