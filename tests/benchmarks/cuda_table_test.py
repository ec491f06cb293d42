#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests scripts/cuda_table.py with MADE-UP reports: no number here was measured anywhere."""
import copy
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import cuda_table  # noqa: E402

STEPS = [["build", "passed", "100", ""], ["all", "passed", "500", ""]]


def example_model(shape="360M", model="vanilla", num_recursions=1, precision="bfloat16", rate=1000.0, mfu=0.5, peak=10e9, **more):
    passes = [
        {"what": what, "batch": batch, "tokens_per_second": rate * batch, "of_bandwidth": 0.85}
        for batch in (1, 8)
        for what in ("prefill", "decode")
    ]
    return {
        "shape": shape, "model": model, "num_recursions": num_recursions, "precision": precision,
        "training": {"tokens_per_second": rate, "mfu": mfu, "peak_bytes": peak}, "passes": passes, **more,
    }


def example_reports():
    routing = {"steps": 2, "step_us": 10.0, "of_block": 0.011, "of_step": 0.01, "of_update": 0.005}
    models = {
        "device": "EXAMPLE GPU", "driver": "0", "toolkit": "CUDA 0", "commit": "none", "copied_bytes_per_second": 3e12,
        "results": [
            example_model(),
            example_model("360M", "mor", 2, rate=1200.0, peak=7e9, routing=routing),
            example_model("360M", "mor", 3, rate=1300.0, peak=6e9),
            example_model("135M", rate=3000.0),
            {"shape": "135M", "model": "mor", "num_recursions": 3, "precision": "float", "problem": "not run: the time was up"},
        ],
    }

    def peer(case, mode, **of):
        return {"shape": "360M", "model": "vanilla", "precision": "bf16", "mode": mode, "case": case, **of}

    torch = {"results": [
        peer("train", "eager", training={"tokens_per_second": 400.0}),
        peer("train", "compile", training={"tokens_per_second": 500.0}),
        peer("infer", "eager", passes=[{"what": w, "batch": 8, "tokens_per_second": 4000.0} for w in ("prefill", "decode")]),
        peer("infer", "compile", problem="not run: the time was up"),
        {"shape": "360M", "model": "mor", "precision": "f32", "mode": "eager", "case": "routing", "routing": [
            {"num_recursions": n, "step": s, "microseconds": 40.0} for n in (2, 3) for s in range(n)]},
    ]}
    return models, torch


def lines_of(models, torch):
    return cuda_table.summary(STEPS, models, torch)


class Table(unittest.TestCase):
    def find(self, lines, beginning):
        found = [line for line in lines if line.startswith(beginning)]
        self.assertEqual(len(found), 1, (beginning, lines))
        return found[0]

    def goals(self, lines):
        begin = next(i for i, line in enumerate(lines) if line.startswith("goal "))
        return lines[begin + 1 :]

    def test_all_goals_reached(self):
        lines = lines_of(*example_reports())
        goals = self.goals(lines)
        self.assertEqual(len(goals), 11)
        for line in goals:
            self.assertTrue(line.endswith("  reached"), line)
        self.assertIn("50.0 %", self.find(lines, "MFU"))
        self.assertIn("1.20 x", self.find(lines, "MoR of 2"))
        self.assertIn("1.30 x", self.find(lines, "MoR of 3"))
        self.assertIn("2.00 x", self.find(lines, "the worst of all"))
        self.assertIn("0.70 x", self.find(lines, "the same, peak"))
        self.assertIn("2.00 x", self.find(lines, "training, times"))  # than the faster mode

    def test_the_measured_numbers(self):
        lines = lines_of(*example_reports())
        self.assertIn("EXAMPLE GPU, driver 0, CUDA 0, commit none; 3,000 GB/s copied", lines)
        rows = [line.split() for line in lines]
        self.assertIn(["360M", "vanilla", "1", "bfloat16", "1,000", "50.0", "%", "10.0", "2.00", "x", "compile"], rows)
        self.assertIn(["360M", "mor", "2", "bfloat16", "1,200", "50.0", "%", "7.0"], rows)
        self.assertIn(["135M", "vanilla", "1", "bfloat16", "3,000", "50.0", "%", "10.0", "not", "measured", "yet"], rows)
        self.assertIn(["360M", "vanilla", "1", "bfloat16", "decode", "of", "8", "8,000", "85.0", "%", "2.00", "x", "eager"], rows)
        self.assertIn(["360M", "mor", "2", "bfloat16", "10", "1.1", "%", "0.5", "%", "40"], rows)
        self.assertTrue(self.find(lines, "135M mor 3 float").endswith("not run: the time was up"))
        self.assertEqual(rows[:3], [["step", "result", "seconds", "detail"], ["build", "passed", "100"], ["all", "passed", "500"]])

    def test_every_goal_can_be_missed(self):
        models, torch = example_reports()
        dense, mor, deeper, small, _ = models["results"]
        deeper["training"]["tokens_per_second"] = 1188.0
        dense["training"]["mfu"] = 0.4499
        mor["training"]["tokens_per_second"] = 1189.0
        mor["training"]["peak_bytes"] = 7.51e9
        mor["routing"]["of_step"] = 0.02
        for result in (dense, small):
            for p in result["passes"]:
                p["of_bandwidth"] = 0.79
        for result in torch["results"][:3]:
            for rates in [result.get("training"), *result.get("passes", [])]:
                if rates:
                    rates["tokens_per_second"] *= 1.4
        for line in self.goals(lines_of(models, torch)):
            self.assertTrue(line.endswith("  missed"), line)

    def test_without_pytorch(self):
        models, _ = example_reports()
        lines = lines_of(models, None)
        for line in self.goals(lines)[-4:]:
            self.assertTrue(line.endswith("no PyTorch here"), line)
        self.assertTrue(self.find(lines, "360M vanilla 1 bfloat16  1,000").endswith("no PyTorch here"))

    def test_without_any_report(self):
        lines = lines_of(None, None)
        for line in self.goals(lines):
            self.assertTrue(line.endswith(("not measured yet", "no PyTorch here")), line)

    def test_an_unknown_peak_is_no_failure(self):
        models, torch = copy.deepcopy(example_reports())
        models["results"][0]["training"]["mfu"] = None
        lines = lines_of(models, torch)
        self.assertTrue(self.find(lines, "MFU").endswith("the peak is not known"))
        self.assertIn("peak unknown", self.find(lines, "360M vanilla 1 bfloat16  1,000"))


if __name__ == "__main__":
    unittest.main()
