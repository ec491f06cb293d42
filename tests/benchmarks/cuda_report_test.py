#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark of the CUDA backend on the processor, on a tiny shape: the report is complete, its
counts are those that the sizes make, and what depends on each other agrees.

usage: cuda_report_test.py PROGRAM
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
# The shape "tiny" of benchmarks/shapes.hpp.
VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 96, 32, 48, 8, 2, 1, 16
BATCH, SEQUENCE, PROMPT, DECODED = 2, 16, 8, 4
PEAKS = {"float": 1e12, "bfloat16": 2e12}
OPTIONS = {
    "--shapes": "tiny", "--batch": BATCH, "--sequence": SEQUENCE, "--prompt": PROMPT, "--decoded": DECODED,
    "--decode-batches": "1,2", "--repeats": 3, "--commit": "abc", "--driver": "none",
    "--peak-float": PEAKS["float"], "--peak-bfloat16": PEAKS["bfloat16"],
}
LAYER = HIDDEN * (2 * HEADS * HEAD_DIM + 2 * KV_HEADS * HEAD_DIM + 3 * INTERMEDIATE)


def run(folder, **changed):
    path = pathlib.Path(folder) / "report.json"
    options = {**OPTIONS, "--out": path, **{f"--{name.replace('_', '-')}": of for name, of in changed.items()}}
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    return done, json.loads(path.read_text()) if path.exists() else None


def forward_flops(rows, pairs, logits):
    """Of the dense model: products, and attention's (query, key) pairs."""
    products = 2 * (rows * LAYERS * LAYER + logits * HIDDEN * VOCABULARY)
    return products + 4 * LAYERS * pairs * HEADS * HEAD_DIM


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            done, cls.report = run(folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def results(self, model):
        found = [r for r in self.report["results"] if r["model"] == model]
        self.assertTrue(found)
        return found

    def test_says_what_was_measured(self):
        self.assertEqual(self.report["device"], "cuda-host")
        self.assertEqual(self.report["commit"], "abc")
        self.assertEqual(self.report["peak_flops"], PEAKS)
        self.assertGreater(self.report["copied_bytes_per_second"], 1e8)
        self.assertIn("--shapes tiny", self.report["command"])
        self.assertIn("--out report.json", self.report["command"])
        for key in ("driver", "toolkit", "date", "seeds", "compiler", "flags"):
            self.assertTrue(self.report[key], key)
        models = [(r["model"], r["num_recursions"], r["precision"]) for r in self.report["results"]]
        kinds = [("vanilla", 1), ("mor", 2), ("recursive", 2), ("mor", 3), ("recursive", 3)]
        self.assertEqual(models, [(*kind, p) for p in ("bfloat16", "float") for kind in kinds])
        self.assertNotIn("problem", [key for r in self.report["results"] for key in r])

    def test_training(self):
        pairs = BATCH * SEQUENCE * (SEQUENCE + 1) // 2
        dense = 3 * forward_flops(BATCH * SEQUENCE, pairs, BATCH * SEQUENCE)
        for result in self.report["results"]:
            training = result["training"]
            self.assertEqual(training["tokens"], BATCH * SEQUENCE)
            self.assertEqual(len(training["all_seconds"]), 3)
            self.assertAlmostEqual(training["tokens_per_second"] * training["seconds"], BATCH * SEQUENCE)
            mfu = training["flops"] / training["seconds"] / PEAKS[result["precision"]]
            self.assertAlmostEqual(training["mfu"], mfu)
            # Weights, gradients and two moments; the rest of a process is not small here.
            self.assertGreater(training["peak_bytes"], 16 * result["num_parameters"])
            self.assertGreater(training["activation_bytes"], 0)
            self.assertLess(abs(training["loss"] - math.log(VOCABULARY)), 0.5)
            if result["model"] == "mor":
                self.assertLess(training["flops"], dense)
                self.assertEqual(training["active_share"][0], 1)
            else:
                self.assertEqual(training["flops"], dense)

    def test_parameters(self):
        vanilla, recursive = self.results("vanilla")[0], self.results("recursive")
        norms = HIDDEN * (2 * LAYERS + 1)
        self.assertEqual(vanilla["num_parameters"], VOCABULARY * HIDDEN + LAYERS * LAYER + norms)
        for result in recursive:
            physical = 2 + (LAYERS - 2) // result["num_recursions"]
            wanted = VOCABULARY * HIDDEN + physical * LAYER + HIDDEN * (2 * physical + 1)
            self.assertEqual(result["num_parameters"], wanted)

    def test_inference(self):
        for result in self.report["results"]:
            passes = {(p["what"], p["batch"]): p for p in result["passes"]}
            self.assertEqual(list(passes), [(w, b) for b in (1, 2) for w in ("prefill", "decode")])
            for (what, batch), measured in passes.items():
                length = PROMPT if what == "prefill" else 1
                self.assertEqual(measured["tokens"], batch * length)
                self.assertEqual(len(measured["all_seconds"]), 3 if what == "prefill" else DECODED)
                share = measured["bytes"] / measured["seconds"] / self.report["copied_bytes_per_second"]
                self.assertAlmostEqual(measured["of_bandwidth"], share)
                # After two tokens that warm up; the mean of the others.
                keys = (PROMPT + 1) / 2 if what == "prefill" else PROMPT + 2 + (DECODED + 1) / 2
                pairs = batch * length * keys
                dense = forward_flops(batch * length, pairs, batch)
                number_bytes = 4 if result["precision"] == "float" else 2
                weights = number_bytes * (LAYERS * LAYER + HIDDEN * VOCABULARY)
                read_keys = batch * LAYERS * keys * 2 * number_bytes * KV_HEADS * HEAD_DIM
                if result["model"] == "mor":
                    self.assertLessEqual(measured["flops"], dense + 4 * batch * length * HIDDEN * 3)
                    self.assertGreater(measured["flops"], 0)
                else:
                    self.assertEqual(measured["flops"], dense)
                    self.assertEqual(measured["bytes"], weights + (read_keys if what == "decode" else 0))

    def test_routing(self):
        for result in self.report["results"]:
            self.assertEqual("routing" in result, result["model"] == "mor")
        for result in self.results("mor"):
            routing = result["routing"]
            parts = [routing[f"{part}_us"] for part in ("gather", "select", "compact", "merge")]
            self.assertTrue(all(part > 0 for part in [*parts, routing["block_us"], routing["backward_us"]]))
            self.assertEqual(routing["steps"], result["num_recursions"])
            self.assertAlmostEqual(routing["step_us"] * routing["steps"], sum(parts))
            self.assertAlmostEqual(routing["of_block"], sum(parts) / routing["block_us"])
            self.assertAlmostEqual(routing["of_step"], sum(parts) / (sum(parts) + routing["block_us"]))
            self.assertLess(routing["of_update"], 1)


class Other(unittest.TestCase):
    def run_one(self, **changed):
        with tempfile.TemporaryDirectory() as folder:
            return run(folder, models="vanilla", precisions="float", decode_batches="1", **changed)

    def test_an_unknown_peak_has_no_share(self):
        done, report = self.run_one(peak_float=0)
        self.assertEqual(done.returncode, 0)
        self.assertIn("its peak is not known", done.stdout)
        self.assertIsNone(report["peak_flops"])
        self.assertIsNone(report["results"][0]["training"]["mfu"])

    def test_the_time_is_up(self):
        done, report = self.run_one(seconds=-1)
        self.assertEqual(done.returncode, 1)
        self.assertIn("none of 1 cases", done.stderr)
        self.assertEqual(report["results"][0]["problem"], "not run: the time was up")

    def test_what_cannot_be_asked_for(self):
        for changed, words in (({"shapes": "vast"}, "no shape vast"), ({"batch": "many"}, "'many' is no number"),
                               ({"colour": "red"}, "no option --colour"), ({"out": ""}, "--out")):
            done, report = self.run_one(**changed)
            self.assertEqual((done.returncode, report), (1, None))
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
