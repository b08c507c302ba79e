"""What a local control plane lacks: a node that runs Pods, a cluster's names, Azure.

`Node` stands in for the kubelet, the Deployment controller and the Services: for each Deployment of the
release it starts the program that its image has, as a plain process with the Deployment's arguments and
the rights of its ServiceAccount, and then reports the Deployment ready. It has those images only that
the page has brought into the cluster. `Azure` is the DPS simulator
under Azure's name. Both are reached by the operator through a proxy, which is this cluster's DNS.
"""

import base64
import contextlib
import json
import os
import select
import socket
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from pages import ROOT
from tools import NAMESPACE, Failed, program, wait

DPS = "global.azure-devices-provisioning.net"
SIMULATOR = ("--listen=127.0.0.1:0", "--admin=127.0.0.1:0")


class Proxy:
    """Knows CONNECT, and to which port of this machine a name leads."""

    def __init__(self):
        self.routes = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(4096)
                if not part:
                    return
                head += part
            name = head.split()[1].decode().rsplit(":", 1)[0]
            if name not in self.routes:
                client.sendall(b"HTTP/1.1 502 no such name\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.routes[name])) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self.pass_on(client, server)

    @staticmethod
    def pass_on(one, other):
        while True:
            for source in select.select([one, other], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                (other if source is one else one).sendall(data)

    def close(self):
        self.listener.close()


@contextlib.contextmanager
def simulator(folder, config):
    """The port of a DPS simulator, and what its ready file says."""
    (folder / "config.yaml").write_text(config)
    ready = folder / "ready.json"
    with program("dps-simulator", f"--config={folder}/config.yaml", f"--ready-file={ready}", *SIMULATOR) as process:
        wait("the simulator is ready", lambda: process.poll() is not None or ready.exists())
        said = json.loads(ready.read_text())
        yield int(said["address"].rsplit(":", 1)[1]), said


class Azure(contextlib.ExitStack):
    """The DPS that the examples are written for, under Azure's name."""

    def __init__(self, proxy):
        super().__init__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        config = (ROOT / "dev" / "demo" / "simulator.yaml").read_text()
        # A group of the name that cert-manager.md makes; until then it has keys that nobody knows.
        secret = base64.b64encode(os.urandom(32)).decode()
        keys = "".join(f"        {slot}Key: {secret}\n" for slot in ("primary", "secondary"))
        config = config.replace("    enrollmentGroups:\n", f"    enrollmentGroups:\n      - id: lorries\n{keys}")
        config = config.replace("directory: simulator-tls", f"directory: {folder}/tls\n  names: [{DPS}]")
        port, said = self.enter_context(simulator(folder, config))
        proxy.routes[DPS] = port
        self.ca, self.admin = said["caFile"], said["adminAddress"]

    def registered(self):
        """How many registrations it was asked for so far."""
        with urllib.request.urlopen(f"http://{self.admin}/v1/ledger/totals", timeout=5) as answer:
            return json.load(answer)["register"]


class Node(threading.Thread):
    def __init__(self, cluster, proxy, ca, images):
        super().__init__(daemon=True)
        self.cluster, self.proxy, self.ca, self.images = cluster, proxy, ca, images
        self.running, self.failure, self.ended = {}, None, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.ended.wait(0.3):
                self.look()
        except BaseException as problem:  # what went wrong here is told by the test
            self.failure = problem
        finally:
            for name in list(self.running):
                self.stop(name)

    def look(self):
        deployments = {item["metadata"]["name"]: item for item in self.deployments()}
        for name in list(self.running):
            if name not in deployments:
                self.stop(name)
        # The simulator first, whose certificate and address the other one's work begins with.
        for name in sorted(deployments, reverse=True):
            generation = deployments[name]["metadata"]["generation"]
            if self.running.get(name, (None,))[0] != generation:
                self.stop(name)
                self.running[name] = (generation, self.begin(name, deployments[name]))
                self.report(name, deployments[name])

    def deployments(self):
        try:
            return self.cluster.get("deployments", "-n", NAMESPACE)["items"]
        except Failed:
            return []

    def stop(self, name):
        if name in self.running:
            self.running.pop(name)[1].close()

    def begin(self, name, deployment):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        there = self.images.read_text().splitlines() if self.images.exists() else []
        if container["image"] not in there:
            raise Failed(f"ImagePullBackOff: {container['image']} is not among {there}")
        begin = self.begin_simulator if name.endswith("-simulator") else self.begin_operator
        with contextlib.ExitStack() as stack:
            begin(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), name, container)
            return stack.pop_all()

    def begin_simulator(self, stack, folder, name, _):
        for key in ("tls.crt", "tls.key"):
            template = 'go-template={{index .data "%s" | base64decode}}' % key
            text = self.cluster.kubectl("get", "secret", f"{name}-tls", "-n", NAMESPACE, "-o", template)
            (folder / key).write_text(text)
        config = self.cluster.get("configmap", name, "-n", NAMESPACE)["data"]["config.yaml"]
        config = config.replace("/etc/dps-simulator/tls", str(folder))
        self.proxy.routes[f"{name}.{NAMESPACE}.svc"], _ = stack.enter_context(simulator(folder, config))

    def begin_operator(self, stack, folder, name, container):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        arguments = [
            a for a in container["args"] if not a.startswith(("--http-addr=", "--probe-addr=", "--dps-proxy="))
        ]
        arguments += [f"--http-addr={address}", f"--dps-proxy=http://127.0.0.1:{self.proxy.port}"]
        pod = self.cluster.get("deployment", name, "-n", NAMESPACE)["spec"]["template"]["spec"]
        kubeconfig = self.cluster.kubeconfig_of(pod["serviceAccountName"], folder)
        env = {**os.environ, "KUBECONFIG": str(kubeconfig), "SSL_CERT_FILE": str(self.ca)}
        process = stack.enter_context(program("dps-operator", *arguments, env=env))

        def is_ready():
            if process.poll() is not None:
                raise Failed("the operator ended")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
                return answer.status == 200

        wait("the operator is ready", is_ready)

    def report(self, name, deployment):
        replicas = deployment["spec"]["replicas"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
        status = {"status": {"observedGeneration": deployment["metadata"]["generation"], **counts}}
        patch = ("patch", "deployment", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p")
        self.cluster.kubectl(*patch, json.dumps(status))

    def close(self):
        self.ended.set()
        self.join(60)
        if self.failure:
            raise self.failure


def until(condition, seconds=45):
    """Whether it comes true within this time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True
