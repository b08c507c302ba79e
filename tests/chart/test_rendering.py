"""The chart without a cluster."""

import json
import os
import re
import tarfile
import tempfile
import unittest
from pathlib import Path

from tools import CHART, HERE, MATRIX, NAMESPACE, Failed, helm, render, run


def lines(name):
    text = (HERE / name).read_text().splitlines()
    return [line for line in text if line and not line.startswith("#")]


def rules(*arguments):
    """The rendered alerts as a file of Prometheus."""
    text = render("-s", "templates/prometheusrule.yaml", "--set", "metrics.prometheusRule.enabled=true", *arguments)
    spec = text.split("\nspec:\n", 1)[1]
    return "\n".join(line.removeprefix("  ") for line in spec.splitlines()) + "\n"


def notes(*arguments):
    text = helm("install", "dps-operator", CHART, "--namespace", NAMESPACE, "--dry-run=client", *arguments)
    return text.split("\nNOTES:\n", 1)[1]


class Rendering(unittest.TestCase):
    def test_every_set_of_values_passes_helms_own_check(self):
        self.assertGreater(len(MATRIX), 3)
        for values in MATRIX:
            with self.subTest(values.name):
                helm("lint", "--strict", CHART, "--values", values)

    def test_misspelt_and_senseless_settings_are_refused_with_a_message(self):
        for line in lines("refused.txt"):
            settings, message = line.split(" => ")
            with self.subTest(settings):
                with self.assertRaises(Failed, msg="it was accepted") as refusal:
                    render("--set", settings)
                said = str(refusal.exception).split("\n", 1)[1]
                self.assertIn(message, said)

    def test_every_address_and_level_that_makes_sense_is_accepted(self):
        for address in ("0.0.0.0:1", "[::]:65535", "10.1.27.0:8080", "[2001:db8::1]:8080", "[::10:1]:9"):
            text = render("--set-string", f"httpAddr={address}", "--set", "probePort=81")
            self.assertIn(f'"--http-addr={address}"', text)
            self.assertIn(f'"--probe-addr={address.rsplit(":", 1)[0]}:81"', text)
        for level in ("error", "warn", "info", "debug", "trace", "off", "info,dps_operator::dps=trace", "a=off,info"):
            text = render("--set-json", f"logLevel={json.dumps(level)}", "-s", "templates/deployment.yaml")
            self.assertIn(f'"--log-level={level}"', text)

    def test_a_kubernetes_that_is_too_old_is_refused(self):
        for version in ("1.33.0", "v1.33.5-gke.1030000", "1.40.1"):
            render("--kube-version", version)
        with self.assertRaisesRegex(Failed, "kubeVersion"):
            render("--kube-version", "1.32.9")

    def test_the_package_has_what_an_installation_needs_and_no_more(self):
        with tempfile.TemporaryDirectory() as folder:
            helm("package", CHART, "--destination", folder)
            (package,) = Path(folder).glob("*.tgz")
            with tarfile.open(package) as archive:
                names = {name.removeprefix("dps-operator/") for name in archive.getnames()}
        self.assertLessEqual({"values.schema.json", "README.md", "files/alerts.yaml", "templates/NOTES.txt"}, names)
        self.assertEqual(len([name for name in names if name.startswith("files/crds/")]), 2)
        self.assertFalse([name for name in names if name.startswith("ci/")])

    def test_probes_have_a_port_that_neither_scrapes_nor_policies_admit(self):
        text = render("-s", "templates/deployment.yaml")
        self.assertEqual(
            re.findall(r"name: (\w+)\n +containerPort: (\d+)", text), [("http", "8080"), ("probes", "8081")]
        )
        probed = re.findall(r"(\w+Probe):\n +httpGet:\n +path: (\S+)\n +port: (\w+)", text)
        self.assertEqual(probed, [("livenessProbe", "/livez", "probes"), ("readinessProbe", "/readyz", "probes")])
        for part in ("networkpolicy", "service"):
            text = render("-s", f"templates/{part}.yaml", "--set", "networkPolicy.enabled=true")
            self.assertNotRegex(re.sub(r"#.*", "", text), "probes|8081")

    def test_the_operator_takes_every_value_that_the_schema_admits(self):
        for settings in (
            {"allowedDpsHosts": ["localhost", "a.b.:1", "10.0.0.1:65535", "*.X-1.example.net:8443"]},
            {"allowedHubSuffixes": [".Azure-Devices.net", ".x"]},
            {"secretMetadataAllowedPrefixes": ["example.com/", "-_.", "A"]},
            {"logLevel": "off"},
            {"logLevel": "info,a::b=off,trace"},
            {"dpsProxy": "http://[::1]:3128/"},
            {"httpAddr": "[2001:db8::ffff]:65535", "probePort": 1},
            {"httpAddr": "[::]:1"},
            {"httpAddr": "0.0.0.0:80"},
            {"leaderElection": {"leaseName": "a.b-c.0", "leaseNamespace": "0"}},
            {"watchNamespaces": ["0", "a-b"]},
            {"certManager": {"enabled": True}},
            {"events": "none", "logFormat": "text", "registrationsPerMinute": 4294967295, "maxInFlight": 1},
        ):
            with self.subTest(settings):
                given = [f"--set-json={name}={json.dumps(value)}" for name, value in settings.items()]
                text = render("-s", "templates/deployment.yaml", *given)
                listed = text.split("args:\n", 1)[1].split("ports:\n", 1)[0]
                arguments = [line.strip().removeprefix("- ").strip('"') for line in listed.splitlines()]
                # It reads all flags before it looks for a cluster, which is not there.
                nowhere = {**os.environ, "KUBECONFIG": "/nowhere"}
                with self.assertRaisesRegex(Failed, "(?s)no Kubernetes API server is configured"):
                    run(Path(os.environ["PROGRAMS"]) / "dps-operator", *filter(None, arguments), env=nowhere)

    def test_each_flag_of_the_operator_is_passed_once(self):
        text = render("--values", CHART / "ci" / "everything.yaml", "-s", "templates/deployment.yaml")
        flags = re.findall(r'^ +- "?(--[a-z-]+)', text, re.MULTILINE)
        self.assertEqual(
            sorted(flags),
            [
                "--allowed-dps-hosts",
                "--allowed-hub-suffixes",
                "--cert-manager",
                "--context",
                "--dps-proxy",
                "--events",
                "--http-addr",
                "--leader-elect",
                "--lease-name",
                "--lease-namespace",
                "--log-format",
                "--log-level",
                "--max-in-flight",
                "--probe-addr",
                "--registrations-per-minute",
                "--secret-metadata-allowed-prefixes",
            ],
        )
        confined = render("--values", CHART / "ci" / "namespaced.yaml", "-s", "templates/deployment.yaml")
        helped = run(Path(os.environ["PROGRAMS"]) / "dps-operator", "run", "--help")
        offered = set(re.findall(r"^ +(?:-., )?(--[a-z-]+)", helped, re.MULTILINE))
        self.assertEqual(offered - {"--help"}, {*flags, "--watch-namespaces"})
        self.assertIn('"--watch-namespaces=team-a,team-b"', confined)
        self.assertIn("--registrations-per-minute=1000000\n", text, "not as a float")

    def test_the_values_defaults_are_the_operators(self):
        helped = run(Path(os.environ["PROGRAMS"]) / "dps-operator", "run", "--help")
        text = render("-s", "templates/deployment.yaml")
        passed = dict(re.findall(r'^ +- "?--([a-z-]+)=(.*?)"?$', text, re.MULTILINE))
        compared = 0
        for part in re.split(r"\n +--", helped)[1:]:
            flag = re.match(r"[a-z-]+", part)[0]
            default = re.search(r"\[default: (.*)\]", part)
            # Logs are read by machines in a cluster; the Lease is named after the release.
            if default and flag in passed and flag not in ("log-format", "lease-name"):
                self.assertEqual(passed[flag], default[1], flag)
                compared += 1
        self.assertGreater(compared, 5)

    def test_the_crds_are_the_generated_ones(self):
        rendered = render("-s", "templates/crds.yaml")
        for file in sorted((HERE.parents[1] / "crds").glob("*.yaml")):
            with self.subTest(file.name):
                head, body = file.read_text().rstrip().split("\n  name: ", 1)
                self.assertIn("\n  name: " + body, rendered)
                self.assertIn(head.removesuffix("metadata:"), rendered)
        self.assertEqual(rendered.count("helm.sh/resource-policy: keep"), 2)
        self.assertNotIn("resource-policy", render("-s", "templates/crds.yaml", "--set", "crds.keep=false"))

    def test_confined_to_namespaces_it_has_no_rights_in_the_cluster(self):
        text = render("--values", CHART / "ci" / "namespaced.yaml", "--set", "rbac.userRoles=false")
        self.assertNotRegex(text, r"kind: ClusterRole")
        self.assertEqual(text.count("kind: RoleBinding"), 3)

    def test_no_rendering_has_wildcards_and_only_a_switch_gives_delete(self):
        for values in MATRIX:
            with self.subTest(values.name):
                text = render("--values", values, "-s", "templates/rbac.yaml")
                self.assertNotRegex(text, r"(apiGroups|resources|verbs|resourceNames):.*\*")
                self.assertEqual("delete" in re.sub(r"#.*", "", text), values.name == "everything.yaml")

    def test_the_dashboard_asks_for_metrics_of_the_operator_only(self):
        dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        self.assertGreater(len(asked), 15)
        known = set(lines("metrics.txt"))
        alerts = (CHART / "files" / "alerts.yaml").read_text()
        for text in [*asked, alerts]:
            for metric in re.findall(r"dps_operator_\w+", text):
                self.assertIn(re.sub(r"_bucket$", "", metric), known)

    def test_leaders_are_counted_for_each_release_by_itself(self):
        dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
        (leaders,) = [panel for panel in dashboard["panels"] if panel["title"] == "Leaders"]
        self.assertRegex(leaders["targets"][0]["expr"], r"^sum by \(namespace, job\) \(dps_operator_leader")

    def test_every_query_of_the_dashboard_can_be_read(self):
        dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        rules = [{"record": f"q{n}", "expr": q.replace("$__rate_interval", "5m")} for n, q in enumerate(asked)]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rules.yaml"
            file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
            run(os.environ["PROMTOOL"], "check", "rules", file)

    def test_the_alerts_fire_when_they_should(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "rules.yaml").write_text(rules())
            test = Path(folder) / "alerts.yaml"
            test.write_text((HERE / "alerts.yaml").read_text())
            run(os.environ["PROMTOOL"], "check", "rules", "--lint=all", "--lint-fatal", Path(folder) / "rules.yaml")
            run(os.environ["PROMTOOL"], "test", "rules", test)

    def test_each_alert_has_a_paragraph_in_the_docs(self):
        docs = (HERE.parents[1] / "docs" / "monitoring.md").read_text()
        for alert in re.findall(r"- alert: (\w+)", (CHART / "files" / "alerts.yaml").read_text()):
            self.assertIn(f"\n### {alert}\n", docs)

    def test_a_parent_chart_turns_it_on_and_off_and_gives_registry_and_pull_secrets(self):
        digest = f"sha256:{'0' * 64}"
        shared = {
            "imageRegistry": "mirror.example:5000/all/",
            "imagePullSecrets": ["one", {"name": "two"}],
            "storageClass": "x",
        }
        with tempfile.TemporaryDirectory() as folder:
            parent = Path(folder)
            (parent / "charts").mkdir()
            (parent / "charts" / "dps-operator").symlink_to(CHART)
            dependency = {"name": "dps-operator", "version": "0.1.0", "condition": "dps-operator.enabled"}
            about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
            (parent / "Chart.yaml").write_text(json.dumps(about))

            def rendered(values):
                (parent / "values.yaml").write_text(json.dumps(values))
                return helm("template", "x", parent, "--namespace", NAMESPACE)

            self.assertNotIn("kind: Deployment", rendered({"dps-operator": {"enabled": False}}))
            own = {"enabled": True, "simulator": {"enabled": True, "image": {"repository": "x/sim", "digest": digest}}}
            self.assertIn("ghcr.io/dps-operator/dps-operator:", rendered({"dps-operator": own}))
            for values in (
                {"global": {}},
                {"global": {"imageRegistry": None, "imagePullSecrets": None}},
                {"global": None},
            ):
                self.assertNotIn("imagePullSecrets", rendered(values))
            own["image"] = {"pullSecrets": [{"name": "one"}, {"name": "own"}]}
            text = rendered({"dps-operator": own, "global": shared})
        self.assertIn('image: "mirror.example:5000/all/dps-operator/dps-operator:', text)
        self.assertIn(f'image: "mirror.example:5000/all/x/sim@{digest}"', text)
        secrets = re.findall(r"imagePullSecrets:\n((?: +- name: \w+\n)+)", text)
        self.assertEqual([re.findall(r"name: (\w+)", found) for found in secrets], [["one", "own", "two"]] * 2)

    def test_a_rollout_can_go_on_where_no_two_pods_may_be_on_one_node(self):
        def surge(*arguments):
            text = render("-s", "templates/deployment.yaml", *arguments)
            return re.search(r"maxSurge: (\d)\n +maxUnavailable: (\d)", text).groups()

        required = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]
        own = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        self.assertEqual(surge(), ("1", "0"))
        self.assertEqual(surge("--set", "podAntiAffinity=hard"), ("0", "1"))
        self.assertEqual(surge("--set-json", f"affinity={json.dumps(own)}"), ("0", "1"))
        self.assertEqual(
            surge("--set", "podAntiAffinity=hard", "--set-json", 'affinity={"nodeAffinity":{"a":1}}'), ("1", "0")
        )

    def test_a_release_with_dots_in_its_name_has_names_that_services_may_have(self):
        text = helm("template", "iot.eu.prod", CHART, "--namespace", NAMESPACE, "--set", "simulator.enabled=true")
        names = re.findall(r"kind: (?:Service|Deployment)\nmetadata:\n  name: (\S+)", text)
        self.assertEqual(len(names), 4)
        for name in names:
            self.assertRegex(name, r"^iot-eu-prod-dps-operator(-[a-z]+)?$")
        self.assertIn("app.kubernetes.io/instance: iot.eu.prod", text)

    def test_with_the_simulator_azure_is_called_only_if_that_is_said(self):
        def hosts(*arguments):
            text = render("-s", "templates/deployment.yaml", "--set", ",".join(["simulator.enabled=true", *arguments]))
            return re.search(r'--allowed-dps-hosts=([^"]*)', text)[1].split(",")

        simulator = f"dps-operator-simulator.{NAMESPACE}.svc"
        self.assertEqual(hosts(), [simulator])
        self.assertEqual(hosts("allowedDpsHosts={localhost:8443}"), ["localhost:8443", simulator])
        self.assertEqual(len(hosts("simulator.besideAzure=true")), 4)
        mine = "mine.azure-devices-provisioning.net"
        self.assertEqual(hosts("simulator.besideAzure=true", f"allowedDpsHosts={{{mine}}}"), [mine, simulator])

    def test_dns_may_listen_elsewhere(self):
        text = render(
            "-s", "templates/networkpolicy.yaml", "--set", "networkPolicy.enabled=true,networkPolicy.dnsPorts={5353}"
        )
        self.assertEqual(text.count("port: 5353"), 2)
        self.assertNotIn("port: 53\n", text)

    def test_an_alert_can_be_turned_off_and_tuned(self):
        text = rules("--values", CHART / "ci" / "everything.yaml")
        self.assertNotIn("DpsThrottled", text)
        self.assertIn('state="failed"}) > 10', text)
        looked = rules("--set", "metrics.prometheusRule.alerts.DpsUnavailable.window=30m")
        self.assertEqual((looked.count("[30m]"), looked.count("in the last 30m")), (2, 1))
        self.assertEqual(looked.count("[3m]"), 1, "how lately calls have failed is no setting")
        self.assertIn('{cluster="a",state="failed"}', rules("--set", 'metrics.prometheusRule.matchers=cluster="a"'))

    def test_the_notes_warn_of_odd_settings_only(self):
        self.assertNotIn("Mind:", notes("--set", "simulator.enabled=false"))
        self.assertIn("Not for production", notes("--set", "simulator.enabled=true"))
        self.assertIn("for the namespaces team-a, team-b.", notes("--values", CHART / "ci" / "namespaced.yaml"))
        self.assertIn("crds.keep is false", notes("--set", "crds.keep=false"))
        self.assertIn("the CRDs are not there", notes("--set", "crds.enabled=false"))

    def test_the_notes_go_on_in_a_namespace_that_the_operator_watches(self):
        self.assertIn("kubectl create namespace fleet\n", notes())
        confined = notes("--values", CHART / "ci" / "namespaced.yaml")
        self.assertNotIn("kubectl create namespace", confined, "it has to be there already")
        self.assertIn("kubectl create secret generic factory-group-key -n team-a ", confined)
        self.assertIn("kubectl get dpsi,pdev -n team-a ", confined)


if __name__ == "__main__":
    unittest.main()
