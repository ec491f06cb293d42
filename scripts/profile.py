#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program under perf and says which operations its time went to.

Needs perf (Debian: linux-perf). Writes JSON to the file named.
usage: profile.py OUTPUT.json COMMAND...
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks/peers"))
import peer  # which lies there

# The first that a symbol contains.
OPERATIONS = (
    ("the system", ("[k]",)),
    ("the probe of the machine's limits", ("measure_flops", "measure_bytes")),
    ("making the weights", ("fill_normal", "__cos", "__sin", "ieee754_log", "Random")),
    ("waiting for the other thread", ("SharedLoop::finish", "ThreadPool", "RunQueue", "EventCount", "sched_yield", "futex")),
    ("attention", ("ttention", "attend_row", "DotProduct", "softmax", "QueryTile", "KeyHeadBackward")),
    ("cross-entropy", ("CrossEntropy", "cross_entropy")),
    ("optimiser", ("adamw", "AdamW", "SumOfSquares", "sum_of_squares")),
    ("packing factors of products", ("pack_", "transpose_square")),
    ("products", ("multiply", "linear", "Linear", "panel", "Panel", "gebp", "gemm", "product_tile")),
    ("norms", ("rms_norm", "RmsNorm")),
    ("rope", ("rope", "Rope")),
    ("swiglu", ("swiglu", "Swiglu", "SwiGlu")),
    ("sampling", ("Sampler", "TokenDistribution")),
    ("gather, scatter, copy", ("gather", "Gather", "scatter", "Scatter", "memcpy", "memmove", "Copy")),
    ("embedding", ("mbed",)),
    ("pages and decisions", ("PagedSource", "RowDecisions", "BlockTable", "PagedKeyValueCache", "Balanced")),
    ("engine", ("Engine", "Inbox", "Sequence")),
)


# What a benchmark does before and beside the passes that it measures; the system gives it new memory, mostly
# before the first pass.
NOT_OF_THE_PASS = ("the probe of the machine's limits", "making the weights", "the system")


def operation_of(symbol):
    for operation, parts in OPERATIONS:
        if any(part in symbol for part in parts):
            return operation
    return "other"


def build_of(printed):
    """How the program was compiled, as benchmarks say it."""
    lines = (line.partition(": ") for line in printed.splitlines())
    return {name: value for name, _, value in lines if name in ("compiler", "flags", "vector_instructions")}


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__.splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        data = str(pathlib.Path(folder, "perf.data"))
        recorded = subprocess.run(
            ["perf", "record", "-q", "-F", "499", "-o", data, "--", *sys.argv[2:]],
            stderr=subprocess.PIPE, text=True, check=False,
        )
        if recorded.returncode != 0:
            raise SystemExit(recorded.stderr)
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "-q", "--no-children", "-F", "overhead,symbol"],
            check=True, capture_output=True, text=True,
        ).stdout
    shares = {}
    symbols = []
    for line in report.splitlines():
        fields = line.split(None, 1)
        if len(fields) == 2 and fields[0].endswith("%"):
            share = float(fields[0][:-1])
            operation = operation_of(fields[1])
            shares[operation] = shares.get(operation, 0) + share
            if share >= 0.5:
                symbols.append({"share": share, "operation": operation, "symbol": fields[1].strip()[:160]})
    result = {
        "commit": peer.commit(ROOT),
        **peer.machine(),
        **build_of(recorded.stderr),
        "command": " ".join([pathlib.Path(sys.argv[2]).name, *sys.argv[3:]]),
        "not_of_the_pass": NOT_OF_THE_PASS,
        "shares": dict(sorted(shares.items(), key=lambda item: -item[1])),
        "symbols": symbols,
    }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
    for operation, share in result["shares"].items():
        print(f"{share:6.2f} %  {operation}")


if __name__ == "__main__":
    main()
