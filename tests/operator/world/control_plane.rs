//! The control plane that all tests of a run share.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dps_dev::{ControlPlane, Options};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::commands::REPOSITORY;
use super::operator::ACCOUNTS;

/// Statics are never dropped, and need not be: the processes end with this one.
static SHARED: OnceLock<Arc<ControlPlane>> = OnceLock::new();
static NAMESPACES: AtomicUsize = AtomicUsize::new(1);

pub async fn shared() -> Arc<ControlPlane> {
    tokio::task::block_in_place(|| SHARED.get_or_init(|| Arc::new(start(&[]))).clone())
}

/// One with the CRDs and the operator's ClusterRole, and these further flags of its API server.
pub fn start(api_server_flags: &[&str]) -> ControlPlane {
    // Before the first client is made: two libraries use TLS here and neither should have to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let crds = vec![Path::new(REPOSITORY).join("crds")];
    let api_server_flags = api_server_flags.iter().map(|flag| (*flag).to_owned()).collect();
    let options = Options { crds, api_server_flags, ..Options::default() };
    let control_plane = ControlPlane::start(options).expect("the control plane starts");
    let rbac = std::fs::read_to_string(Path::new(REPOSITORY).join("dev/rbac.yaml"));
    control_plane.apply(&rbac.expect("dev/rbac.yaml can be read")).expect("dev/rbac.yaml can be applied");
    control_plane.kubectl_ok(&["create", "namespace", ACCOUNTS]).expect("a namespace can be made");
    control_plane
}

pub fn fresh_namespace() -> String {
    format!("world-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed))
}

/// A client belongs to the runtime it was made in, so each test has its own.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the kubeconfig is complete")).expect("a client can be made")
}
