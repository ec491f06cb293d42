#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures this library and its peers turn by turn at the dense shapes of SmolLM: prefill and decode
beside llama.cpp, prefill and training beside PyTorch, in float and bfloat16.

Needs the benchmarks (scripts/run_benchmarks.sh builds them). The first run installs the newest peers
into a scratch folder; see llama_cpp.py. In each turn every program runs once, one after another, so
that a machine's slow minutes fall on all of them; who is first alternates. A mode of PyTorch that was
the slower in both of the first two turns by a tenth has no more turns. All programs use as many threads
as there are cores. Leave the machine alone.
usage: beside.py OUTPUT.json [--turns 5] [--scratch DIR]
"""
import argparse
import json
import os
import pathlib
import statistics
import sys

import llama_cpp
import peer

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build" / "release" / "benchmarks"
DENSE = {"f32": "dense", "bf16": "dense_bfloat16"}
MODES = ("eager", "compile")  # of PyTorch; the faster one counts


class Mor:
    """This library's benchmarks."""

    def __init__(self):
        self.build = {}  # how they were compiled

    def measure(self, program, name):
        """Tokens a second of a benchmark, the median of its repetitions in one process."""
        printed = peer.run(PROGRAMS / program, f"--benchmark_filter=^{name}/", "--benchmark_format=json")
        report = json.loads(printed[printed.index("{") :])
        rates = [run["tokens/s"] for run in report["benchmarks"] if run["run_type"] == "iteration"]
        if not rates:
            sys.exit(f"{program} has no benchmark {name}")
        self.build = {key: report["context"][key] for key in ("compiler", "flags", "vector_instructions")}
        return statistics.median(rates)


class Torch:
    """The newest PyTorch, in an environment of its own."""

    def __init__(self, scratch):
        self.python = peer.virtual_environment(scratch / "torch", "torch", "numpy")
        self.version = peer.run(self.python, "-c", "import torch; print(torch.__version__)").strip()

    def measure(self, shape, case, dtype, mode, threads):
        script = pathlib.Path(__file__).with_name("torch_case.py")
        words = (shape, case, dtype, mode, threads, 2)
        printed = peer.run(self.python, script, *words, env=peer.clean_environment())
        return json.loads(printed)["tokens_per_second"]


# (shape, case, sequences): benchmark and ending of its name here, case of llama.cpp, case of PyTorch
CASES = {
    ("135M", "prefill", 1): ("prefill", "135M", "prefill", "prefill"),
    ("360M", "prefill", 1): ("prefill", "360M", "prefill", None),
    ("135M", "decode", 1): ("decode", "batch:1", "decode1", None),
    ("135M", "decode", 32): ("decode", "batch:32", "decode32", None),
    ("135M", "train", peer.BATCH): ("train_step", "1", None, "train"),
}


def cases(mor, llama, torch, threads):
    """(what it is, ours, {(peer, mode): theirs}), each a function that measures tokens a second."""
    for dtype, name in DENSE.items():
        for (shape, case, sequences), (program, ending, of_llama, of_torch) in CASES.items():
            theirs = {}
            if of_llama:
                theirs["llama.cpp", ""] = lambda s=shape, c=of_llama, d=dtype: llama.measure(s, c, d, threads, 2)
            for mode in MODES if of_torch else ():
                theirs["PyTorch", mode] = lambda s=shape, c=of_torch, d=dtype, m=mode: torch.measure(s, c, d, m, threads)
            about = {"shape": shape, "case": case, "sequences": sequences, "dtype": dtype, "threads": threads}
            yield about, lambda p=program, n=f"{name}/{ending}": mor.measure(p, n), theirs


def is_slower(rates, key):
    """Whether another mode of the same peer was faster by a tenth in both of the first two turns."""
    others = [of for other, of in rates.items() if other[0] == key[0] and other != key]
    return any(all(0.9 * theirs > own for theirs, own in zip(of[:2], rates[key][:2])) for of in others)


def take_turns(measured, turns):
    """Tokens a second of every turn: ours for each case, and each peer's."""
    mine = [[] for _ in measured]
    others = [{key: [] for key in theirs} for *_, theirs in measured]
    for turn in range(turns):
        for i, (about, own, theirs) in enumerate(measured):
            first = turn % 2 == 0
            if first:
                mine[i].append(own())
            for key, measure in theirs.items():
                if turn < 2 or not is_slower(others[i], key):
                    others[i][key].append(statistics.median(measure()))
            if not first:
                mine[i].append(own())
            print(turn, about, mine[i][-1], {key: rates[-1] for key, rates in others[i].items()}, flush=True)
    return mine, others


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("output")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--scratch", type=pathlib.Path, default=peer.SCRATCH)
    arguments = parser.parse_args()
    llama = llama_cpp.Llama(arguments.scratch, os.cpu_count())
    torch = Torch(arguments.scratch)
    mor = Mor()
    measured = list(cases(mor, llama, torch, os.cpu_count()))
    mine, others = take_turns(measured, arguments.turns)
    results = []
    for (about, *_), own, theirs in zip(measured, mine, others):
        for name in sorted({name for name, _ in theirs}):
            modes = {mode: peer.rates(rates) for (of, mode), rates in theirs.items() if of == name}
            results.append({**about, "peer": name, "ours": peer.rates(own), "theirs": modes})
    report = {
        "commit": peer.commit(ROOT),
        **peer.machine(),
        **mor.build,
        "peers": {"llama.cpp": llama.describe(), "PyTorch": {"version": torch.version, "modes": MODES}},
        "turns": arguments.turns,
        "results": results,
    }
    peer.write(report, arguments.output)


if __name__ == "__main__":
    main()
