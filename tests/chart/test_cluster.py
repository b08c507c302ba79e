"""The chart on an API server: every set of values is accepted by it, and a release is installed for good."""

import base64
import contextlib
import json
import os
import shutil
import socket
import tempfile
import unittest
import urllib.request
from pathlib import Path

from tools import CHART, HERE, MATRIX, NAMESPACE, Cluster, Failed, helm, program, render, rights, run, wait

RELEASE = "dps-operator"
CRDS = ("dpsintegrations.dps-operator.io", "provisioneddevices.dps-operator.io")


def setUpModule():
    global cluster  # noqa: PLW0603 (unittest makes here what a module's tests share)
    cluster = Cluster()
    unittest.addModuleCleanup(cluster.close)


def lines(name):
    text = (HERE / name).read_text().splitlines()
    return [line for line in text if line and not line.startswith("#")]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def by_the_operator(*command, text=None):
    """Whether the operator's account gets it done; a refusal has to be the policy's."""
    try:
        cluster.kubectl(*command, f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}", text=text)
    except Failed as refusal:
        if "the operator writes Secrets of" not in str(refusal):
            raise
        return False
    return True


def operator_writes(kind, **metadata):
    """Whether the operator's account may create such a Secret."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "team-a", **metadata}}
    text = json.dumps(secret | ({"type": kind} if kind else {}))
    return by_the_operator("create", "--dry-run=server", "-f", "-", text=text)


class Renderings(unittest.TestCase):
    def test_the_api_server_accepts_every_set_of_values_and_warns_of_nothing(self):
        for values in MATRIX:
            with self.subTest(values.name):
                objects = cluster.accepts(render("--values", values))
                self.assertIn("Deployment", {item["kind"] for item in objects})

    def test_what_would_be_refused_or_warned_of_is_noticed(self):
        with self.assertRaisesRegex(Failed, "would violate PodSecurity"):
            cluster.accepts(render("--set", "securityContext.allowPrivilegeEscalation=true"))
        with self.assertRaisesRegex(Failed, "unknown field|field not declared in schema"):
            cluster.accepts(render("--set", "securityContext.readOnly=true"))

    def test_the_roles_allow_what_is_promised_and_nothing_else(self):
        self.assertEqual(rights(cluster.accepts(render())), sorted(lines("rights.txt")))

    def test_the_operators_own_tests_run_with_these_rights(self):
        # Those know both ways of reading namespaces' labels; a release has the one that it needs.
        own = rights(cluster.accepts((HERE.parents[1] / "dev" / "rbac.yaml").read_text()))
        own = [line.replace("core/namespaces: get list watch", "core/namespaces: list watch") for line in own]
        operator = [line for line in lines("rights.txt") if line.startswith("ClusterRole dps-operator: ")]
        self.assertEqual(own, sorted(operator))

    def test_rights_to_certificates_come_with_their_switch_only(self):
        wanted = rights(cluster.accepts((HERE.parents[1] / "dev" / "rbac-cert-manager.yaml").read_text()))
        wanted = [line.replace("dps-operator-cert-manager:", "dps-operator:") for line in wanted]
        self.assertEqual(len(wanted), 1)
        found = rights(cluster.accepts(render("--set", "certManager.enabled=true")))
        self.assertEqual(found, sorted(lines("rights.txt") + wanted))

    def test_confined_to_namespaces_each_has_the_same_rights_but_for_namespaces(self):
        values = CHART / "ci" / "namespaced.yaml"
        # Those of all namespaces, and instead of reading all namespaces each reads itself.
        common = [line for line in lines("rights.txt") if line.startswith("ClusterRole dps-operator: ")]
        common = [line for line in common if "namespaces" not in line]
        found = rights(cluster.accepts(render("--values", values)))
        for namespace in ("team-a", "team-b"):
            mine = [line for line in found if namespace in line]
            role = f"Role dps-operator in {namespace}:"
            wanted = [line.replace("ClusterRole dps-operator:", role) for line in common]
            wanted.append(f"{role} core/namespaces {namespace}: get")
            self.assertEqual(mine, sorted(wanted))


class Policies(unittest.TestCase):
    """In a namespace of their own, with the CRDs of the generated files."""

    @classmethod
    def setUpClass(cls):
        cluster.kubectl("apply", "--server-side", "-f", HERE.parents[1] / "crds")
        cls.addClassCleanup(cluster.kubectl, "delete", "-f", HERE.parents[1] / "crds")
        for crd in CRDS:
            cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}")
        cluster.kubectl("apply", "--server-side", "-f", CHART / "examples" / "policies")
        cls.addClassCleanup(cluster.kubectl, "delete", "-f", CHART / "examples" / "policies")
        # The rights that the operator has, so that it is the policy that refuses.
        role = ("writes-secrets", "--verb=get,create,patch", "--resource=secrets")
        cluster.kubectl("create", "clusterrole", *role)
        cls.addClassCleanup(cluster.kubectl, "delete", "clusterrole", role[0])
        binding = ("--clusterrole", role[0], f"--serviceaccount={NAMESPACE}:{RELEASE}")
        cluster.kubectl("create", "clusterrolebinding", role[0], *binding)
        cls.addClassCleanup(cluster.kubectl, "delete", "clusterrolebinding", role[0])
        # The API server reads policies anew now and then; those that are refused tell that it has all.
        wait(
            "the policies are in force",
            lambda: not (cls.hostname("elsewhere.example") or cls.device("team-b", "x") or operator_writes("Opaque")),
        )

    @staticmethod
    def created(namespace, kind, metadata, spec):
        item = {"apiVersion": "dps-operator.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        try:
            cluster.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", text=json.dumps(item))
        except Failed as refusal:
            # A refusal in the policy's own words, not an expression that cannot be evaluated.
            if "has to be one of" not in str(refusal) and "has to begin with" not in str(refusal):
                raise
            return False
        return True

    @classmethod
    def hostname(cls, hostname):
        spec = {"idScope": "0ne1", "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "key"}}}}
        if hostname:
            spec["hostname"] = hostname
        return cls.created("team-a", "DpsIntegration", {"name": "i"}, spec)

    @classmethod
    def device(cls, namespace, name, **spec):
        metadata = {"generateName": name} if name.endswith("-") else {"name": name}
        return cls.created(namespace, "ProvisionedDevice", metadata, {"integrationRef": {"name": "i"}, **spec})

    def test_the_operator_creates_no_secrets_but_its_own_kind(self):
        own = {"labels": {"app.kubernetes.io/managed-by": "dps-operator"}}
        self.assertTrue(operator_writes("Opaque", **own))
        self.assertTrue(operator_writes(None, **own))
        self.assertFalse(operator_writes("Opaque", labels={"app.kubernetes.io/managed-by": "Helm"}))
        # Consent is the owner's to give, not the operator's.
        self.assertFalse(operator_writes("Opaque", annotations={"dps-operator.io/adopt": "true"}))
        account = {"kubernetes.io/service-account.name": "default"}
        self.assertFalse(operator_writes("kubernetes.io/service-account-token", **own, annotations=account))

    def test_the_operator_changes_no_secrets_of_others(self):
        device = self.owner("dps-operator.io/v1alpha1", "ProvisionedDevice", spec={"integrationRef": {"name": "i"}})
        another = self.owner("v1", "ConfigMap")
        label = {"app.kubernetes.io/managed-by": "dps-operator"}
        adopt = {"dps-operator.io/adopt": "true"}
        basic = {"type": "kubernetes.io/basic-auth", "stringData": {"username": "x"}}
        for name, extra, spec, wanted in (
            ("plain", {}, {}, False),
            ("helms", {"labels": {"app.kubernetes.io/managed-by": "Helm"}}, {}, False),
            ("owned-by-another", {"ownerReferences": [another]}, {}, False),
            ("login", {"labels": label, "annotations": adopt}, basic, False),
            ("labelled", {"labels": label}, {}, True),
            ("released", {"annotations": adopt}, {}, True),
            ("not-released", {"annotations": {"dps-operator.io/adopt": "false"}}, {}, False),
            ("owned", {"ownerReferences": [device]}, {}, True),
        ):
            with self.subTest(name):
                metadata = {"name": name, "namespace": "team-a", **extra}
                secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **spec}
                cluster.kubectl("create", "-f", "-", text=json.dumps(secret))
                self.addCleanup(cluster.kubectl, "delete", "secret", name, "-n", "team-a")
                mine = {"metadata": {"labels": label, "annotations": adopt}, "data": {"a": "eA=="}}
                patch = ("patch", "secret", name, "-n", "team-a", "--dry-run=server", "-p", json.dumps(mine))
                self.assertEqual(by_the_operator(*patch), wanted)
                # Everybody else goes on as before.
                cluster.kubectl(*patch)

    def owner(self, version, kind, **rest):
        """A reference to an object that is there: the collector removes what an absent one owns."""
        item = {"apiVersion": version, "kind": kind, "metadata": {"name": "owner", "namespace": "team-a"}, **rest}
        made = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", text=json.dumps(item)))
        self.addCleanup(cluster.kubectl, "delete", kind, "owner", "-n", "team-a", "--cascade=orphan")
        return {"apiVersion": version, "kind": kind, "name": "owner", "uid": made["metadata"]["uid"]}

    def test_integrations_name_listed_hosts_only_in_whatever_spelling(self):
        for hostname in (None, "my-dps.azure-devices-provisioning.net", "MY-DPS.azure-devices-provisioning.net.:443"):
            self.assertTrue(self.hostname(hostname), hostname)
        for hostname in ("other.azure-devices-provisioning.net", "my-dps.azure-devices-provisioning.net:8443"):
            self.assertFalse(self.hostname(hostname), hostname)

    def test_a_namespace_with_a_prefix_has_only_ids_that_begin_with_it(self):
        self.assertTrue(self.device("team-a", "anything"))
        self.assertTrue(self.device("team-b", "team-b.press"))
        self.assertTrue(self.device("team-b", "team-b.x-"))
        self.assertTrue(self.device("team-b", "press", registrationId="team-b.press"))
        self.assertFalse(self.device("team-b", "press"))
        self.assertFalse(self.device("team-b", "a.team-b.press"))
        self.assertFalse(self.device("team-b", "team-b.press", registrationId="team-a.press"))


class Release(unittest.TestCase):
    """One life of a release, under the policy for its Secrets: the methods' names give the order."""

    @classmethod
    def setUpClass(cls):
        policy = CHART / "examples" / "policies" / "operator-secrets.yaml"
        cluster.kubectl("apply", "--server-side", "-f", policy)
        cls.addClassCleanup(cluster.kubectl, "delete", "-f", policy)

    def test_1_it_is_installed_on_a_cluster_that_has_nothing_of_it(self):
        cluster.helm("install", RELEASE, CHART)
        for crd in CRDS:
            labels = cluster.get("crd", crd)["metadata"]
            self.assertEqual(labels["annotations"]["helm.sh/resource-policy"], "keep")
            self.assertEqual(labels["labels"]["app.kubernetes.io/managed-by"], "Helm")
        deployment = cluster.get("deployment", RELEASE, "-n", NAMESPACE)
        self.assertEqual(deployment["spec"]["replicas"], 2)

    def test_1b_its_pods_are_admitted_where_only_restricted_ones_are(self):
        """No controller makes Pods here, so the Deployment's template is handed in as one."""
        template = cluster.get("deployment", RELEASE, "-n", NAMESPACE)["spec"]["template"]
        metadata = {**template["metadata"], "name": "one", "namespace": NAMESPACE}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        (admitted,) = cluster.accepts(json.dumps(pod))
        mounts = [m["mountPath"] for m in admitted["spec"]["containers"][0]["volumeMounts"]]
        self.assertEqual(mounts, ["/var/run/secrets/kubernetes.io/serviceaccount"])

    def test_2_the_account_may_do_its_work_and_nothing_beside(self):
        for question in (
            ("list", "provisioneddevices.dps-operator.io", "-A"),
            ("update", "provisioneddevices.dps-operator.io", "--subresource=status", "-n", "team-a"),
            ("patch", "secrets", "-n", "team-a"),
            ("create", "events.events.k8s.io", "-n", "team-a"),
            ("update", "leases.coordination.k8s.io/dps-operator", "-n", NAMESPACE),
            ("create", "leases.coordination.k8s.io", "-n", NAMESPACE),
        ):
            self.assertTrue(cluster.may(RELEASE, *question), question)
        for question in (
            ("delete", "secrets", "-n", "team-a"),
            ("update", "secrets", "-n", "team-a"),
            ("patch", "provisioneddevices.dps-operator.io", "-n", "team-a"),
            ("patch", "provisioneddevices.dps-operator.io", "--subresource=status", "-n", "team-a"),
            ("update", "leases.coordination.k8s.io/other", "-n", NAMESPACE),
            ("delete", "leases.coordination.k8s.io/dps-operator", "-n", NAMESPACE),
            ("get", "leases.coordination.k8s.io/dps-operator", "-n", "team-a"),
            ("get", "pods", "-n", NAMESPACE),
        ):
            self.assertFalse(cluster.may(RELEASE, *question), question)

    def test_3_everybody_with_view_sees_devices_and_nobody_gets_to_write_them(self):
        def verbs(role):
            rules = cluster.get("clusterrole", role)["rules"]
            return {verb for rule in rules if "dps-operator.io" in rule.get("apiGroups", []) for verb in rule["verbs"]}

        wait("the role is aggregated", lambda: verbs("view"))
        self.assertEqual(verbs("view"), {"get", "list", "watch"})
        self.assertEqual(verbs("edit"), {"get", "list", "watch"})

    def test_4_the_simulator_keeps_its_certificate(self):
        cluster.helm("upgrade", RELEASE, CHART, "--set", "simulator.enabled=true")
        first = cluster.get("secret", f"{RELEASE}-simulator-tls", "-n", NAMESPACE)["data"]
        cluster.helm("upgrade", RELEASE, CHART, "--set", "simulator.enabled=true,logLevel=debug")
        self.assertEqual(cluster.get("secret", f"{RELEASE}-simulator-tls", "-n", NAMESPACE)["data"], first)

    def test_5_the_example_of_the_notes_is_accepted(self):
        name = f"{RELEASE}-simulator-example"
        notes = cluster.helm("get", "notes", RELEASE)
        template = notes.split(name + " -o '", 1)[1].split("'", 1)[0]
        example = cluster.kubectl("get", "configmap", name, "-n", NAMESPACE, "-o", template)
        kinds = [item["kind"] for item in cluster.accepts(example)]
        self.assertEqual(kinds, ["Secret", "ConfigMap", "DpsIntegration"] + ["ProvisionedDevice"] * 3)

    def test_6_the_operator_works_with_the_charts_arguments_and_rights(self):
        wait("the policy is in force", lambda: not operator_writes("Opaque"))
        with self.simulator() as port:
            settings = f"simulator.enabled=true,allowedDpsHosts={{localhost:{port}}}"
            with self.subTest("in all namespaces"):
                cluster.helm("upgrade", RELEASE, CHART, "--set", settings)
                self.provisions("one", port)
            with self.subTest("in one"):
                cluster.helm("upgrade", RELEASE, CHART, "--set", settings + ",watchNamespaces={team-a}")
                self.provisions("two", port)

    @contextlib.contextmanager
    def simulator(self):
        """As the chart runs it: its configuration, its certificate, a client that trusts the chart's CA."""
        get = ("get", "secret", f"{RELEASE}-simulator-tls", "-n", NAMESPACE, "-o")
        config = cluster.get("configmap", f"{RELEASE}-simulator", "-n", NAMESPACE)["data"]["config.yaml"]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for key in ("tls.crt", "tls.key", "ca.crt"):
                template = 'go-template={{index .data "%s" | base64decode}}' % key
                (folder / key).write_text(cluster.kubectl(*get, template))
            (folder / "config.yaml").write_text(config.replace("/etc/dps-simulator/tls", name))
            ready = folder / "ready.json"
            listen = ("--listen=127.0.0.1:0", "--admin=127.0.0.1:0", f"--ready-file={ready}")
            with program("dps-simulator", f"--config={folder}/config.yaml", *listen) as process:
                wait("the simulator is ready", lambda: process.poll() is not None or ready.exists())
                port = json.loads(ready.read_text())["address"].rsplit(":", 1)[1]
                host = f"{RELEASE}-simulator.{NAMESPACE}.svc"
                path = f"https://{host}:{port}/0ne00000001/registrations/x?api-version=2021-06-01"
                trust = ("--cacert", folder / "ca.crt", "--resolve", f"{host}:{port}:127.0.0.1")
                status = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *trust, path)
                self.assertEqual(status, "405", "under the Service's name it answers as DPS does")
                yield port

    def provisions(self, device, port):
        """The operator with the Deployment's arguments and its account's rights registers a device."""
        (container,) = cluster.get("deployment", RELEASE, "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"]
        # All but the addresses: the chart's would be served to everybody, and their ports may be taken here.
        address, probes = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        arguments = [a for a in container["args"] if not a.startswith(("--http-addr=", "--probe-addr="))]
        arguments += [f"--http-addr={address}", f"--probe-addr={probes}"]
        self.assertEqual(len(arguments), len(container["args"]))
        example = cluster.get("configmap", f"{RELEASE}-simulator-example", "-n", NAMESPACE)["data"]["example.yaml"]
        # The Service's name means nothing on this machine; the certificate is for localhost, too.
        example = example.replace(f"{RELEASE}-simulator.{NAMESPACE}.svc", f"localhost:{port}")
        example = example.replace("press-01", device)
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = cluster.kubeconfig_of(RELEASE, Path(folder))
            env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
            with program("dps-operator", *arguments, env=env):
                wait("it is ready", lambda: answers(f"http://{probes}/readyz"))
                self.assertTrue(answers(f"http://{probes}/livez"))
                apply = ("apply", "--server-side", "--force-conflicts", "-n", "team-a")
                cluster.kubectl(*apply, "-f", "-", text=example)
                ready = ("wait", "--for=condition=Ready", "--timeout=60s", "-n", "team-a")
                cluster.kubectl(*ready, f"pdev/{device}", "dpsi/simulator")
                # Repairing it takes `patch`; admitting namespaces by label takes `get` or `watch` of them.
                secret = ("secret", f"{device}-hub", "-n", "team-a")
                cluster.kubectl("patch", *secret, "-p", '{"stringData": {"deviceId": "other"}}')
                wanted = base64.b64encode(device.encode()).decode()
                wait("the Secret is repaired", lambda: cluster.get(*secret)["data"]["deviceId"] == wanted)
                admits = {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}, "registrationIdPrefixes": [""]}
                patch = json.dumps({"spec": {"allowedNamespaces": admits}})
                cluster.kubectl("patch", "dpsi", "simulator", "-n", "team-a", "--type=merge", "-p", patch)
                generation = cluster.get("dpsi", "simulator", "-n", "team-a")["metadata"]["generation"]
                observed = f"jsonpath={{.status.observedGeneration}}={generation}"
                cluster.kubectl("wait", f"--for={observed}", "--timeout=60s", "-n", "team-a", "dpsi/simulator")
                # It answers with what is counted so far: a renamed metric is not in the list.
                metrics = run("curl", "-sSf", f"http://{address}/metrics")
            known = set(lines("metrics.txt"))
            names = {line.split()[2] for line in metrics.splitlines() if line.startswith("# TYPE ")}
            self.assertEqual({name for name in names - known if name.startswith("dps_operator_")}, set())
            self.assertIn("dps_operator_leader 1", metrics)
        self.assertEqual(cluster.refused(RELEASE), [])

    def test_6b_confined_to_namespaces_it_has_lost_the_rest(self):
        self.assertTrue(cluster.may(RELEASE, "list", "secrets", "-n", "team-a"))
        self.assertTrue(cluster.may(RELEASE, "get", "namespaces/team-a", "-n", "team-a"))
        self.assertFalse(cluster.may(RELEASE, "list", "secrets", "-n", "team-b"))
        self.assertFalse(cluster.may(RELEASE, "get", "namespaces/team-b", "-n", "team-b"))
        self.assertFalse(cluster.may(RELEASE, "list", "namespaces"))
        bindings = cluster.get("clusterrolebinding")["items"]
        self.assertFalse([item for item in bindings if item["metadata"]["name"].startswith(RELEASE)])

    def test_6c_a_second_release_of_the_same_name_needs_to_have_no_cluster_roles(self):
        def second(*arguments):
            return helm(*arguments, "--namespace", "team-b", env=cluster.env)

        settings = "watchNamespaces={team-b},crds.enabled=false"
        with self.assertRaisesRegex(Failed, 'ClusterRole "dps-operator-(edit|view)" .* exists and cannot be imported'):
            second("install", RELEASE, CHART, "--set", settings)
        with contextlib.suppress(Failed):
            second("uninstall", RELEASE)
        second("install", RELEASE, CHART, "--set", settings + ",rbac.userRoles=false")
        second("uninstall", RELEASE)

    def test_7_uninstalled_it_leaves_the_crds_and_can_be_installed_again(self):
        cluster.helm("uninstall", RELEASE)
        for crd in CRDS:
            cluster.get("crd", crd)
        for kind in ("deployment", "secret", "configmap", "role", "serviceaccount", "networkpolicy", "service"):
            left = cluster.get(kind, "-n", NAMESPACE, "-l", "app.kubernetes.io/part-of=dps-operator")["items"]
            self.assertEqual([item["metadata"]["name"] for item in left], [], kind)
        with self.assertRaisesRegex(Failed, "invalid ownership metadata"):
            cluster.helm("install", "other", CHART)
        with contextlib.suppress(Failed):
            cluster.helm("uninstall", "other")
        cluster.helm("install", "other", CHART, "--take-ownership")
        cluster.helm("uninstall", "other")

    def test_8_crds_that_were_applied_by_hand_are_upgraded_as_the_docs_say(self):
        def by_hand(chart, *arguments):
            cluster.kubectl("delete", "crd", *CRDS)
            cluster.kubectl("apply", "--server-side", *arguments, "-f", chart / "files" / "crds")

        def described(crd, words):
            version = cluster.get("crd", crd)["spec"]["versions"][0]
            return words in json.dumps(version["schema"])

        with tempfile.TemporaryDirectory() as folder:
            charts = [Path(folder) / name / "dps-operator" for name in ("first", "second", "third")]
            shared = "The generation that the conditions describe"  # stands in both
            for chart in charts:
                shutil.copytree(CHART, chart)
                for crd in (chart / "files" / "crds").iterdir():
                    crd.write_text(crd.read_text().replace(shared, f"In the {chart.parent.name} always"))
            first, second, third = charts
            with self.subTest("under Helm's name"):
                by_hand(first, "--field-manager=helm")
                cluster.helm("install", "other", second, "--take-ownership")
                cluster.helm("upgrade", "other", third)
                self.assertTrue(all(described(crd, "In the third always") for crd in CRDS))
                cluster.helm("uninstall", "other")
            with self.subTest("under kubectl's"):
                by_hand(first)
                with self.assertRaisesRegex(Failed, 'conflict with \\\\?"kubectl'):
                    cluster.helm("install", "other", second, "--take-ownership")
                cluster.helm("uninstall", "other")
                cluster.helm("install", "other", second, "--take-ownership", "--force-conflicts")
                cluster.helm("upgrade", "other", third)
                self.assertTrue(all(described(crd, "In the third always") for crd in CRDS))
                cluster.helm("uninstall", "other")


if __name__ == "__main__":
    unittest.main()
