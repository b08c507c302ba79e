"""What the tests of the chart share: the programs, and a control plane with the chart's namespaces."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE.parents[1] / "charts" / "dps-operator"
NAMESPACE = "dps-system"
MATRIX = sorted((CHART / "ci").glob("*.yaml"))


class Failed(AssertionError):
    """A program that ended badly, with what it said."""


def run(*command, text=None, env=None):
    command = [str(part) for part in command]
    done = subprocess.run(command, check=False, input=text, env=env, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def helm(*arguments, env=None):
    return run(os.environ["HELM"], *arguments, env=env)


def render(*arguments):
    # Without a cluster helm takes its own library's version of Kubernetes for the cluster's.
    return helm("template", "dps-operator", CHART, "--namespace", NAMESPACE, *arguments)


def wait(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    return found


class Cluster:
    """An API server and a controller manager without the CRDs; nothing runs Pods."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="dps-chart-")
        self.log = (Path(self.folder.name) / "up.log").open("w+")
        self.process = subprocess.Popen(
            [Path(os.environ["PROGRAMS"]) / "dps-dev", "up", "--directory", Path(self.folder.name) / "cluster"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        kubeconfig = wait("the control plane is up", self.kubeconfig, 120)
        self.env = {**os.environ, "KUBECONFIG": kubeconfig}
        run(*self.kubectl_command, "apply", "-f", HERE / "cluster.yaml", env=self.env)
        for crd in ["servicemonitors", "podmonitors", "prometheusrules"]:
            self.kubectl("wait", "--for=condition=Established", f"crd/{crd}.monitoring.coreos.com")

    @property
    def kubectl_command(self):
        return (Path(os.environ["ASSETS"]) / "kubectl", "--warnings-as-errors")

    def kubeconfig(self):
        self.log.flush()
        text = Path(self.log.name).read_text()
        if self.process.poll() is not None:
            raise Failed(f"no control plane:\n{text}")
        for line in text.splitlines():
            if line.strip().startswith("export KUBECONFIG="):
                return line.split('"')[1]
        return None

    def kubectl(self, *arguments, text=None):
        return run(*self.kubectl_command, *arguments, text=text, env=self.env)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def helm(self, *arguments):
        return helm(*arguments, "--namespace", NAMESPACE, env=self.env)

    def accepts(self, manifest):
        """What the API server makes of it; it refuses what it would refuse for good. Warnings fail, too."""
        dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server")
        answer = self.kubectl(*dry, "-o", "json", "-f", "-", text=manifest)
        decoder, objects, at = json.JSONDecoder(), [], 0
        while at < len(answer):
            found, at = decoder.raw_decode(answer, at)
            objects += found["items"] if found["kind"] == "List" else [found]
            while at < len(answer) and answer[at].isspace():
                at += 1
        return objects

    def may(self, account, *question):
        who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
        command = [self.kubectl_command[0], "auth", "can-i", who, *question]
        done = subprocess.run(command, check=False, env=self.env, capture_output=True, text=True)
        answer = done.stdout.strip()
        if answer not in ("yes", "no"):
            raise Failed(f"can-i {question}: {answer}{done.stderr}")
        return answer == "yes"

    def refused(self, account):
        """What the API server has forbidden to a ServiceAccount so far."""
        user = f"system:serviceaccount:{NAMESPACE}:{account}"
        log = Path(self.folder.name) / "cluster" / "logs" / "audit.log"
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        mine = [entry for entry in entries if entry["user"].get("username") == user]
        if not mine:
            raise Failed(f"{user} has asked for nothing")
        return [f"{e['verb']} {e['requestURI']}" for e in mine if e.get("responseStatus", {}).get("code") == 403]

    def kubeconfig_of(self, account, folder):
        """A kubeconfig with the account's own rights."""
        (folder / "token").write_text(self.kubectl("create", "token", account, "-n", NAMESPACE))
        config = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        config["users"][0]["user"] = {"tokenFile": str(folder / "token")}
        (folder / "kubeconfig").write_text(json.dumps(config))
        return folder / "kubeconfig"

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()
        self.folder.cleanup()


@contextlib.contextmanager
def program(name, *arguments, env=None):
    """Runs one of our programs; its output is shown if something goes wrong meanwhile."""
    with tempfile.TemporaryFile("w+") as log:
        path = Path(os.environ["PROGRAMS"]) / name
        process = subprocess.Popen([path, *arguments], env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        except BaseException as problem:
            log.seek(0)
            problem.add_note(f"{name} said:\n{log.read()[-4000:]}")
            raise
        finally:
            process.terminate()
            process.wait(30)


def rights(objects):
    """A line for each rule of each role: who, what, and what may be done with it."""
    lines = []
    for role in objects:
        if role["kind"] not in ("Role", "ClusterRole"):
            continue
        metadata = role["metadata"]
        where = f" in {metadata['namespace']}" if role["kind"] == "Role" else ""
        for rule in role["rules"]:
            for group in rule.get("apiGroups", []):
                for resource in rule.get("resources", []):
                    names = "".join(f" {name}" for name in rule.get("resourceNames", []))
                    verbs = " ".join(rule["verbs"])
                    what = f"{group or 'core'}/{resource}{names}"
                    lines.append(f"{role['kind']} {metadata['name']}{where}: {what}: {verbs}")
            lines += [f"{metadata['name']}: {url}" for url in rule.get("nonResourceURLs", [])]
    return sorted(lines)
