use std::net::Ipv4Addr;
use std::path::PathBuf;

/// How a control plane is set up; the default suits tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for data, keys and logs, which is never removed. Without it a temporary folder is
    /// made and removed at the end, or by the next start where no destructor ran or the thread
    /// panicked. It stays when `DPS_DEV_KEEP` is set or a component failed to start.
    pub directory: Option<PathBuf>,
    /// Files or folders with CustomResourceDefinitions. They are installed before
    /// kube-controller-manager starts, because its garbage collector looks for kinds that are added
    /// later only every 30 seconds.
    pub crds: Vec<PathBuf>,
    /// Whether kube-controller-manager runs: garbage collection, deletion of namespaces,
    /// ServiceAccounts, aggregated ClusterRoles.
    pub controller_manager: bool,
    /// Further flags of the API server, e.g. `--enable-admission-plugins=…`.
    pub api_server_flags: Vec<String>,
    /// Further flags of kube-controller-manager; `--controllers=…` adds controllers.
    pub controller_manager_flags: Vec<String>,
    /// Whether etcd syncs its writes to the disk, as a real one does: for measurements.
    pub durable: bool,
    /// An address of this machine at which Pods reach the API server, for a [`Node`](crate::Node);
    /// without it the API server listens on 127.0.0.1 only.
    pub node_address: Option<Ipv4Addr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directory: None,
            crds: Vec::new(),
            controller_manager: true,
            api_server_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
            durable: false,
            node_address: None,
        }
    }
}
