#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures this library and its peers turn by turn at the dense SmolLM-135M shape: prefill and decode
beside llama.cpp, prefill and training beside PyTorch, in float and bfloat16.

Needs the benchmarks (scripts/run_benchmarks.sh builds them). The first run installs the newest peers
into a scratch folder; see llama_cpp.py. In each turn every program runs once, one after another, so
that a machine's slow minutes fall on all of them. Ratios are of the medians. Leave the machine alone.
usage: beside.py OUTPUT.json [--turns 5] [--threads 2] [--scratch DIR]
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


def ours(program, name, threads):
    """Tokens a second of a benchmark, the median of its repetitions in one process."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[:threads])
    words = (PROGRAMS / program, f"--benchmark_filter=^{name}/", "--benchmark_format=json")
    printed = peer.run("taskset", "-c", cores, *words)
    runs = json.loads(printed[printed.index("{") :])["benchmarks"]
    rates = [run["tokens/s"] for run in runs if run["run_type"] == "iteration"]
    if not rates:
        sys.exit(f"{program} has no benchmark {name}")
    return statistics.median(rates)


class Torch:
    """The newest PyTorch, in an environment of its own."""

    def __init__(self, scratch):
        self.python = peer.virtual_environment(scratch / "torch", "torch", "numpy")
        self.version = peer.run(self.python, "-c", "import torch; print(torch.__version__)").strip()

    def measure(self, case, dtype, mode, threads):
        script = pathlib.Path(__file__).with_name("torch_case.py")
        words = (case, dtype, mode, threads, 2)
        printed = peer.run(self.python, script, *words, env=peer.clean_environment())
        return json.loads(printed)["tokens_per_second"]


# (case, sequences): benchmark and ending of its name here, case of llama.cpp, case of PyTorch
CASES = {
    ("prefill", 1): ("prefill", "135M", "prefill", "prefill"),
    ("decode", 1): ("decode", "batch:1", "decode1", None),
    ("decode", 32): ("decode", "batch:32", "decode32", None),
    ("train", peer.BATCH): ("train_step", "1", None, "train"),
}


def cases(llama, torch, threads):
    """(what it is, ours, {(peer, mode): theirs}), each a function that measures tokens a second."""
    for dtype, name in DENSE.items():
        for (case, sequences), (program, ending, of_llama, of_torch) in CASES.items():
            theirs = {}
            if of_llama:
                theirs["llama.cpp", ""] = lambda c=of_llama, d=dtype: llama.measure(c, d, threads, 2)
            for mode in MODES if of_torch else ():
                theirs["PyTorch", mode] = lambda c=of_torch, d=dtype, m=mode: torch.measure(c, d, m, threads)
            about = {"case": case, "sequences": sequences, "dtype": dtype, "threads": threads}
            yield about, lambda p=program, n=f"{name}/{ending}": ours(p, n, threads), theirs


def take_turns(measured, turns):
    """Tokens a second of every turn. A mode that was a tenth slower in the first has no second."""
    mine = [[] for _ in measured]
    others = [{key: [] for key in theirs} for *_, theirs in measured]
    for turn in range(turns):
        for i, (about, own, theirs) in enumerate(measured):
            mine[i].append(own())
            for key, measure in theirs.items():
                best = max((rates[0] for (name, _), rates in others[i].items() if name == key[0] and rates), default=0)
                if turn == 0 or others[i][key][0] > 0.9 * best:
                    others[i][key].append(statistics.median(measure()))
            print(turn, about, mine[i][-1], {key: rates[-1] for key, rates in others[i].items()}, flush=True)
    return mine, others


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("output")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scratch", type=pathlib.Path, default=peer.SCRATCH)
    arguments = parser.parse_args()
    llama = llama_cpp.Llama(arguments.scratch, os.cpu_count())
    torch = Torch(arguments.scratch)
    measured = list(cases(llama, torch, arguments.threads))
    mine, others = take_turns(measured, arguments.turns)
    results = []
    for (about, *_), own, theirs in zip(measured, mine, others):
        for name in sorted({name for name, _ in theirs}):
            modes = {mode: peer.rates(rates) for (of, mode), rates in theirs.items() if of == name}
            fastest = max(mode["median"] for mode in modes.values())
            ratio = round(statistics.median(own) / fastest, 3)
            results.append({**about, "peer": name, "ours": peer.rates(own), "theirs": modes, "ratio": ratio})
    report = {
        "commit": peer.run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip(),
        **peer.machine(),
        "peers": {"llama.cpp": llama.describe(), "PyTorch": {"version": torch.version, "modes": MODES}},
        "turns": arguments.turns,
        "results": results,
    }
    peer.write(report, arguments.output)


if __name__ == "__main__":
    main()
