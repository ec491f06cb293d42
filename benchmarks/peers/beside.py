#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures this library and its peers turn by turn at the dense SmolLM-135M shape: prefill and decode
beside llama.cpp, prefill and training beside PyTorch, in float and bfloat16.

Needs the benchmarks (scripts/run_benchmarks.sh builds them). The first run installs the newest peers
into a scratch folder; see llama_cpp.py. In each turn every program runs once, one after another, so
that a machine's slow minutes fall on all of them. Ratios are of the medians. Leave the machine alone.
usage: beside.py OUTPUT.json [--turns 5] [--threads 2] [--peers llama.cpp,PyTorch] [--scratch DIR]
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
        return statistics.median(json.loads(printed)["tokens_per_second"])


def llama_cases(llama, threads):
    for dtype, name in DENSE.items():
        for case, sequences in llama_cpp.CASES.items():
            kind = case.rstrip("0123456789")
            ending = "135M" if kind == "prefill" else f"batch:{sequences}"
            yield (
                {"case": kind, "sequences": sequences, "dtype": dtype, "peer": "llama.cpp"},
                lambda kind=kind, name=f"{name}/{ending}": ours(kind, name, threads),
                {"": lambda case=case, dtype=dtype: statistics.median(llama.measure(case, dtype, threads, 2))},
            )


def torch_cases(torch, threads):
    endings = {"prefill": "135M", "train": "1"}
    for dtype, name in DENSE.items():
        for case, program in (("prefill", "prefill"), ("train", "train_step")):
            yield (
                {"case": case, "sequences": 1 if case == "prefill" else peer.BATCH, "dtype": dtype, "peer": "PyTorch"},
                lambda program=program, name=f"{name}/{endings[case]}": ours(program, name, threads),
                {
                    mode: lambda case=case, dtype=dtype, mode=mode: torch.measure(case, dtype, mode, threads)
                    for mode in MODES
                },
            )


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("output")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", default="llama.cpp,PyTorch")
    parser.add_argument("--scratch", type=pathlib.Path, default=peer.SCRATCH)
    arguments = parser.parse_args()
    peers, cases = {}, []
    if "llama.cpp" in arguments.peers:
        llama = llama_cpp.Llama(arguments.scratch, os.cpu_count())
        peers["llama.cpp"] = llama.describe()
        cases += llama_cases(llama, arguments.threads)
    if "PyTorch" in arguments.peers:
        torch = Torch(arguments.scratch)
        peers["PyTorch"] = {"peer": "PyTorch", "version": torch.version, "modes": MODES}
        cases += torch_cases(torch, arguments.threads)
    mine = [[] for _ in cases]
    theirs = [{mode: [] for mode in measures} for _, _, measures in cases]
    for turn in range(arguments.turns):
        for i, (about, measure, measures) in enumerate(cases):
            mine[i].append(measure())
            for mode, other in measures.items():
                theirs[i][mode].append(other())
            print(turn, about, f"{mine[i][-1]:.1f}", {m: round(v[-1], 1) for m, v in theirs[i].items()}, flush=True)
    results = []
    for (about, _, _), own, other in zip(cases, mine, theirs):
        mode = max(other, key=lambda name: statistics.median(other[name]))
        results.append(
            {
                **about,
                "mode": mode,
                "threads": arguments.threads,
                "ours": peer.rates(own),
                "theirs": {name: peer.rates(values) for name, values in other.items()},
                "ratio": round(statistics.median(own) / statistics.median(other[mode]), 3),
            }
        )
    commit = peer.run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    report = {"commit": commit, **peer.machine(), "peers": peers, "turns": arguments.turns, "results": results}
    peer.write(report, arguments.output)


if __name__ == "__main__":
    main()
