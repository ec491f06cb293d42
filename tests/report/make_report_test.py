#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests scripts/make_report.py: the page is self-contained, holds the data, and hostile text stays text.

usage: make_report_test.py [--browser CHROMIUM]

Uses the installed Chart.js; where there is none, a stub, and says so. With --browser the page's own
script is run too, which needs the real Chart.js.
"""
import argparse
import copy
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "make_report.py"
sys.path.insert(0, str(SCRIPT.parent))
import make_report  # noqa: E402

HOSTILE = "</script><b id=injected>bold</b><!--<script>@@CHART_JS@@ \u2028\u0000\u001b\u202e\ufffd é & \"'"
browser = None


def small_report():
    def model(name, routed):
        depths = [1, 3, 2, 3, 1, 2] if routed else [0] * 6
        pieces = [{"text": t, "depth": d} for t, d in zip("ab\n 1.", depths)]
        return {
            "name": name, "description": "two layers", "unique_parameters": 1000,
            "effective_layers": 6, "training_flops": 2e9, "training_tokens": 5000,
            "training_seconds": 2.5, "held_out_bits_per_byte": 2.5 - 0.25 * routed,
            "held_out_bits_per_byte_look_ahead": 2.125 if routed else None,
            "training_tokens_per_second": 2000.0, "generation_tokens_per_second": 100.5,
            "kv_bytes_per_token": 512.0, "kv_share_measured": 0.75 if routed else 1.0,
            "kv_share_formula": 2 / 3 if routed else None,
            "curve": [{"flops": 1e9 * i, "seconds": 0.5 * i, "bits_per_byte": 8 / i} for i in (1, 2)],
            "held_out_curve": [{"flops": 2e9, "bits_per_byte": 2.5}],
            "active_share": [{"flops": 1e9 * i, "shares": [1.0, 0.5, 0.25]} for i in (1, 2)] if routed else [],
            "generation": [{**p, "from_prompt": i < 2} for i, p in enumerate(pieces)],
            "passage": pieces,
            "router_scores": [{"step": 1, "edges": [-1, 0, 1], "selected": [1, 9], "unselected": [8, 0]}]
                             if routed else None,
        }
    return {
        "title": "Small report",
        "corpus": {"name": "corpus", "training_bytes": 10000, "held_out_bytes": 100},
        "machine": {"processor": "p", "threads": 2, "compiler": "c", "flags": "-O3", "command": "run",
                    "seed": 1, "date": "2025-01-01"},
        "minutes": 1, "num_recursions": 3,
        "baselines": [{"name": "gzip -9", "bits_per_byte": 2.75}],
        "models": [model("vanilla", False), model("MoR", True)],
    }


def hostile_report():
    """Every text of the report is hostile."""
    def poison(value):
        if isinstance(value, dict):
            return {key: poison(child) for key, child in value.items()}
        if isinstance(value, list):
            return [poison(child) for child in value]
        return value + HOSTILE if isinstance(value, str) else value
    return poison(small_report())


class Page(html.parser.HTMLParser):
    """What a browser would see: the elements, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.bodies = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.bodies.append("")

    def handle_data(self, data):
        if self.bodies:
            self.bodies[-1] += data

    def all(self, tag):
        return [(a, body) for (t, a), body in zip(self.elements, self.bodies) if t == tag]


class MakeReport(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.chart_js = make_report.CHART_JS
        if not self.chart_js.is_file():
            self.chart_js = self.folder / "stub.js"
            self.chart_js.write_text("class Chart { destroy() {} }; Chart.defaults = {font: {}};\n")

    def run_script(self, report, *arguments):
        source = self.folder / "report.json"
        source.write_bytes(report if isinstance(report, bytes) else json.dumps(report).encode())
        target = self.folder / "report.html"
        done = subprocess.run([sys.executable, SCRIPT, source, target, *arguments],
                              capture_output=True, text=True, timeout=60)
        return done, target

    def make(self, report):
        done, target = self.run_script(report, "--chart-js", str(self.chart_js))
        self.assertEqual(done.returncode, 0, done.stderr)
        return target.read_text(encoding="utf-8")

    def embedded(self, text):
        bodies = [body for attributes, body in Page(text).all("script")
                  if attributes.get("type") == "application/json"]
        self.assertEqual(len(bodies), 1)
        report = json.loads(bodies[0])
        measured = report.pop("causality")  # the one part that does not come from the report
        self.assertGreaterEqual(len(measured["models"]), 2)
        self.assertTrue(all(len(model["ways"]) == 3 for model in measured["models"]))
        return report

    def refused(self, report, message):
        done, target = self.run_script(report, "--chart-js", str(self.chart_js))
        self.assertEqual(done.returncode, 1)
        self.assertIn(message, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertFalse(target.exists())

    def test_page_refers_to_nothing_outside_itself(self):
        page = Page(self.make(small_report()))
        for tag, attributes in page.elements:
            self.assertNotIn(tag, {"link", "iframe", "object", "embed", "img", "base", "a"})
            for name in ("src", "href", "action", "srcset", "data", "poster"):
                self.assertNotIn(name, attributes, tag)
        for _, style in page.all("style"):
            self.assertNotRegex(style, r"@import|url\(")
        policies = [a["content"] for a, _ in page.all("meta")
                    if a.get("http-equiv") == "Content-Security-Policy"]
        self.assertEqual(len(policies), 1)
        self.assertIn("default-src 'none'", policies[0])
        self.assertNotRegex(policies[0], r"https?:|\*")
        template = make_report.TEMPLATE.read_text(encoding="utf-8")
        self.assertNotRegex(template, r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\bfetch\(")

    def test_data_comes_back_unchanged(self):
        report = small_report()
        self.assertEqual(self.embedded(self.make(report)), report)

    def test_hostile_text_stays_data(self):
        plain = Page(self.make(small_report()))
        report = hostile_report()
        text = self.make(report)
        self.assertEqual(self.embedded(text), report)
        self.assertEqual([tag for tag, _ in Page(text).elements], [tag for tag, _ in plain.elements])
        self.assertNotIn("<b id=injected>", text)

    def test_script_sources_cannot_end_their_element(self):
        chart_js = self.folder / "hostile.js"
        chart_js.write_text('const a = "</script><!--<SCRIPT>";\n')
        done, target = self.run_script(small_report(), "--chart-js", str(chart_js))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(Page(target.read_text()).all("script")), 3)
        self.assertIn(r'"\x3c/script>\x3c!--\x3cSCRIPT>"', target.read_text())

    def test_bytes_that_are_not_utf_8_are_replaced(self):
        source = json.dumps(small_report()).replace("two layers", "caf\\u00e9 XX").encode()
        text = self.make(source.replace(b"XX", b"\xff\xfe"))
        self.assertEqual(self.embedded(text)["models"][0]["description"], "café \ufffd\ufffd")

    def test_a_lone_surrogate_survives(self):
        report = small_report()
        report["models"][1]["passage"][0]["text"] = "\ud83d"
        self.assertEqual(self.embedded(self.make(report)), report)

    def test_numbers_that_are_not_finite_become_null(self):
        source = json.dumps(small_report()).replace('"held_out_bits_per_byte": 2.5', '"held_out_bits_per_byte": NaN')
        source = source.replace('"kv_bytes_per_token": 512.0', '"kv_bytes_per_token": 1e999')
        model = self.embedded(self.make(source.encode()))["models"][0]
        self.assertIsNone(model["held_out_bits_per_byte"])
        self.assertIsNone(model["kv_bytes_per_token"])

    def test_what_is_wrong_with_a_report_is_said(self):
        self.refused(b"{", "is no JSON")
        for path, value, message in [
            (["num_recursions"], "three", 'num_recursions is "three", expected an integer'),
            (["models"], [], "models is empty"),
            (["models", 1, "curve", 0, "flops"], None, "models[1].curve[0].flops is null, expected a number"),
            (["models", 1, "router_scores", 0, "edges"], [0, 1],
             "models[1].router_scores[0].selected has 2 counts, expected 1"),
        ]:
            report = copy.deepcopy(small_report())
            place = report
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            with self.subTest(message=message):
                self.refused(report, message)
        report = small_report()
        del report["models"][0]["passage"]
        self.refused(report, "models[0].passage is missing, expected a list")

    def test_a_missing_chart_js_names_the_package(self):
        done, _ = self.run_script(small_report(), "--chart-js", str(self.folder / "none.js"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("libjs-chart.js", done.stderr)
        self.assertIn("none.js", done.stderr)

    def test_browser_draws_the_page(self):
        if browser is None:
            self.skipTest("no --browser given: the page's script was not run")
        for report in (small_report(), hostile_report()):
            (self.folder / "page.html").write_text(self.make(report), encoding="utf-8")
            done = subprocess.run(
                [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                 f"--user-data-dir={self.folder / 'profile'}", "--virtual-time-budget=4000",
                 "--dump-dom", (self.folder / "page.html").as_uri()],
                capture_output=True, text=True, errors="replace", timeout=120)
            self.assertNotIn("CONSOLE", done.stderr)
            drawn = Page(done.stdout)
            self.assertEqual(len(drawn.all("canvas")), 3)
            self.assertEqual(len(drawn.all("section")), 7)
            shown = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
            self.assertNotRegex(shown, r"could not be|\[object |NaN|undefined")
            self.assertFalse(any(a.get("id") == "injected" for _, a in drawn.elements))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser")
    options, rest = parser.parse_known_args()
    browser = options.browser
    used = make_report.CHART_JS if make_report.CHART_JS.is_file() else "a stub: Debian's libjs-chart.js is not installed"
    print(f"Chart.js: {used}")
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
