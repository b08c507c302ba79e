//! What the measurements run on: a control plane, the simulator and the operator, with counts of what the
//! operator asks of both.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use dps_dev::audit::{Events, Request, Tail};
use dps_dev::{ControlPlane, Guarded, Options};
use dps_operator::api::conditions::{ConditionType, is_true};
use dps_operator::api::device::ProvisionedDevice;
use dps_operator::api::integration::DpsIntegration;
use dps_simulator::config::Quotas;
use dps_simulator::{Config, EnrollmentGroup, IdScope, Running, Simulator, Totals};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::json;

use crate::manifests::{host, key_secret, manifests};
use crate::report::{DpsCalls, Outcome, Requests};

pub const NAMESPACE: &str = "bench";
/// The integration that the fleet belongs to, and another one.
pub const FACTORY: &str = "factory";
pub const OTHER: &str = "other";
pub const ID_SCOPE: &str = "0neBENCH";
pub const OTHER_SCOPE: &str = "0neOTHER";
pub const KEY: &str = "YmVuY2htYXJrLWtleS1vZi1uby1ncm91cC1hbnl3aGVyZS0wMDAx";
pub const OTHER_KEY: &str = "YmVuY2htYXJrLWtleS1vZi1uby1ncm91cC1hbnl3aGVyZS0wMDAy";
pub const ACCOUNT: &str = "operator";
const IN_FLIGHT: usize = 16;
/// Without any progress.
const TIMEOUT: Duration = Duration::from_secs(600);

pub struct Setup {
    pub control_plane: ControlPlane,
    pub dps: Running,
    pub client: Client,
    audit: Tail,
    /// The audit log since counting began.
    seen: Events,
    /// The simulator's totals when counting began.
    totals_before: Totals,
    kubeconfig: PathBuf,
    operator: Option<Guarded>,
    /// It runs, and the operator asks it for certificates.
    pub cert_manager: Option<Guarded>,
    starts: usize,
    extra_devices: usize,
}

impl Setup {
    pub async fn start() -> Outcome<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let control_plane = ControlPlane::start(Options {
            crds: vec![root.join("crds")],
            durable: true,
            ..Options::default()
        })?;
        control_plane.kubectl_ok(&["apply", "-f", &root.join("dev/rbac.yaml").display().to_string()])?;
        let dps = Simulator::start(simulator()?).await?;
        let config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(control_plane.admin_kubeconfig())?,
            &kube::config::KubeConfigOptions::default(),
        )
        .await?;
        let client = Client::try_from(config)?;
        control_plane.apply(&manifests(&dps).to_string())?;
        let kubeconfig = control_plane.service_account_kubeconfig(NAMESPACE, ACCOUNT)?;
        let audit = Tail::new(control_plane.audit_log());
        let totals_before = dps.control().totals();
        Ok(Self {
            control_plane,
            dps,
            client,
            audit,
            seen: Events::default(),
            totals_before,
            kubeconfig,
            operator: None,
            cert_manager: None,
            starts: 0,
            extra_devices: 0,
        })
    }

    pub fn devices(&self) -> Api<ProvisionedDevice> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn create_devices(&self, from: usize, to: usize) -> Outcome<()> {
        create(&self.client, NAMESPACE, from, to).await
    }

    /// The name of one of them.
    pub fn device_name(number: usize) -> String {
        format!("truck-{number:06}")
    }

    /// Starts the operator without a rate limit that matters.
    pub fn start_operator(&mut self) -> Outcome<()> {
        self.start_operator_at(100_000_000)
    }

    /// Starts the operator with a rate limit in calls a minute.
    pub fn start_operator_at(&mut self, rate: u32) -> Outcome<()> {
        self.starts += 1;
        let log = self.control_plane.logs_dir().join(format!("operator-{}.log", self.starts));
        let mut command = Command::new(env!("CARGO_BIN_EXE_dps-operator"));
        command.env("KUBECONFIG", &self.kubeconfig).args([
            "run",
            "--http-addr",
            "127.0.0.1:0",
            "--watch-namespaces",
            NAMESPACE,
        ]);
        command.args(["--registrations-per-minute", &rate.to_string()]);
        command.args(["--allowed-dps-hosts", &host(&self.dps)]);
        if self.cert_manager.is_some() {
            command.arg("--cert-manager");
        }
        self.operator = Some(Guarded::spawn(&command, &log)?);
        Ok(())
    }

    /// Waits until the operator has read everything.
    pub async fn wait_read(&self) -> Outcome<()> {
        let log = self.operator.as_ref().ok_or("the operator is not running")?.log().to_owned();
        while !std::fs::read_to_string(&log)?.contains("every watch has been read") {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    pub fn stop_operator(&mut self) -> Outcome<()> {
        if let Some(mut operator) = self.operator.take() {
            operator.terminate(Duration::from_secs(15))?;
        }
        Ok(())
    }

    /// Resident memory of the operator once it has nothing to do: its allocator gives memory back
    /// after a second or two.
    pub async fn resident_kib(&self) -> Outcome<u64> {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(self.operator.as_ref().ok_or("the operator is not running")?.resident_kib()?)
    }

    /// The most memory that the operator had at a time, since it was started.
    pub fn peak_kib(&self) -> Outcome<u64> {
        Ok(self.operator.as_ref().ok_or("the operator is not running")?.peak_kib()?)
    }

    /// The time of a processor that the operator has used since it was started.
    pub fn operator_cpu(&self) -> Outcome<Duration> {
        Ok(self.operator.as_ref().ok_or("the operator is not running")?.cpu()?)
    }

    /// What etcd keeps, with the versions of objects that it has not removed yet.
    pub fn stored_kib(&self) -> Outcome<u64> {
        let metrics = self.control_plane.kubectl_ok(&["get", "--raw", "/metrics"])?;
        let size = metrics.lines().find(|line| line.starts_with("apiserver_storage_size_bytes"));
        let bytes = size.and_then(|line| line.rsplit(' ').next()).ok_or("the API server does not say it")?;
        Ok(bytes.parse::<f64>()? as u64 / 1024)
    }

    /// Sets every counter to zero.
    pub fn reset_counts(&mut self) {
        self.totals_before = self.dps.control().totals();
        // An error is reported by the next call, which reads again.
        let _ = self.audit.read();
        self.seen.0.clear();
    }

    /// Calls to DPS since `reset_counts`.
    pub fn dps_calls(&self) -> DpsCalls {
        let (now, before) = (self.dps.control().totals(), &self.totals_before);
        DpsCalls {
            register: now.register - before.register,
            poll: now.poll - before.poll,
            lookup: now.lookup - before.lookup,
            other: now.other - before.other,
        }
    }

    /// The operator's requests to the API server since `reset_counts`, by verb and resource.
    pub fn requests(&mut self) -> Outcome<Requests> {
        self.seen.0.extend(self.audit.read()?.0);
        let requests = self.seen.requests_by(&user());
        Ok(requests.into_iter().map(|(request, count)| (request.to_string(), count)).collect())
    }

    /// 429 answers since `reset_counts`.
    pub fn throttled(&self) -> u64 {
        let count = |totals: &Totals| totals.by_status.get(&429).copied().unwrap_or_default();
        count(&self.dps.control().totals()) - count(&self.totals_before)
    }

    /// Waits until the operator has written this many devices' statuses since `reset_counts`, and checks
    /// that `total` are Ready then. The audit log is read meanwhile: asking the API server would
    /// slow down what is measured.
    pub async fn wait_ready(&mut self, written: usize, total: usize) -> Outcome<Duration> {
        let begun = Instant::now();
        self.wait_written(written).await?;
        let taken = begun.elapsed();
        match self.count_ready().await? {
            count if count == total => Ok(taken),
            count => Err(format!("{count} of {total} devices are Ready").into()),
        }
    }

    /// Waits until all are Ready, where each writes its status an unknown number of times.
    pub async fn wait_all_ready(&self, total: usize) -> Outcome<Duration> {
        let begun = Instant::now();
        while self.count_ready().await? < total {
            if begun.elapsed() > TIMEOUT {
                return Err(format!("not all of {total} devices have become Ready").into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(begun.elapsed())
    }

    /// Puts another key into the Secret that the integration names.
    pub async fn set_group_key(&self, key: &str) -> Outcome<()> {
        let patch = Patch::Merge(json!({"stringData": {"primaryKey": key}}));
        self.secrets().patch("key", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    pub async fn group_key(&self) -> Outcome<String> {
        let data = self.secrets().get("key").await?.data.unwrap_or_default();
        let key = data.get("primaryKey").ok_or("the key Secret has no key")?;
        Ok(String::from_utf8(key.0.clone())?)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn integrations(&self) -> Api<DpsIntegration> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes the Secret that an integration names.
    pub async fn create_key(&self, name: &str) -> Outcome<()> {
        self.control_plane.apply(&key_secret(name).to_string())?;
        Ok(())
    }

    /// How many devices are Ready.
    pub async fn count_ready(&self) -> Outcome<usize> {
        let list = self.devices().list(&ListParams::default()).await?;
        let ready = |device: &&ProvisionedDevice| {
            device.status.as_ref().is_some_and(|status| is_true(&status.conditions, ConditionType::Ready))
        };
        Ok(list.items.iter().filter(ready).count())
    }

    /// Waits until the operator has written this many devices' statuses since `reset_counts`.
    pub async fn wait_written(&mut self, written: usize) -> Outcome<()> {
        self.wait_requests(&Request::new("update", "provisioneddevices/status"), written).await
    }

    /// Waits until the operator has made this request so many times since `reset_counts`.
    pub async fn wait_requests(&mut self, request: &Request, times: usize) -> Outcome<()> {
        let mut progress = Instant::now();
        let mut count = self.seen.count(&user(), request);
        while count < times {
            if progress.elapsed() > TIMEOUT {
                let logs = self.control_plane.logs_dir();
                return Err(format!("{request}: {count} of {times} times; see {}", logs.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let news = self.news(request)?;
            if news > 0 {
                progress = Instant::now();
            }
            count += news;
        }
        Ok(())
    }

    /// How often the operator has made this request since the audit log was read last.
    pub fn news(&mut self, request: &Request) -> Outcome<usize> {
        let news = self.audit.read()?;
        let count = news.count(&user(), request);
        self.seen.0.extend(news.0);
        Ok(count)
    }

    /// Creates one more device and waits until it is Ready. Everything that happened before has been
    /// looked at by then.
    pub async fn await_extra_device(&mut self) -> Outcome<Duration> {
        self.extra_devices += 1;
        self.time_to_ready(&format!("extra-{}", self.extra_devices)).await
    }

    /// Creates a device; returns the time from then to Ready.
    pub async fn time_to_ready(&self, name: &str) -> Outcome<Duration> {
        let begun = Instant::now();
        create_one(&self.client, NAMESPACE, name, FACTORY).await?;
        self.until_ready(name, begun).await
    }

    /// The same for a device of the other integration, whose DPS instance is another.
    pub async fn time_to_ready_of_other(&self, name: &str) -> Outcome<Duration> {
        let begun = Instant::now();
        create_one(&self.client, NAMESPACE, name, OTHER).await?;
        self.until_ready(name, begun).await
    }

    async fn until_ready(&self, name: &str, begun: Instant) -> Outcome<Duration> {
        while begun.elapsed() < TIMEOUT {
            let device = self.devices().get(name).await?;
            if device.status.is_some_and(|status| is_true(&status.conditions, ConditionType::Ready)) {
                return Ok(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("device {name} did not become Ready").into())
    }
}

fn simulator() -> Outcome<Config> {
    Ok(Config {
        think_time: Duration::ZERO,
        retry_after: Some(Duration::ZERO),
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![id_scope(ID_SCOPE)?, id_scope(OTHER_SCOPE)?],
        ..Config::default()
    })
}

fn id_scope(id_scope: &str) -> Outcome<IdScope> {
    Ok(IdScope {
        id_scope: id_scope.to_owned(),
        hubs: (0..4).map(|hub| format!("hub-{hub}.azure-devices.net")).collect(),
        enrollment_groups: vec![EnrollmentGroup::new("fleet", KEY, KEY)?],
        ..IdScope::default()
    })
}

fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

/// How many requests at a time the bench itself makes.
pub async fn each<F: Future<Output = Outcome<()>>>(requests: impl Iterator<Item = F>) -> Outcome<()> {
    stream::iter(requests).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Creates the devices `truck-<number>`.
pub async fn create(client: &Client, namespace: &str, from: usize, to: usize) -> Outcome<()> {
    each((from..to).map(|number| create_number(client, namespace, number))).await
}

async fn create_number(client: &Client, namespace: &str, number: usize) -> Outcome<()> {
    create_one(client, namespace, &Setup::device_name(number), FACTORY).await.map(drop)
}

pub async fn create_one(
    client: &Client,
    namespace: &str,
    name: &str,
    integration: &str,
) -> Outcome<ProvisionedDevice> {
    let resource = ApiResource::erase::<ProvisionedDevice>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let device =
        DynamicObject::new(name, &resource).data(json!({"spec": {"integrationRef": {"name": integration}}}));
    Ok(api.create(&PostParams::default(), &device).await?.try_parse()?)
}
