"""Metrics, alerts and dashboard of a release in which things go wrong. The methods' names give the order."""

import json
import os
import re
import time
import unittest

from stage import GROUP, HERE, HUBS, KEY, NAME, OTHER_KEY, RELEASE, SCOPE, WRONG_KEY, Stage
from tools import CHART, NAMESPACE, Failed, run

POLICY = HERE / "refuses-secrets.yaml"
# Shown only while there is something to show.
TROUBLE = {
    "Certificates of devices by state",
    "Devices that fail, by reason",
    "Key rotation: devices still to move",
    "Time until a certificate expires",
    "Without success, a second",
}
ALERTS = set(re.findall(r"- alert: (\w+)", (CHART / "files" / "alerts.yaml").read_text()))


def setUpModule():
    global world  # noqa: PLW0603 (unittest makes here what a module's tests share)
    world = Stage()
    unittest.addModuleCleanup(world.close)


def substituted(text):
    """What Grafana asks for with everything chosen; it looks back at four scrapes at least."""
    for name, value in (("__rate_interval", "5s"), ("job", ".*"), ("namespace", ".*"), ("integration", ".*")):
        text = text.replace(f"${name}", value)
    return text


def dashboard():
    # As the release brought it to the cluster.
    data = world.cluster.get("configmap", f"{NAME}-dashboard", "-n", NAMESPACE)["data"]
    return json.loads(data["dps-operator.json"])


def panels():
    return {panel["title"]: panel["targets"] for panel in dashboard()["panels"] if "targets" in panel}


def shown(title):
    """What a panel's first query shows now: legends and numbers."""
    target = panels()[title][0]
    found = world.prometheus.query(substituted(target["expr"]))
    return {legend(target, labels): value for labels, value in found}


def legend(target, labels):
    return re.sub(r"{{(\w+)}}", lambda match: labels[match[1]], target["legendFormat"])


class Monitoring(unittest.TestCase):
    def test_01_the_charts_monitor_gives_the_labels_of_the_documented_configuration(self):
        monitor = world.cluster.get("servicemonitor", NAME, "-n", NAMESPACE)["spec"]
        service = world.cluster.get("service", f"{NAME}-metrics", "-n", NAMESPACE)
        (endpoint,) = monitor["endpoints"]
        self.assertEqual((endpoint["path"], endpoint["port"], endpoint["honorLabels"]), ("/metrics", "http", True))
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), service["metadata"]["labels"].items())
        job = service["metadata"]["labels"][monitor["jobLabel"]]
        up = world.wait("both are scraped", lambda: self.both(world.prometheus.query("up == 1")))
        self.assertEqual(job, RELEASE)
        self.assertEqual({labels["job"] for labels, _ in up}, {job})
        self.assertEqual({labels["pod"] for labels, _ in up}, {f"{NAME}-0", f"{NAME}-1"})
        targets = world.prometheus.get("targets")
        self.assertEqual((len(targets["activeTargets"]), len(targets["droppedTargets"])), (2, 1))

    @staticmethod
    def both(found):
        return found if len(found) == 2 else None

    def test_02_a_fleet_without_trouble_raises_nothing(self):
        world.integration("calm", world.steady)
        names = [f"calm-{number}" for number in range(6)]
        world.devices("calm", *names)
        world.ready("calm", *names)
        # They are spread over both hubs, and move to one of them when they register again.
        world.steady.set("PUT", f"scopes/{SCOPE}/groups/{GROUP}/hub", {"hub": HUBS[1]})
        request = f"dps-operator.io/reprovision-requested-at={time.time()}"
        world.cluster.kubectl("annotate", "-n", "calm", "pdev", "--all", request)
        moved = "sum by (hub) (dps_operator_hub_devices{namespace='calm'}) == 6"
        (found,) = world.wait("all are at one hub", lambda: world.prometheus.query(moved))
        self.assertEqual(found[0]["hub"], HUBS[1])
        self.assertEqual(world.prometheus.alerts(), [])
        self.assertEqual(sum(shown("Leaders").values()), 1)
        self.assertEqual(sum(shown("Replicas").values()), 2)

    def test_03_the_metrics_are_as_prometheus_wants_them_and_few(self):
        for operator in world.operators:
            text = operator.metrics()
            self.assertEqual(run(os.environ["PROMTOOL"], "check", "metrics", text=text), "")
            series = [line for line in text.splitlines() if not line.startswith("#")]
            self.assertLess(len(series), 250, operator.pod)
            self.assertNotIn("calm-", text, "no device is named")
        with self.assertRaisesRegex(Failed, "counter metrics should have"):
            run(os.environ["PROMTOOL"], "check", "metrics", text="# HELP a b\n# TYPE a counter\na 1\n")

    def test_04_what_is_counted_first_is_seen(self):
        """rate() misses the increase with which a series begins."""
        increased = "sum by (%s) (increase(dps_operator_%s[10m])) > 0"
        for labels, counter in (
            ("operation", "dps_requests_total{outcome='success'}"),
            ("resource", "api_requests_total{verb='create',outcome='success',resource='secrets'}"),
            ("lane", "queue_wait_seconds_count{lane='new'}"),
        ):
            self.assertTrue(world.prometheus.query(increased % (labels, counter)), counter)

    def test_05_every_panel_shows_something_and_each_line_has_a_name_of_its_own(self):
        for title, targets in panels().items():
            for target in targets:
                with self.subTest(title, query=target["refId"]):
                    found = world.prometheus.ever(substituted(target["expr"]))
                    if title not in TROUBLE:
                        self.assertTrue(found, "empty")
                    legends = [legend(target, labels) for labels in found]
                    self.assertEqual(len(legends), len(set(legends)), legends)

    def test_06_every_variable_has_values(self):
        for variable in dashboard()["templating"]["list"][1:]:
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
            values = world.prometheus.get(f"label/{label}/values", **{"match[]": substituted(selector)})
            wanted = {"job": RELEASE, "namespace": "calm", "integration": "factory"}[variable["name"]]
            self.assertEqual(values, [wanted])

    def test_11_trouble_begins_in_several_integrations_at_once(self):
        """A wrong key, an instance that throttles, one that is away, devices that cannot be served, Secrets
        that an admission policy refuses. The tests up to 16 see and mend one each."""
        for namespace, simulator in (
            ("rotation", world.steady),
            ("throttled", world.throttling),
            ("away", world.unreliable),
            ("failing", world.steady),
            ("policy", world.steady),
        ):
            world.integration(namespace, simulator)
        for namespace in ("rotation", "throttled", "away"):
            world.devices(namespace, *(f"{namespace}-{number}" for number in range(4)))
        world.steady.set("PUT", f"scopes/{SCOPE}/devices/failing-0/enabled", {"enabled": False})
        taken = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "failing-1-hub", "namespace": "failing"}}
        world.apply("failing", taken)
        world.cluster.kubectl("apply", "--server-side", "-f", POLICY)
        world.wait("the policy is in force", self.policy_refuses)
        for namespace in ("rotation", "throttled", "away"):
            world.ready(namespace)
        self.assertEqual(world.prometheus.alerts(), [])

        world.devices("failing", "failing-0", "failing-1")
        world.devices("policy", "policy-0")
        world.key("rotation", WRONG_KEY)
        world.throttling.set("PATCH", "settings", {"quotas": {"registrationsPerMinute": 1}})
        world.devices("throttled", "throttled-4", "throttled-5")
        world.unreliable.set("PUT", "outage", {"outage": "reset"})
        world.devices("away", "away-4")

    def test_12_an_instance_that_throttles(self):
        alert = world.fires("DpsThrottled")
        self.assertIn("uses 0% of the rate", alert["annotations"]["description"])
        self.assertEqual(shown("Rate in use"), {"of what is allowed": 0})
        self.assertEqual(world.prometheus.query("max(dps_operator_throttled_scopes)")[0][1], 1)
        world.throttling.set("PATCH", "settings", {"quotas": {"registrationsPerMinute": 1000}})

    def test_13_an_instance_that_does_not_answer(self):
        world.fires("DpsUnavailable")
        description = world.fires("DpsIntegrationNotReady", namespace="away")["annotations"]["description"]
        self.assertIn("is not Ready (EndpointUnreachable). ", description)
        world.unreliable.set("PUT", "outage", {"outage": "none"})
        # The panel shows the present minute, and an instance that is away is asked ever more rarely.
        failed = "sum(increase(dps_operator_dps_requests_total{outcome='unavailable'}[5m])) > 0"
        self.assertTrue(world.prometheus.query(failed))
        self.assertIn("unavailable", shown("Outcomes a minute"))

    def test_14_secrets_that_are_refused(self):
        description = world.fires("ApiServerWritesFailing", resource="secrets")["annotations"]["description"]
        self.assertIn("writes of secrets to the API server were refused", description)
        self.assertIn("in the last 15s.", description)

        def refused():
            return shown("Without success, a second").get("secrets: refused")

        self.assertGreater(world.wait("refusals are shown", refused), 0)
        world.cluster.kubectl("delete", "-f", POLICY)

    def test_15_a_wrong_key(self):
        world.fires("DpsKeyRotationBlocked", namespace="rotation", integration="factory")
        description = world.fires("DpsIntegrationNotReady", namespace="rotation")["annotations"]["description"]
        self.assertIn("is not Ready (Unauthorized). ", description)
        self.assertEqual(shown("Key rotation: devices still to move"), {"rotation/factory": 4})
        world.key("rotation", KEY)

    def test_16_devices_that_need_a_person(self):
        """One is shut out of DPS, the other's Secret is somebody else's."""
        world.fires("DpsDevicesFailing", namespace="failing")

        def both():
            return [a for a in world.active("DpsDevicesFailing") if a["value"] == "2e+00"]

        world.wait("both are counted", both)
        reasons = shown("Devices that fail, by reason")
        self.assertEqual((reasons["Disabled"], reasons["SecretConflict"]), (1, 1))
        conflicts = "increase(dps_operator_write_conflicts_total{resource='secrets'}[5m]) > 0"
        self.assertTrue(world.prometheus.query(conflicts))
        world.cluster.kubectl("delete", "secret", "failing-1-hub", "-n", "failing")
        world.steady.set("PUT", f"scopes/{SCOPE}/devices/failing-0/enabled", {"enabled": True})
        world.devices("failing", "failing-0", "failing-1", payload={"again": "please"})

    def test_17_what_is_mended_is_over(self):
        world.clears("DpsKeyRotationBlocked")
        world.clears("DpsIntegrationNotReady")
        world.clears("DpsDevicesFailing")
        world.clears("DpsThrottled")
        world.clears("DpsUnavailable")
        world.clears("ApiServerWritesFailing")
        for namespace in ("rotation", "throttled", "away", "failing", "policy"):
            world.ready(namespace)
        # Whoever waited for DPS waited for long, too.
        world.clears("DpsQueueGrowing")
        self.assertEqual(world.prometheus.alerts(), [])

    @staticmethod
    def policy_refuses():
        secret = ("create", "secret", "generic", "x", "--dry-run=server", "-n", "policy")
        try:
            world.cluster.kubectl(*secret)
        except Failed as refusal:
            if "no Secrets here" in str(refusal):
                return True
            raise
        return False

    def test_18_more_devices_than_the_rate_admits(self):
        # Nine a minute, and one at once.
        world.integration("many", world.steady, rateLimit={"registrationsPerMinute": 10})
        world.devices("many", *(f"many-{number}" for number in range(8)))
        alert = world.fires("DpsQueueGrowing", lane="new")
        self.assertGreater(shown("Devices that wait")["new"], 0)
        # Seconds, not the number of devices that wait.
        self.assertGreater(float(alert["value"]), 8)
        self.assertEqual([a["labels"]["alertname"] for a in world.prometheus.alerts()], ["DpsQueueGrowing"])
        limit = ("dpsi", "factory", "-n", "many", "--type=json", "-p", '[{"op": "remove", "path": "/spec/rateLimit"}]')
        world.cluster.kubectl("patch", *limit)
        world.ready("many")
        world.clears("DpsQueueGrowing")

    def test_18b_a_wrong_key_beside_one_that_works(self):
        reference = {"name": "group-key"}
        keys = {"symmetricKey": {"primaryKeyRef": reference, "secondaryKeyRef": reference}}
        world.integration("spare", world.steady, attestation=keys)
        world.key("spare", KEY, secondaryKey=OTHER_KEY)
        world.devices("spare", *(f"spare-{number}" for number in range(4)))
        world.ready("spare")
        world.wait("it is shown", lambda: world.prometheus.query("dps_operator_key_fallback{namespace='spare'} == 0"))
        self.assertEqual(shown("Keys in fallback"), {"": 0})
        world.key("spare", WRONG_KEY, secondaryKey=OTHER_KEY)
        alert = world.fires("DpsKeyFallback", namespace="spare", integration="factory")
        self.assertIn("served with the other slot's key", alert["annotations"]["description"])
        # Nothing else is left to tell of it.
        world.wait("all others are over", lambda: self.names() == {"DpsKeyFallback"})
        self.assertEqual(shown("Keys in fallback"), {"": 1})
        (ready,) = world.prometheus.query("dps_operator_integration_ready{namespace='spare'}")
        self.assertEqual((ready[0]["reason"], ready[1]), ("Available", 1))
        world.key("spare", KEY, secondaryKey=OTHER_KEY)
        world.clears("DpsKeyFallback")
        world.ready("spare")

    @staticmethod
    def names():
        return {alert["labels"]["alertname"] for alert in world.prometheus.alerts()}

    def test_18c_devices_whose_integration_is_gone_or_not_for_them(self):
        world.integration("orphans", world.steady)
        world.devices("orphans", "orphan-0", "orphan-1")
        world.ready("orphans")
        world.cluster.kubectl("delete", "dpsi", "factory", "-n", "orphans")
        world.apply("strangers", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strangers"}})
        world.devices("strangers", "stranger-0", integrationRef={"name": "factory", "namespace": "calm"})
        alert = world.fires("DpsDevicesWithoutIntegration", namespace="orphans")
        self.assertTrue(alert["annotations"]["description"].startswith("2 devices in namespace orphans refer"))
        world.fires("DpsDevicesWithoutIntegration", namespace="strangers")
        self.assertEqual(shown("Without integration"), {"": 3})
        world.integration("orphans", world.steady)
        world.clears("DpsDevicesWithoutIntegration", namespace="orphans")
        admits = {"from": "All", "registrationIdPrefixes": [""]}
        patch = json.dumps({"spec": {"allowedNamespaces": admits}})
        world.cluster.kubectl("patch", "dpsi", "factory", "-n", "calm", "--type=merge", "-p", patch)
        world.clears("DpsDevicesWithoutIntegration")
        self.assertEqual(shown("Without integration"), {"": 0})
        for namespace in ("orphans", "strangers"):
            world.ready(namespace)

    def test_18d_somebody_else_writes_a_status(self):
        # Until a minute before the end it is written within a second or two, and then changed again.
        def contested():
            patch = json.dumps({"status": {"observedGeneration": 1000}})
            world.cluster.kubectl(
                "patch", "dpsi", "factory", "-n", "calm", "--subresource=status", "--type=merge", "-p", patch
            )
            return world.active("DpsWritesContested", resource="dpsintegrations")

        world.wait("another writer is noticed", contested)
        alert = world.fires("DpsWritesContested", resource="dpsintegrations")
        self.assertTrue(alert["annotations"]["description"].startswith("1 dpsintegrations are changed"))
        (said,) = json.loads(
            world.cluster.kubectl(
                "get", "events", "-n", "calm", "-o", "json", "--field-selector=reason=StatusContested"
            )
        )["items"]
        self.assertIn("is a second dps-operator running?", said["message"])
        # It is remembered for 20 minutes; the operators end before.

    def test_18e_a_certificate_that_is_not_renewed(self):
        world.integration("edge", world.steady, attestation={"x509": {}})
        # Nine hundred of a thousand seconds are over.
        world.certificate("edge", "edge-0", begun=900, ends=100_000)
        world.certificate("edge", "edge-1", begun=900_000, ends=100_000)
        world.devices("edge", "edge-0", "edge-1")
        world.ready("edge")
        alert = world.fires("DpsCertificatesOverdue", namespace="edge", integration="factory")
        self.assertTrue(alert["annotations"]["description"].startswith("1 devices of DpsIntegration factory"))
        states = shown("Certificates of devices by state")
        self.assertEqual({state for state, count in states.items() if count}, {"current", "overdue"})
        (left,) = shown("Time until a certificate expires").values()
        self.assertTrue(99_000 < left < 100_000, left)
        world.certificate("edge", "edge-1", begun=900, ends=200_000)
        world.clears("DpsCertificatesOverdue")

    def test_19_an_operator_that_may_not_watch(self):
        leader = world.leader()
        (standby,) = [operator for operator in world.operators if operator is not leader]
        binding = world.cluster.get("clusterrolebinding", NAME)
        # Watches that run are not ended by it, so it shows when a replica starts.
        standby.stop()
        world.cluster.kubectl("delete", "clusterrolebinding", NAME)
        standby.start()
        alert = world.fires("DpsOperatorWatchNotSynced", pod=standby.pod)
        self.assertIn(f"(Pod {standby.pod})", alert["annotations"]["description"])
        self.assertFalse(world.active("DpsOperatorWatchNotSynced", pod=leader.pod))
        # What is known is confirmed every minute; here it was never shown.
        world.wait("it is older", lambda: world.active("DpsOperatorWatchStale", pod=standby.pod), 150)
        world.fires("DpsOperatorWatchStale", pod=standby.pod)
        for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            binding["metadata"].pop(field, None)
        world.cluster.kubectl("create", "-f", "-", text=json.dumps(binding))
        world.clears("DpsOperatorWatchNotSynced")
        world.clears("DpsOperatorWatchStale")

    def test_20_nobody_leads(self):
        leader = world.leader()
        lease = ("lease", NAME, "-n", NAMESPACE)
        spec = {"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 3600}}
        world.cluster.kubectl("patch", *lease, "--type=merge", "-p", json.dumps(spec))
        # It ends by itself, and Kubernetes starts it again.
        world.wait("the leader ends", lambda: leader.process.poll() is not None)
        self.assertNotEqual(leader.process.returncode, 0)
        leader.start()
        world.fires("DpsOperatorNoLeader")
        # Shown as zero, and not merely absent.
        self.assertEqual(shown("Leaders"), {f"{NAMESPACE}/{RELEASE}": 0})
        self.assertFalse(world.active("DpsOperatorDown"))
        world.cluster.kubectl("delete", *lease)
        world.clears("DpsOperatorNoLeader")
        world.leader()

    def test_21_the_operators_are_gone(self):
        for operator in world.operators:
            operator.stop()
        alert = world.fires("DpsOperatorDown")
        self.assertEqual(alert["labels"], {"alertname": "DpsOperatorDown", "job": RELEASE, "severity": "critical"})
        for operator in world.operators:
            operator.start()
        world.clears("DpsOperatorDown")
        world.leader()

    def test_22_every_alert_has_fired_and_none_is_left(self):
        fired = {labels["alertname"] for labels in world.prometheus.ever('ALERTS{alertstate="firing"}')}
        self.assertEqual(fired, ALERTS)
        world.wait("all is well", lambda: not world.prometheus.alerts())


if __name__ == "__main__":
    unittest.main()
