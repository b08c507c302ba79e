//! What the components of a node read. JSON throughout: every reader of YAML reads it.

use std::path::Path;

use serde_json::json;

use crate::certificates::NODE_NAME;

/// Where every client looks for containerd; in the sandbox `/run` is its own.
pub(super) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The image of every Pod's sandbox.
pub(super) const PAUSE_IMAGE: &str = "localhost/pause:e2e";
const POD_RANGE: &str = "10.1.0.0/24";
/// The address of the DNS service in `node/coredns.yaml`.
const DNS_SERVICE: &str = "10.0.0.10";

/// containerd's own format. Its sandboxes must not try to lower their score for the out-of-memory
/// killer, which takes a right that root in a container or small VM has not got.
pub(super) fn containerd(root: &Path, cni: &Path, cni_plugins: &str, runc: &Path) -> String {
    let [root, cni, runc] = [root, cni, runc].map(Path::display);
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.internal.v1.opt']
path = "{root}/opt"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "native"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{cni_plugins}"]
conf_dir = "{cni}"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#
    )
}

/// Each Pod has a link of its own to this machine. On a bridge, Pods would answer each other past
/// the rules that turn a service's address into a Pod's and back.
pub(super) fn network() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipam": { "type": "host-local", "subnet": POD_RANGE, "routes": [{ "dst": "0.0.0.0/0" }] },
        }],
    })
    .to_string()
}

/// The kubelet's, with everything in `folder`.
pub(super) fn kubelet(folder: &Path, ca: &Path, cgroup: &str) -> String {
    json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": ca },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": folder.join("resolv.conf"),
        "podLogsDir": folder.join("pods"),
        "volumePluginDir": folder.join("volume-plugins"),
        // A disk that is nearly full concerns whoever it belongs to, not the Pods of a test.
        "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "memory.available": "0%" },
        "imageGCHighThresholdPercent": 100,
    })
    .to_string()
}

/// kube-proxy's. The limits of connection tracking are this machine's, not ours to set.
pub(super) fn proxy(kubeconfig: &Path) -> String {
    json!({
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "iptables",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_RANGE,
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        // Also rules that change are in force at once.
        "iptables": { "minSyncPeriod": "0s" },
    })
    .to_string()
}
