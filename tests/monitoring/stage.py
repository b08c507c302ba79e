"""A release of the chart that is scraped: a control plane, simulators, two operators and a Prometheus."""

import base64
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import tools
from test_cluster import free_port
from tools import CHART, NAMESPACE, Cluster, Failed, program

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "monitoring.md"
VALUES = ("--values", HERE / "values.yaml")
# Not the name in the docs: that would hide where one is taken for the other.
RELEASE = "watched"
NAME = f"{RELEASE}-dps-operator"
SCOPE = "0ne00000001"
GROUP = "fleet"
HUBS = ("hub-a.azure-devices.net", "hub-b.azure-devices.net")
KEY = base64.b64encode(b"fake-primary-key-of-the-fleet-group").decode()
OTHER_KEY = base64.b64encode(b"fake-secondary-key-of-the-fleet-group").decode()
WRONG_KEY = base64.b64encode(b"fake-key-that-no-group-has-ever-had").decode()


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def self_signed(name, begun, ends):
    """Certificate and key in PEM. Only OpenSSL's little CA lets a certificate begin in the past."""
    now = time.time()
    dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at)) for at in (now - begun, now + ends)]
    with tempfile.TemporaryDirectory() as folder:
        config = f"[ca]\ndefault_ca=own\n[own]\nnew_certs_dir={folder}\ndatabase={folder}/index\nrand_serial=yes\n"
        config += "default_md=sha256\npolicy=any\nx509_extensions=leaf\n[any]\ncommonName=supplied\n"
        config += "[leaf]\nbasicConstraints=CA:false\n[req]\ndistinguished_name=any\n"
        files = {file: Path(folder) / file for file in ("config", "index", "key", "request", "certificate")}
        files["config"].write_text(config)
        files["index"].touch()

        def openssl(*arguments):
            command = ("openssl", *arguments, "-config", files["config"])
            subprocess.run(command, check=True, capture_output=True, timeout=60)

        elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", files["key"])
        openssl("req", "-new", *elliptic, "-subj", f"/CN={name}", "-out", files["request"])
        signs = ("-selfsign", "-keyfile", files["key"], "-in", files["request"], "-out", files["certificate"])
        openssl("ca", "-batch", "-notext", "-startdate", dates[0], "-enddate", dates[1], *signs)
        return files["certificate"].read_text(), files["key"].read_text()


class Simulator:
    """One DPS instance with the group `fleet`."""

    def __init__(self, stack, **settings):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        group = {"id": GROUP, "primaryKey": KEY, "secondaryKey": OTHER_KEY}
        config = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "tls": {"directory": str(folder / "tls")},
            "thinkTime": "200ms",
            "retryAfter": "1s",
            "idScopes": [{"idScope": SCOPE, "hubs": list(HUBS), "enrollmentGroups": [group]}],
            **settings,
        }
        (folder / "config.yaml").write_text(json.dumps(config))
        ready = folder / "ready.json"
        process = stack.enter_context(
            program("dps-simulator", f"--config={folder}/config.yaml", f"--ready-file={ready}")
        )
        tools.wait("the simulator is ready", lambda: process.poll() is not None or ready.exists())
        told = json.loads(ready.read_text())
        self.host = f"localhost:{told['address'].rsplit(':', 1)[1]}"
        self.admin = f"http://{told['adminAddress']}"
        self.ca = Path(told["caFile"]).read_text()

    def set(self, method, path, body):
        call(method, f"{self.admin}/v1/{path}", body)


class Operator:
    """One Pod of the Deployment: its arguments, its account's token, an address of its own."""

    def __init__(self, pod, folder, kubeconfig, arguments):
        self.pod, self.address = pod, f"127.0.0.1:{free_port()}"
        self.log = folder / f"{pod}.log"
        # Of two Pods on one machine only one could have the chart's ports.
        arguments = [a for a in arguments if not a.startswith(("--http-addr=", "--probe-addr="))]
        self.arguments = [*arguments, f"--http-addr={self.address}"]
        self.env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self.process = None

    def start(self):
        with self.log.open("a") as log:
            command = [Path(os.environ["PROGRAMS"]) / "dps-operator", *self.arguments]
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=subprocess.STDOUT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as answer:
            return answer.read().decode()


class Prometheus:
    """Scrapes as docs/monitoring.md says, but finds the operators in a list, and judges by the chart's rules."""

    def __init__(self, stack, operators, rules):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "rules.yaml").write_text(json.dumps(rules))
        timing = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\n"
        (folder / "prometheus.yaml").write_text(timing + scrape_configs(operators))
        tools.run(os.environ["PROMTOOL"], "check", "config", folder / "prometheus.yaml")
        self.url = f"http://127.0.0.1:{free_port()}"
        stack.enter_context(
            program(
                os.environ["PROMETHEUS"],
                f"--config.file={folder}/prometheus.yaml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            )
        )
        self.begun = time.time()
        tools.wait("Prometheus answers", self.answers)

    def answers(self):
        try:
            return self.get("status/runtimeinfo")
        except OSError:
            return None

    def get(self, path, **query):
        return call("GET", f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")["data"]

    def query(self, text):
        """The samples that a number can be seen of, with their labels."""
        found = [(s["metric"], float(s["value"][1])) for s in self.get("query", query=text)["result"]]
        return [(labels, value) for labels, value in found if math.isfinite(value)]

    def ever(self, text):
        """The same over all the time that it runs: what a graph would show."""
        # The last step is now: what has been seen already is in it.
        end = time.time()
        period = {"start": end - math.ceil(end - self.begun), "end": end, "step": "1s"}
        series = self.get("query_range", query=text, **period)["result"]
        return [s["metric"] for s in series if any(math.isfinite(float(v)) for _, v in s["values"])]

    def alerts(self):
        return self.get("alerts")["alerts"]


def scrape_configs(operators):
    """The scrape_configs of the docs, where each operator is a Pod as the discovery of Pods describes it."""
    (text,) = re.findall(r"```yaml\n(scrape_configs:\n.*?)```", DOCS.read_text(), re.DOTALL)
    meta = {
        "__meta_kubernetes_namespace": NAMESPACE,
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": "dps-operator",
        "__meta_kubernetes_pod_label_app_kubernetes_io_instance": RELEASE,
        "__meta_kubernetes_pod_container_port_name": "http",
    }
    found = [
        {"targets": [operator.address], "labels": {**meta, "__meta_kubernetes_pod_name": operator.pod}}
        for operator in operators
    ]
    # Something else in the namespace, which the configuration has to leave alone.
    found.append({"targets": ["127.0.0.1:9"], "labels": {**meta, "__meta_kubernetes_pod_container_port_name": "https"}})
    replaced, times = re.subn(r"kubernetes_sd_configs:\n(?: {6,}.*\n)+", f"static_configs: {json.dumps(found)}\n", text)
    if times != 1:
        raise Failed(f"not one discovery in the docs:\n{text}")
    return replaced


class Stage:
    def __init__(self):
        self.stack = contextlib.ExitStack()
        try:
            self.begin()
        except BaseException:
            self.stack.close()
            raise

    def begin(self):
        self.cluster = Cluster()
        self.stack.callback(self.cluster.close)
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.steady = Simulator(self.stack)
        self.throttling = Simulator(self.stack, readings={"throttleRetryAfter": "absent"})
        self.unreliable = Simulator(self.stack)
        hosts = ",".join(s.host for s in (self.steady, self.throttling, self.unreliable))
        settings = f"allowedDpsHosts={{{hosts}}},logFormat=text"
        self.cluster.helm("install", RELEASE, CHART, *VALUES, "--set", settings)
        self.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
        kubeconfig = self.cluster.kubeconfig_of(NAME, folder)
        deployment = self.cluster.get("deployment", NAME, "-n", NAMESPACE)["spec"]
        (container,) = deployment["template"]["spec"]["containers"]
        self.operators = [
            Operator(f"{NAME}-{number}", folder, kubeconfig, container["args"])
            for number in range(deployment["replicas"])
        ]
        rules = self.cluster.get("prometheusrule", NAME, "-n", NAMESPACE)["spec"]
        self.prometheus = Prometheus(self.stack, self.operators, rules)
        for operator in self.operators:
            self.stack.callback(operator.stop)
            operator.start()
        self.leader()
        # Prometheus was there before the operators.
        self.clears("DpsOperatorDown")

    def close(self):
        self.stack.close()

    def wait(self, what, condition, seconds=60):
        try:
            return tools.wait(what, condition, seconds)
        except Failed as problem:
            shown = [f"{a['labels']} is {a['state']}" for a in self.prometheus.alerts()]
            problem.add_note("alerts:\n" + "\n".join(shown))
            for operator in self.operators:
                problem.add_note(f"{operator.pod} said:\n{operator.log.read_text()[-3000:]}")
            raise

    def active(self, name, **labels):
        """The alert in whatever state, if it is not inactive."""
        wanted = {"alertname": name, **labels}
        return [a for a in self.prometheus.alerts() if wanted.items() <= a["labels"].items()]

    def fires(self, name, **labels):
        def firing():
            return [a for a in self.active(name, **labels) if a["state"] == "firing"]

        return self.wait(f"{name} {labels} fires", firing)[0]

    def clears(self, name, **labels):
        self.wait(f"{name} {labels} is over", lambda: not self.active(name, **labels), 90)

    def leader(self):
        """The Pod that leads, once one does."""

        def leading():
            return [labels["pod"] for labels, _ in self.prometheus.query("dps_operator_leader == 1")]

        (pod,) = self.wait("one leads", leading)
        return next(operator for operator in self.operators if operator.pod == pod)

    def apply(self, namespace, *objects):
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        apply = ("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-")
        self.cluster.kubectl(*apply, text=json.dumps(listed))

    def key(self, namespace, key, **other):
        """The Secret with the group's keys; `other` are its further entries."""
        metadata = {"name": "group-key", "namespace": namespace}
        data = {k: base64.b64encode(v.encode()).decode() for k, v in {"primaryKey": key, **other}.items()}
        self.apply(namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def integration(self, namespace, simulator, **spec):
        """A namespace with the integration `factory`."""
        metadata = {"namespace": namespace}
        self.apply(namespace, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.key(namespace, KEY)
        ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "name": "dps-ca"}}
        spec = {
            "idScope": SCOPE,
            "hostname": simulator.host,
            "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "group-key"}}},
            "caBundleRef": {"name": "dps-ca"},
            **spec,
        }
        integration = {"apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration"}
        integration |= {"metadata": {**metadata, "name": "factory"}, "spec": spec}
        self.apply(namespace, {**ca, "data": {"ca.crt": simulator.ca}}, integration)

    def certificate(self, namespace, name, begun, ends):
        """A certificate of its own signature that DPS knows, valid since `begun` seconds and for `ends` more."""
        certificate, key = self_signed(name, begun, ends)
        self.steady.set("PUT", f"scopes/{SCOPE}/devices/{name}/certificates", {"primary": {"pem": certificate}})
        data = {"tls.crt": certificate, "tls.key": key}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": data}
        self.apply(namespace, {**secret, "metadata": {"name": f"{name}-tls", "namespace": namespace}})

    def devices(self, namespace, *names, **spec):
        device = {"apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice"}
        self.apply(
            namespace,
            *(
                {**device, "metadata": {"name": name}, "spec": {"integrationRef": {"name": "factory"}, **spec}}
                for name in names
            ),
        )

    def ready(self, namespace, *names):
        names = names or ("--all",)
        kinds = ("pdev", *names)
        self.cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "-n", namespace, *kinds)
