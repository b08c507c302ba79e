"""The dashboard's JSON, as far as Grafana would stumble over it silently."""

import json
import unittest

from tools import CHART

# Of Grafana's units.
UNITS = {"short", "s", "percentunit"}


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
        cls.panels = [panel for panel in cls.dashboard["panels"] if panel["type"] != "row"]

    def test_it_is_of_a_version_that_grafana_10_reads_and_has_an_address_of_its_own(self):
        self.assertEqual(self.dashboard["schemaVersion"], 39)
        self.assertEqual(self.dashboard["uid"], "dps-operator")
        self.assertNotIn("id", self.dashboard, "Grafana gives it")

    def test_panels_have_ids_titles_and_places_of_their_own(self):
        every = self.dashboard["panels"]
        ids = [panel["id"] for panel in every]
        self.assertEqual(len(ids), len(set(ids)))
        titles = [panel["title"] for panel in every]
        self.assertEqual(len(titles), len(set(titles)))
        taken = {}
        for panel in every:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertIsNone(taken.get((x, y)), f"{panel['title']} and {taken.get((x, y))}")
                    taken[x, y] = panel["title"]

    def test_everything_asks_the_data_source_that_is_chosen(self):
        wanted = {"type": "prometheus", "uid": "${datasource}"}
        first, *others = self.dashboard["templating"]["list"]
        self.assertEqual((first["type"], first["name"], first["query"]), ("datasource", "datasource", "prometheus"))
        for item in [*self.panels, *others]:
            self.assertEqual(item["datasource"], wanted, item)
            for target in item.get("targets", []):
                self.assertNotIn("datasource", target)

    def test_each_panel_has_a_unit_and_its_queries_differ(self):
        for panel in self.panels:
            with self.subTest(panel["title"]):
                self.assertIn(panel["fieldConfig"]["defaults"]["unit"], UNITS)
                letters = [target["refId"] for target in panel["targets"]]
                self.assertEqual(letters, ["A", "B"][: len(letters)])

    def test_queries_use_the_variables_and_legends_the_labels_that_there_are(self):
        names = {variable["name"] for variable in self.dashboard["templating"]["list"]}
        for panel in self.panels:
            for target in panel["targets"]:
                with self.subTest(panel["title"] + target["refId"]):
                    used = {word.strip("{}$") for word in target["expr"].split('"') if word.startswith("$")}
                    self.assertLessEqual({"job"}, used)
                    self.assertLessEqual(used, names)
                    by = target["expr"].split("by (", 1)
                    labels = {label.strip() for label in by[1].split(")")[0].split(",")} if len(by) == 2 else set()
                    shown = {part.split("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
                    self.assertLessEqual(shown, labels)


if __name__ == "__main__":
    unittest.main()
