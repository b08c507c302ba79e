"""Every link within the repository leads somewhere."""

import re
import unittest
from urllib.parse import unquote

from pages import ROOT, files, read, slug

# How files that are read elsewhere (notes of the chart, messages, metadata) name files of the repository.
ABSOLUTE = re.compile(r"https://github\.com/dps-operator/dps-operator/(?:blob|tree|raw)/[^/\s]+/([^\s)\"'`<>]*)")

# A line of tests/chart/rights.txt that grants the operator itself something.
GRANT = re.compile(r"(?:ClusterRole dps-operator|Role dps-operator-leader-election \S+ \S+): (\S+)[^:]*: (.*)")


def problem(target, anchor):
    """What is wrong with a link to a file and, if it is not empty, an anchor in it."""
    if not target.resolve().is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if anchor and target.suffix == ".md" and anchor not in read(target).anchors:
        return "there is no such heading"
    return None


class Links(unittest.TestCase):
    def test_every_relative_link_and_anchor_of_every_page_leads_somewhere(self):
        checked = 0
        for page in files("*.md"):
            for link in read(page).links:
                if re.match(r"[a-z][a-z0-9+.-]*:", link):
                    continue
                checked += 1
                path, _, anchor = unquote(link).partition("#")
                found = problem(page.parent / path if path else page, anchor)
                with self.subTest(f"{page.relative_to(ROOT)}: {link}"):
                    self.assertIsNone(found)
        self.assertGreater(checked, 100)

    def test_every_absolute_link_to_a_file_of_the_repository_leads_somewhere(self):
        checked = 0
        for file in files("*.md", "charts", "src", "api", "crds", "examples", "Dockerfile", "dev"):
            try:
                text = file.read_text()
            except UnicodeDecodeError:
                continue
            for link in ABSOLUTE.findall(text):
                checked += 1
                path, _, anchor = link.rstrip(".,;").partition("#")
                with self.subTest(f"{file.relative_to(ROOT)}: {link}"):
                    self.assertIsNone(problem(ROOT / path, anchor))
        self.assertGreater(checked, 1)

    def test_the_front_page_leads_to_every_page(self):
        linked = {link.partition("#")[0] for link in read(ROOT / "README.md").links}
        for page in files("docs/*.md"):
            self.assertIn(str(page.relative_to(ROOT)), linked)

    def test_anchors_are_made_as_github_makes_them(self):
        self.assertEqual(slug("Uninstall, and what stays"), "uninstall-and-what-stays")
        self.assertEqual(slug("A real node: `make e2e`"), "a-real-node-make-e2e")
        self.assertEqual(slug("1. An IoT hub and a [DPS](x.md) instance"), "1-an-iot-hub-and-a-dps-instance")

    def test_pages_that_are_generated_say_so(self):
        for name in ("docs/reference.md", "docs/flags.md"):
            self.assertIn("Generated from", (ROOT / name).read_text().splitlines()[0])


class Rights(unittest.TestCase):
    def test_the_page_on_security_lists_the_rights_that_the_chart_is_held_to(self):
        text = (ROOT / "docs" / "security.md").read_text()
        table = text.split("\n## The operator's rights\n")[1].split("\n## ")[0]
        rows = [re.split(r" *\| *", line)[1:3] for line in table.splitlines() if line.startswith("| `")]
        words = "get|list|watch|create|update|patch|delete|deletecollection"
        said = {name: set(re.findall(words, cell)) for names, cell in rows for name in re.findall(r"`([^`]+)`", names)}
        rights = {}
        for line in (ROOT / "tests" / "chart" / "rights.txt").read_text().splitlines():
            if rule := GRANT.match(line):
                name = rule[1].split("/", 1)[1]
                rights.setdefault(name, set()).update(rule[2].split())
        # Confined to namespaces, the operator reads each by its name.
        rights["namespaces"].add("get")
        said.pop("events.k8s.io")
        self.assertEqual(said, rights)


if __name__ == "__main__":
    unittest.main()
