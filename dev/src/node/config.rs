//! The configuration files of a node's components, mostly in JSON, which every YAML parser reads.

use std::path::Path;

use serde_json::json;

use crate::certificates::NODE_NAME;

/// The default of all clients of containerd. In the sandbox `/run` is empty.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The image of every Pod's sandbox.
const PAUSE_IMAGE: &str = "localhost/pause:e2e";
const POD_RANGE: &str = "10.1.0.0/24";
/// The address of the DNS service in `node/coredns.yaml`.
const DNS_SERVICE: &str = "10.0.0.10";

/// The configuration of containerd. Pod sandboxes must not lower their out-of-memory score: root in a
/// container or a small virtual machine may not do that.
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

/// The configuration of the Pod network. Each Pod has a link of its own to this machine: on a bridge,
/// answers between Pods would not pass the rules that translate the address of a service.
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

/// The configuration of the kubelet, with its files in `folder`.
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
        // Pods of a test are not evicted when the disk of this machine is nearly full.
        "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "memory.available": "0%" },
        "imageGCHighThresholdPercent": 100,
    })
    .to_string()
}

/// The configuration of kube-proxy. It leaves this machine's limits of connection tracking alone.
pub(super) fn proxy(kubeconfig: &Path) -> String {
    json!({
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "iptables",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_RANGE,
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        // Changed rules are applied at once, too.
        "iptables": { "minSyncPeriod": "0s" },
    })
    .to_string()
}
