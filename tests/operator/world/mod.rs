//! A test's world: a namespace of its own on the shared control plane, a simulator of its own, an
//! operator of its own with the rights it ships with.

pub mod certificates;
pub mod clock;
pub mod commands;
pub mod control_plane;
pub mod history;
pub mod keys;
pub mod manifests;
pub mod objects;
pub mod operator;
mod oracle;
pub mod proxy;
pub mod records;
pub mod requests;
pub mod scanner;
mod setup;
pub mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use dps_dev::{ControlPlane, Guarded};
use dps_simulator::config::loopback;
use dps_simulator::{Config, Control, Running, Simulator};
use kube::Client;
use serde_json::{Value, json};

use self::clock::Clock;
pub use self::objects::{Kind, condition};
use self::oracle::Watching;
use self::proxy::{Issued, Proxies};
pub use self::records::Mark;
pub use self::setup::{Setup, simulator};

pub const SCOPE: &str = "0ne00A1B2C3";
pub const GROUP: &str = "fleet";
pub const HUBS: [&str; 2] = ["hub-a.azure-devices.net", "hub-b.azure-devices.net"];
/// A second id scope, where a test needs one.
pub const OTHER_SCOPE: &str = "0ne00FFFFFF";
pub const OTHER_HUB: &str = "hub-c.azure-devices.net";
pub const INTEGRATION: &str = "factory";
/// The data key under which integrations look for the group's primary key.
pub const PRIMARY: &str = "primaryKey";
pub const SECONDARY: &str = "secondaryKey";
/// What the simulator knows as the group's keys, and two that it does not know.
pub const PRIMARY_KEY: &str = "WMRDDhNe0ItaaEeEa4DrufntWHoSVUO0K6RUNsQkupyUeTCNlfamLZTdrGy1Xjhp";
pub const SECONDARY_KEY: &str = "y9cAr1AyzCn88hHTsBOGHB9WhnCytMvdgJtAQ7MDUlDowd/yWvsf6x/N5etX7Xd8";
pub const WRONG_KEY: &str = "voAWRp+xpwavCx7g/vZb2HE0Bu5Kgez2+HpC00lChw22r1NpwB2hcwqqe2gM1APB";

/// Registrations a minute that no test makes. The limit is tested where it is the subject; elsewhere
/// it would only be in the way.
const UNLIMITED: u32 = 6000;

/// Long enough for a machine that compiles meanwhile; only a failing test waits for all of it.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const POLL: Duration = Duration::from_millis(40);

pub struct World {
    pub namespace: String,
    pub client: Client,
    pub dps: Control,
    simulator: Config,
    running: Option<Running>,
    port: u16,
    control_plane: Arc<ControlPlane>,
    operator: Option<Guarded>,
    /// Further namespaces that the operator watches.
    further_namespaces: Vec<String>,
    cluster_wide: bool,
    /// The operator asks it for certificates.
    cert_manager: bool,
    /// How long to wait for anything.
    pub patience: Duration,
    log_level: &'static str,
    /// Of operators that are started from now on.
    pub registrations_per_minute: u32,
    pub dps_proxy: Option<String>,
    /// What else than the simulator operators may call.
    pub further_hosts: Vec<String>,
    /// Certificates that devices have.
    issued: Issued,
    /// Operators elect a leader by the Lease that is named after the namespace.
    pub leader_elect: bool,
    /// What operators that are started from now on go by, if it is not the machine's.
    pub clock: Option<Clock>,
    /// Between the operator that was started last and what it talks to.
    proxies: Option<Proxies>,
    /// What the invariants are judged by at the end.
    oracle: Watching,
    /// How often an operator was started.
    starts: AtomicUsize,
    /// The rates of all operators that were started, added up.
    most_a_minute: AtomicUsize,
    log: PathBuf,
    audit_start: u64,
}

impl World {
    /// Everything runs and no integration exists yet.
    pub async fn empty() -> Self {
        Self::with(Setup::default()).await
    }

    /// Everything runs and integration `factory` is there with the right key.
    pub async fn start() -> Self {
        let world = Self::empty().await;
        world.integration(INTEGRATION).await;
        world
    }

    /// The same, and DPS has accepted the key: no limit for newcomers is in the way. Device `first`
    /// is Ready.
    pub async fn accepted() -> Self {
        let world = Self::start().await;
        world.device("first").await;
        world.wait_ready("first").await;
        world
    }

    /// Everything runs and integration `factory` is there with a key that DPS does not know.
    pub async fn with_wrong_key() -> Self {
        let world = Self::empty().await;
        world.group_key("factory-key", WRONG_KEY).await;
        world.integration_without_key(INTEGRATION, json!({})).await;
        world
    }

    /// Everything runs; the operator, too.
    pub async fn with(setup: Setup) -> Self {
        let mut world = Self::without_operator(setup).await;
        world.start_operator().await;
        world
    }

    /// Everything runs but the operator.
    pub async fn without_operator(setup: Setup) -> Self {
        let control_plane = match setup.control_plane {
            Some(control_plane) => control_plane,
            None => control_plane::shared().await,
        };
        let namespace = setup.namespace.unwrap_or_else(control_plane::fresh_namespace);
        let running = Simulator::start(setup.simulator.clone()).await.expect("the simulator starts");
        let log = control_plane.logs_dir().join(format!("operator-{namespace}.log"));
        let client = control_plane::client(control_plane.admin_kubeconfig()).await;
        let audit_start = std::fs::metadata(control_plane.audit_log()).map_or(0, |log| log.len());
        let mut world = Self {
            namespace,
            client,
            dps: running.control(),
            simulator: setup.simulator,
            port: running.address().port(),
            running: Some(running),
            control_plane,
            operator: None,
            further_namespaces: Vec::new(),
            cluster_wide: setup.cluster_wide,
            cert_manager: setup.cert_manager,
            patience: PATIENCE,
            log_level: setup.log_level,
            registrations_per_minute: UNLIMITED,
            dps_proxy: None,
            further_hosts: Vec::new(),
            issued: Issued::default(),
            leader_elect: false,
            clock: None,
            proxies: None,
            oracle: Watching::nothing(),
            starts: AtomicUsize::new(0),
            most_a_minute: AtomicUsize::new(0),
            log,
            audit_start,
        };
        if setup.proxied {
            world.proxies = Some(world.new_proxies().await);
        }
        world.oracle.add(&world.client, &world.namespace);
        world.create_namespace().await;
        world
    }

    /// The namespace, the simulator's CA in it, and what the operator may do there. Its account
    /// is in another namespace, so that it outlives the namespace.
    pub async fn create_namespace(&self) {
        self.create(Kind::Namespace, json!({"metadata": {"name": self.namespace}})).await;
        let account = json!({"metadata": {"name": self.namespace, "namespace": operator::ACCOUNTS}});
        // It is there already when the namespace is made a second time.
        let _ = self.try_create(Kind::Account, account).await;
        self.allow_operator().await;
        self.publish_ca().await;
    }

    /// A further namespace with these labels, which the operator watches too once it is started.
    pub async fn add_namespace(&mut self, labels: Value) -> String {
        let namespace = control_plane::fresh_namespace();
        self.create(Kind::Namespace, json!({"metadata": {"name": namespace, "labels": labels}})).await;
        self.further_namespaces.push(namespace.clone());
        self.oracle.add(&self.client, &namespace);
        let account = self.namespace.clone();
        if !self.cluster_wide {
            self.switch_to(&namespace);
            self.allow_operator_of(&account).await;
            self.switch_to(&account);
        }
        namespace
    }

    /// From now on objects are those of this namespace.
    pub fn switch_to(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.namespace);
    }

    /// Gives the operator its rights in the namespace.
    pub async fn allow_operator(&self) {
        self.allow_operator_of(&self.namespace).await;
    }

    /// Gives its rights in the namespace to the operator with this account.
    pub async fn allow_operator_of(&self, account: &str) {
        let account = json!({"kind": "ServiceAccount", "name": account, "namespace": operator::ACCOUNTS});
        let role = json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dps-operator",
        });
        let binding = json!({"metadata": {"name": "operator"}, "roleRef": role, "subjects": [account]});
        let kind = if self.cluster_wide { Kind::ClusterRoleBinding } else { Kind::RoleBinding };
        self.create(kind, binding).await;
    }

    /// Puts the present simulator's CA where integrations look for it.
    pub async fn publish_ca(&self) {
        let running = self.running.as_ref().expect("the simulator runs");
        let pem = if self.proxies.is_some() { self.control_plane.ca_pem() } else { running.ca_pem() };
        let ca = json!({"metadata": {"name": "simulator-ca"}, "data": {"ca.crt": pem}});
        self.create(Kind::ConfigMap, ca).await;
    }

    /// Creates the key Secret and an integration that uses it.
    pub async fn integration(&self, name: &str) -> Value {
        self.integration_with(name, json!({})).await
    }

    /// The same with a merge patch on the usual spec.
    pub async fn integration_with(&self, name: &str, spec: Value) -> Value {
        self.group_key(&format!("{name}-key"), PRIMARY_KEY).await;
        self.integration_without_key(name, spec).await
    }

    /// An integration whose key Secret `<name>-key` the test provides, or does not.
    pub async fn integration_without_key(&self, name: &str, spec: Value) -> Value {
        self.create(Kind::Integration, manifests::integration(name, self.host(), spec)).await
    }

    /// Creates a Secret with both keys and an integration that uses the primary one first.
    pub async fn integration_with_both_keys(&self, name: &str, primary: &str, secondary: &str) -> Value {
        let (secret, both) = (format!("{name}-key"), [(PRIMARY, primary), (SECONDARY, secondary)]);
        self.create(Kind::Secret, manifests::secret(&secret, &both)).await;
        let secondary = json!({"secondaryKeyRef": {"name": secret}});
        self.integration_without_key(name, json!({"attestation": {"symmetricKey": secondary}})).await
    }

    /// Creates a Secret with a group's primary key.
    pub async fn group_key(&self, secret: &str, key: &str) -> Value {
        self.create(Kind::Secret, manifests::secret(secret, &[(PRIMARY, key)])).await
    }

    /// Replaces the key in such a Secret.
    pub async fn change_group_key(&self, secret: &str, key: &str) {
        let data = manifests::secret(secret, &[(PRIMARY, key)])["data"].clone();
        self.patch(Kind::Secret, secret, json!({"data": data})).await;
    }

    /// Gives the group another primary key, in DPS and then in integration `factory`.
    pub async fn rotate_group_key(&self, key: &str) {
        self.dps.set_group_keys(SCOPE, GROUP, key, SECONDARY_KEY).expect("the key is valid");
        self.change_group_key("factory-key", key).await;
    }

    /// A device with an individual enrollment whose keys these are, in its own Secret.
    pub async fn enrolled(&self, name: &str, keys: [&str; 2]) -> Value {
        let [primary, secondary] = keys;
        self.dps.set_device_keys(SCOPE, name, primary, secondary).expect("the keys are valid");
        self.own_keys(name, keys).await;
        self.device_with(name, manifests::own_keys(name)).await
    }

    /// Creates the Secret with a device's own keys.
    pub async fn own_keys(&self, name: &str, [primary, secondary]: [&str; 2]) -> Value {
        let keys = [(PRIMARY, primary), (SECONDARY, secondary)];
        self.create(Kind::Secret, manifests::secret(&format!("{name}-dps"), &keys)).await
    }

    /// Replaces a device's own keys in its Secret.
    pub async fn change_own_keys(&self, name: &str, [primary, secondary]: [&str; 2]) {
        let secret = format!("{name}-dps");
        let data = manifests::secret(&secret, &[(PRIMARY, primary), (SECONDARY, secondary)])["data"].clone();
        self.patch(Kind::Secret, &secret, json!({"data": data})).await;
    }

    pub async fn device(&self, name: &str) -> Value {
        self.device_with(name, json!({})).await
    }

    /// A device with a merge patch on the usual spec.
    pub async fn device_with(&self, name: &str, spec: Value) -> Value {
        self.create(Kind::Device, manifests::device(name, spec)).await
    }

    /// `prefix-1` to `prefix-count`; returns their names.
    pub async fn devices(&self, prefix: &str, count: usize) -> Vec<String> {
        let names: Vec<String> = (1..=count).map(|number| format!("{prefix}-{number}")).collect();
        for name in &names {
            self.device(name).await;
        }
        names
    }

    /// Host and port of the simulator, or of the proxy before it, as integrations name it.
    pub fn host(&self) -> String {
        let port = self.proxies.as_ref().map_or(self.port, |proxies| proxies.dps.port());
        format!("localhost:{port}")
    }

    /// Ways from an operator to the API server and to the simulator.
    /// Where there are some already, requests are recorded among those of the first.
    pub async fn new_proxies(&self) -> Proxies {
        let running = self.running.as_ref().expect("the simulator runs");
        let records = self.proxies.as_ref().map(|first| first.records.clone()).unwrap_or_default();
        Proxies::start(&self.control_plane, (running.url(), running.ca_pem()), (records, &self.issued)).await
    }

    /// What is between the operator and what it talks to.
    pub fn proxies(&self) -> &Proxies {
        self.proxies.as_ref().expect("this world has proxies")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the simulator: its port refuses connections.
    pub async fn stop_dps(&mut self) {
        self.running.take().expect("the simulator runs").shutdown().await;
    }

    /// Starts it again on its port. It keeps its CA if that has a folder, and nothing else.
    pub async fn start_dps(&mut self) {
        let listen = Some(loopback(self.port));
        let running = Simulator::start(Config { listen, ..self.simulator.clone() }).await;
        let running = running.expect("the simulator starts again");
        self.dps = running.control();
        self.running = Some(running);
    }

    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// To let it fail, which only a world with one of its own may do.
    pub fn own_control_plane(&mut self) -> &mut ControlPlane {
        Arc::get_mut(&mut self.control_plane).expect("this world has a control plane of its own")
    }
}
