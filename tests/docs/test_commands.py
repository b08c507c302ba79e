"""The commands of the first pages do what the pages say.

Blocks in bash and console are run as they are, with real kubectl and helm, on a real API server. What
cannot exist on a local control plane has a stand-in: node.py for a node that runs Pods, the file `az`
for Azure's command line, the file `docker` for building and pushing images. What a console block shows
is compared without ages, keys and the choice of hub.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from node import Azure, Node, Proxy, until
from pages import ROOT, files, read
from tools import Cluster

FIRST = ("README.md", "docs/quickstart.md", "docs/azure.md", "docs/cert-manager.md")
# Pages of which some sections are run.
PARTLY = {
    "docs/install.md": {"before-there-is-a-release", "install", "first-devices", "uninstall-and-what-stays"},
    "docs/rotation.md": {"step-by-step"},
}
# Blocks that are not run, and why.
NOT_RUN = {
    "README.md#try-it/1": "the demo has a section of its own in .ci/run",
    "docs/quickstart.md#1-build-the-images/1": "needs GitHub",
    "docs/azure.md#3-install-the-operator/1": "needs GitHub",
    "docs/cert-manager.md#1-cert-manager/1": "needs the internet; its controllers run beside the page",
    "docs/install.md#before-there-is-a-release/1": "needs GitHub",
    "docs/install.md#install/2": "no release is published",
    "docs/quickstart.md#5-see-what-it-does/5": "needs a node: a port is forwarded to a Pod",
}
# What a page tells the reader to type into a command that waits for it: the group's primary key.
GROUP_KEY = "cmVwbGFjZS1tZS10aGlzLXByaW1hcnkta2V5LWlzLWZha2U=\n"
TYPED = {"README.md#first-devices/1": GROUP_KEY, "docs/install.md#first-devices/1": GROUP_KEY}
PROMPT = "$ "


def runnable(page):
    return [block for block in read(ROOT / page).blocks if block.language in ("bash", "console", "sh", "shell")]


def section_of(block):
    return re.search("#(.*)/", block.name)[1]


def commands(block):
    """Each command of a console block with the lines that it is shown to print."""
    found = []
    for line in block.text.splitlines():
        if line.startswith(PROMPT):
            found.append((line.removeprefix(PROMPT), []))
        elif found and not found[-1][1] and found[-1][0].endswith(("\\", "|")):
            found[-1] = (found[-1][0] + "\n" + line, [])
        elif not found:
            raise AssertionError(f"{block.name} begins with no command")
        elif line.strip():
            found[-1][1].append(line)
    return found


def loosely(line):
    """A line without what differs from run to run."""
    line = re.sub(r"[A-Za-z0-9+/]{40,}=*", "KEY", line)
    line = re.sub(r"factory-(warsaw|gdansk)\.", "factory-HUB.", line)
    line = re.sub(r"\b(\d+[smh])+(?= |$)", "AGE", line)
    return " ".join(line.split())


def shows(said, expected):
    """Whether these lines come in this order; ... stands for any."""
    rest = iter([loosely(line) for line in said.splitlines()])
    return all(line.strip() == "..." or loosely(line) in rest for line in expected)


class Stage(unittest.TestCase):
    """A control plane with the stand-ins; programs are called as the page's reader would, in one terminal."""

    def setUp(self):
        self.cluster = Cluster()
        self.addCleanup(self.cluster.close)
        self.proxy = Proxy()
        self.addCleanup(self.proxy.close)
        self.azure = Azure(self.proxy)
        self.addCleanup(self.azure.close)
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        images = self.folder / "images"
        self.node = Node(self.cluster, self.proxy, self.azure.ca, images)
        self.addCleanup(self.node.close)
        for name in ("charts", "crds", "examples", "dev"):
            (self.folder / name).symlink_to(ROOT / name)
        tools = self.folder / "bin"
        tools.mkdir()
        for name, program in {
            "helm": os.environ["HELM"],
            "kubectl": Path(os.environ["ASSETS"]) / "kubectl",
            "az": ROOT / "tests" / "docs" / "az",
            "docker": ROOT / "tests" / "docs" / "docker",
            "kind": ROOT / "tests" / "docs" / "docker",
        }.items():
            (tools / name).symlink_to(program)
        path = f"{tools}:{os.environ['PATH']}"
        self.env = {**self.cluster.env, "PATH": path, "AZ_REGISTRATIONS": str(self.folder / "registrations.tsv")}
        self.env["IMAGES"] = str(images)
        self.env |= {"AZ_CERTIFICATES": str(self.folder), "AZ_SIMULATOR": f"http://{self.azure.admin}"}

    def call(self, script, typed=""):
        kept = self.folder / "variables"
        text = f"set -aeuo pipefail\n{script}\nenv -0 >{kept}\n"
        done = subprocess.run(
            ["bash", "-c", text], check=False, cwd=self.folder, env=self.env, input=typed,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip
        if done.returncode == 0:
            # A terminal keeps its variables for the next block.
            self.env = dict(line.split("=", 1) for line in kept.read_text().split("\0") if line)
        return done.returncode, done.stdout

    def succeeds(self, script, typed=""):
        code, said = self.call(script, typed)
        self.assertEqual(code, 0, f"{script}\n{said}")
        return said

    def run_block(self, block):
        """Runs it and returns what it says."""
        if block.language != "console":
            return self.succeeds(block.text, TYPED.get(block.name, ""))
        for command, expected in commands(block):
            last = []

            def as_shown(command=command, expected=expected, last=last):
                last[:] = self.call(command)
                return last[0] == 0 and shows(last[1], expected)

            if not until(as_shown):
                self.fail(f"{block.name}\n{command}\nshould print\n" + "\n".join(expected) + f"\nand prints\n{last[1]}")
        return None

    def play(self, page, sections=None):
        """Runs the page's blocks in order, or those of some sections; what each has said."""
        said = {}
        for block in runnable(page):
            if block.name not in NOT_RUN and (sections is None or section_of(block) in sections):
                if self.node.failure:
                    raise self.node.failure
                said[block] = self.run_block(block)
        self.assertGreater(len(said), 0)
        return said


class Readme(Stage):
    def test_what_it_promises_comes_about_with_the_examples(self):
        self.play("README.md", {"install-it", "first-devices"})
        (example,) = [block.text for block in read(ROOT / "README.md").blocks if block.language == "yaml"]
        (self.folder / "readme.yaml").write_text(example)
        apply = "kubectl apply --server-side -n fleet"
        self.assertEqual(
            self.succeeds("kubectl diff --server-side -f readme.yaml"), "", "the first example is what was applied"
        )
        self.succeeds(
            f"{apply} -f examples/group-key.yaml -f examples/integration.yaml -f examples/devices.yaml\n"
            "kubectl wait -n fleet --for=condition=Ready pdev --all --timeout=2m"
        )
        self.play("README.md", {"what-you-get"})


class QuickStart(Stage):
    def test_from_the_chart_to_a_connection_string_and_back(self):
        self.play("docs/quickstart.md")
        self.assertNotIn("dps-operator.io", self.cluster.kubectl("get", "crd"))


class Install(Stage):
    def test_from_a_clone_to_a_device_and_back(self):
        self.play("docs/install.md", PARTLY["docs/install.md"])
        self.assertNotIn("dps-operator.io", self.cluster.kubectl("get", "crd"))


class WithAzure(Stage):
    def test_from_nothing_to_a_device_and_back(self):
        self.play("docs/azure.md")


class WithCertificates(Stage):
    def test_from_a_ca_to_a_device_and_through_a_renewal(self):
        self.play("README.md", {"install-it"})
        crds = Path(os.environ["CERT_MANAGER"]).with_name("crds.yaml")
        self.cluster.kubectl("apply", "--server-side", "-f", crds)
        command = [os.environ["CERT_MANAGER"], "--kubeconfig", self.cluster.env["KUBECONFIG"]]
        with (self.folder / "cert-manager.log").open("w") as log:
            cert_manager = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(cert_manager.wait)
        self.addCleanup(cert_manager.terminate)

        said = self.play("docs/cert-manager.md")

        self.assertTrue(any(";DeviceId=truck-000001;x509=true" in (text or "") for text in said.values()), said)
        self.assertEqual(self.azure.registered(), 2, "once, and once more when it was renewed")


class Migration(Stage):
    def test_a_fleet_that_dps_knows_is_taken_over_and_nothing_moves(self):
        self.play("README.md", {"install-it"})
        self.succeeds("kubectl create namespace fleet\nkubectl create namespace former")
        self.a_former_life()
        before = self.azure.registered()

        page = "docs/migration.md"
        (integration, *_) = [block.text for block in read(ROOT / page).blocks if block.language == "yaml"]
        (self.folder / "integration.yaml").write_text(integration)
        apply = "kubectl apply --server-side -n fleet"
        self.succeeds(f"{apply} -f examples/group-key.yaml -f integration.yaml")
        first, *others, check = [b for b in runnable(page) if "#a-fleet-that-dps-knows/" in b.name]
        for block in (first, *others):
            self.run_block(block)
        self.succeeds("kubectl wait -n fleet --for=condition=Ready pdev --all --timeout=2m")
        said = self.succeeds(check.text)
        self.assertEqual(said.splitlines(), ["nothing moved"], "and no name behind it")

        free = [{"op": "remove", "path": path} for path in ("/spec/deviceDefaults/reprovision", "/spec/rateLimit")]
        self.succeeds(f"kubectl patch dpsi factory -n fleet --type=json -p '{json.dumps(free)}'")
        self.succeeds("kubectl wait -n fleet --for=jsonpath='{.status.observedGeneration}'=2 dpsi/factory")
        # Served after whatever the change has brought about for devices.
        self.succeeds(
            "kubectl annotate pdev press-01 -n fleet reconcile.fluxcd.io/requestedAt=now\n"
            "kubectl wait -n fleet --for=jsonpath='{.status.lastHandledReconcileAt}'=now pdev/press-01 --timeout=1m"
        )
        self.assertEqual(self.azure.registered(), before)

    def a_former_life(self):
        """Three devices that somebody has registered; a new registration would move one of them."""
        device = {"apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice"}
        spec = {"integrationRef": {"name": "factory"}}
        items = [
            {**device, "metadata": {"name": "press-01"}, "spec": {**spec, "payload": {"site": "gdansk"}}},
            {**device, "metadata": {"name": "press-02"}, "spec": spec},
            {**device, "metadata": {"name": "press-03"}, "spec": spec},
        ]
        (self.folder / "former.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        columns = '{range .items[*]}{.status.registrationId}{"\\t"}{.status.assignedHub}{"\\n"}{end}'
        self.succeeds(
            "kubectl apply --server-side -n former \\\n"
            "  -f examples/group-key.yaml -f examples/integration.yaml -f former.json\n"
            "kubectl wait -n former --for=condition=Ready pdev --all --timeout=2m\n"
            f"kubectl get pdev -n former -o jsonpath='{columns}' > \"$AZ_REGISTRATIONS\"\n"
            "kubectl delete namespace former"
        )


class Rotation(Stage):
    def test_the_steps_move_every_device_to_the_other_key_and_end_by_themselves(self):
        self.play("README.md", {"install-it"})
        self.succeeds(
            "kubectl create namespace fleet\nkubectl apply --server-side -n fleet \\\n"
            "  -f examples/group-key.yaml -f examples/integration.yaml -f examples/devices.yaml\n"
            "kubectl wait -n fleet --for=condition=Ready pdev --all --timeout=2m"
        )
        before = self.azure.registered()

        said = self.play("docs/rotation.md", {"step-by-step"})

        self.assertEqual(self.azure.registered(), before + 10, "each moves once, and is registered once more")
        (check,) = [block for block in said if '=="Primary"' in block.text]
        self.assertEqual(said[check], "", "no device is left")


class Blocks(unittest.TestCase):
    def test_every_block_is_run_or_listed_with_a_reason(self):
        names = [block.name for page in FIRST for block in runnable(page)]
        for page, sections in PARTLY.items():
            names += [block.name for block in runnable(page) if section_of(block) in sections]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(NOT_RUN) - set(names), set(), "the list names blocks that do not exist")
        self.assertEqual(set(TYPED) - set(names), set(), "the list names blocks that do not exist")
        played = {"install-it", "first-devices", "what-you-get"}
        for block in runnable("README.md"):
            if block.name not in NOT_RUN:
                self.assertIn(section_of(block), played, block.name)

    def test_every_block_of_every_page_is_a_script_that_bash_can_read(self):
        checked = 0
        for page in files("*.md"):
            for block in read(page).blocks:
                if block.language == "bash":
                    checked += 1
                    done = subprocess.run(["bash", "-n"], check=False, input=block.text, capture_output=True, text=True)
                    self.assertEqual((done.returncode, done.stderr), (0, ""), block.name)
        self.assertGreater(checked, 50)

    def test_the_quick_start_has_the_commands_that_the_chart_prints(self):
        notes = (ROOT / "charts" / "dps-operator" / "templates" / "NOTES.txt").read_text()
        page = (ROOT / "docs" / "quickstart.md").read_text()
        for part in ('index .data "example.yaml"', "--for=condition=Ready pdev --all --timeout=2m", "v1/ledger/totals"):
            self.assertIn(part, notes)
            self.assertIn(part, page)

    def test_output_that_differs_is_noticed(self):
        said = "NAME  READY  AGE\npress-01   True   12s\n"
        self.assertTrue(shows(said, ["NAME READY AGE", "press-01 True 2m3s"]))
        self.assertFalse(shows(said, ["NAME READY AGE", "press-01 False 12s"]))
        self.assertFalse(shows(said, ["press-01 True 12s", "NAME READY AGE"]))


if __name__ == "__main__":
    unittest.main()
