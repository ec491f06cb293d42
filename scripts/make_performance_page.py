#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md and its figures from the reports in benchmarks/results.

Needs matplotlib (Debian: python3-matplotlib).
usage: make_performance_page.py [ROOT]
"""
import json
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({"svg.hashsalt": "mor", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})

PAGE = """# Performance on a CPU

{machine}. Made by `scripts/run_benchmarks.sh` and `scripts/make_performance_page.py` from
[these reports](../benchmarks/results); each holds its commit, compiler and flags. The machine is shared: read ratios,
which are taken within one run. Serving has [a page of its own](results/serving.md).

## What the machine can do

Measured by each benchmark when it starts, here by `ops`:

{limits}

## Products

`ops`, {threads} threads, of [rows, in] with weights [out, in]; floor: operations over the peak, or bytes over the read
bandwidth of memory, whichever is longer. Weights that stay in a cache can be read faster than that.

{products}

## Everything else in a layer

{others}

Whole blocks (`block`: four of them, with norms, attention and residuals), forward and backward:

{blocks}

Attention of one new token for each sequence to 512 keys and values (`cache`), from one piece of memory and from pages in
random places; the floor is reading them once:

{caches}

## Choosing rows

`selection`: two thirds of the rows of 32 sequences, ascending, microseconds for all of them on one thread; PyTorch by
`benchmarks/peers/torch_selection.py OUTPUT.json` beside it.

{selection}

Ours bisects the scores, as integers, until as many as wanted reach the bound: every pass counts a vector at a time, and
about log2(rows) passes do. One more keeps the rows in order.

Moving two thirds of the rows of [rows, 576], gigabytes a second read and written, beside a copy of as many bytes:

{movement}

## Routing strategies

`routing`: a forward pass of Middle-Cycle models with random weights and two layers a step, so that all but the block
weighs more than in deeper ones. At the base setting (width 576, 4 sequences of 512 tokens, 3 recursions) microseconds of all steps
together; "losses" is the router's backward pass, which inference does not have.

{strategies}

"Overhead" is all of a step but the block, over the block. "Saved" is against the dense recursive model of the same shape, timed in
turn; the ideal ratio is 1. "Violation" is by how much the fullest depth exceeds the mean (MaxVio); the weights are random, so it
says what balancing has to do. "Select" is the router's decision less its network, which is timed apart: 0 where that is below the
noise; a network with a single output is the largest part of what expert choice costs, for products are made for many. Where few
operations are saved, noise moves the ratio far from 1. A strategy of your own is one line in `benchmarks/routing.cpp`; `parity` is one.

![Time by part of a step](performance_strategies.svg)

![Time against capacity](performance_capacity.svg)

![Overhead against length](performance_overhead.svg)

The same along every axis, for overhead and for time saved over operations saved:

{axes}

## Decoding

`decode`: a token for each of several sequences of 64 tokens at the shape of 135M parameters, {threads} threads. The floor for
one sequence is reading weights, keys and values once; "time / bytes" and "time / operations" compare with the dense model's: at most
1.05 is the aim, of bytes for one sequence and of operations for 32.

{decode}

## Training

`train_step`: an update of 135M-shaped models on 4 x 256 tokens. Memory is of weights, gradients, optimiser and activations.

{train}

The memory of activations is made one piece when the second update begins; no later one takes any from the system
({allocations} times in the {runs} runs together).

## Compiling

`benchmarks/compile_time.py`, {compiler}, medians of {compile_repetitions}, one translation unit on one core:

{compiling}

## Goals

{goals}
"""


def load(root, name):
    path = root / "benchmarks/results" / f"{name}.json"
    return json.loads(path.read_text())


def entries(report):
    """The median of each benchmark's repetitions, in the order of the source: {name: entry}."""
    runs = {}
    order = lambda e: (e["family_index"], e["per_family_instance_index"])
    for entry in sorted(report["benchmarks"], key=order):
        if entry["run_type"] == "iteration":
            runs.setdefault(entry["run_name"], []).append(entry)
    merged = {}
    for name, group in runs.items():
        merged[name] = {
            key: statistics.median(e[key] for e in group) if isinstance(value, float) else value
            for key, value in group[0].items()
        }
    return merged


def table(header, rows, left=1):
    rule = "|" + "|".join("---" if i < left else "---:" for i in range(len(header))) + "|"
    return "\n".join(["| " + " | ".join(header) + " |", rule] + ["| " + " | ".join(r) + " |" for r in rows])


def limits(report):
    rows = []
    for threads in (1, 2):
        get = lambda what: float(report["context"][f"roofline_{threads}_threads_{what}"])
        rows.append(
            [
                str(threads),
                f"{get('gflops'):.0f}",
                f"{get('cache_gbytes'):.0f}",
                f"{get('memory_gbytes'):.0f}",
            ]
        )
    return table(["threads", "FMA GFLOP/s, float", "read from L2, GB/s", "read from memory, GB/s"], rows)


def products(ops):
    rows = []
    for name, e in ops.items():
        kind, *sizes = name.removesuffix("/real_time").split("/")
        if kind in ("product", "product_backward"):
            rows.append(
                [
                    kind.replace("_", ", "),
                    " x ".join(f"{int(s):,}" for s in sizes),
                    f"{1e-9 * e['flop/s']:.0f}",
                    f"{100 * e['of_flops']:.0f} %",
                    f"{100 * e['of_memory']:.0f} %",
                ]
            )
    return table(["", "rows x in x out", "GFLOP/s", "of the FMA peak", "of memory's bandwidth"], rows, 2)


def others(ops):
    rows = []
    for name, e in ops.items():
        kind, *sizes = name.removesuffix("/real_time").split("/")
        if not kind.startswith("product"):
            rows.append(
                [
                    kind,
                    " x ".join(f"{int(s):,}" for s in sizes),
                    f"{e['real_time'] / 1e3:.1f}",
                    f"{100 * e['of_flops']:.0f} %",
                    f"{100 * e['of_memory']:.0f} %",
                ]
            )
    return table(["operation", "size", "microseconds", "of the FMA peak", "of memory's bandwidth"], rows, 2)


def blocks(report):
    rows = []
    for name, e in entries(report).items():
        kind, tokens, length = name.split("/")[:3]
        rows.append(
            [
                kind.replace("_", ", "),
                f"{int(tokens.split(':')[1]):,} in sequences of {length.split(':')[1]}",
                f"{e['real_time']:.0f}",
                f"{100 * e['of_flops']:.0f} %",
            ]
        )
    return table(["pass, shape", "tokens", "milliseconds", "of the FMA peak"], rows, 2)


def caches(report):
    rows = []
    for name, e in entries(report).items():
        sequences, page = (part.split(":")[1] for part in name.split("/")[1:3])
        rows.append(
            [
                sequences,
                "one piece" if page == "0" else f"pages of {page}",
                f"{microseconds(e):.0f}",
                f"{100 * e['of_memory']:.0f} %",
            ]
        )
    return table(["sequences", "memory", "microseconds", "of memory's bandwidth"], rows, 2)


def microseconds(entry):
    return entry["real_time"] / {"ns": 1e3, "us": 1, "ms": 1e-3}[entry["time_unit"]]


SIZES = (1024, 2048, 8192)


def selection(report, peer):
    runs = entries(report)
    ours = [microseconds(runs[f"bisection/rows:{n}/threads:1/real_time"]) for n in SIZES]
    rows = [["mor (bisection)"] + [f"{t:.0f}" for t in ours] + ["1.0"]]
    torch = [r["microseconds"] for r in peer["results"] if r["threads"] == 1]
    others = {f"{peer['peer']}, topk and sort": torch}
    for label, name in (
        ("std::nth_element of values, ordered pass", "nth_element_of_values"),
        ("std::nth_element of indices, sort", "nth_element_of_indices"),
        ("std::partial_sort of indices, sort", "partial_sort_of_indices"),
    ):
        others[label] = [microseconds(runs[f"{name}/rows:{n}"]) for n in SIZES]
    for label, times in others.items():
        ratios = [t / o for t, o in zip(times, ours)]
        rows.append([label] + [f"{t:.0f}" for t in times] + [f"{min(ratios):.0f} to {max(ratios):.0f}"])
    return table(["algorithm"] + [f"{n:,} rows" for n in SIZES] + ["times as long as ours"], rows)


def torch_ratios(report, peer):
    runs = entries(report)
    torch = {r["rows"]: r["microseconds"] for r in peer["results"] if r["threads"] == 1}
    return [torch[n] / microseconds(runs[f"bisection/rows:{n}/threads:1/real_time"]) for n in SIZES]


def movement(report):
    runs = entries(report)
    rows = []
    for size in (256, 1024, 8192, 65536):
        for threads in (1, 2):
            rate = {
                what: runs[f"{what}/rows:{size}/threads:{threads}/real_time"]["bytes_per_second"] / 1e9
                for what in ("gather", "scatter", "copy")
            }
            rows.append([f"{size:,}", str(threads)] + [f"{rate[w]:.1f}" for w in rate])
    return table(["rows", "threads", "gather", "scatter", "copy"], rows)


PARTS = ("score", "select", "compact", "gather", "merge")


def routed(report):
    """{strategy: {setting: entry}}"""
    found = {}
    for name, e in entries(report).items():
        strategy, setting = name.split("/")[:2]
        found.setdefault(strategy, {})[setting] = e
    return found


def ratio(e):
    return f"{e['time_saved'] / e['flops_saved']:.2f}" if e["flops_saved"] > 0.02 else "-"


def strategies(found):
    rows = []
    for name, settings in found.items():
        e = settings["base"]
        rows.append(
            [name]
            + [f"{e[part + '_us']:.0f}" for part in PARTS]
            + [f"{e['block_us']:,.0f}", f"{e['losses_us']:.0f}", f"{100 * e['overhead']:.2f} %"]
            + [f"{100 * e['flops_saved']:.0f} %", f"{100 * e['time_saved']:.0f} %", ratio(e)]
            + [f"{e['max_violation']:.2f}"]
        )
    header = ["strategy", *PARTS, "block", "losses", "overhead", "operations saved", "time saved"]
    return table(header + ["ratio", "violation"], rows)


def axes(found):
    rows = []
    for name, of in found.items():
        for setting in of:
            e = of[setting]
            rows.append([name, setting.replace(":", " "), f"{100 * e['overhead']:.2f} %", ratio(e)])
    return table(["strategy", "setting", "overhead", "time saved over operations saved"], rows, 2)


def draw_strategies(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    names = list(found)
    left = [0.0] * len(names)
    for part in PARTS + ("losses",):
        values = [found[n]["base"][part + "_us"] / 1e3 for n in names]
        axis.barh(names, values, left=left, label=part)
        left = [a + b for a, b in zip(left, values)]
    axis.set_xlabel("milliseconds of all steps; the block is 100 times as long and left out")
    axis.invert_yaxis()
    axis.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw_capacity(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    for name, settings in found.items():
        points = sorted(
            (1 - e["flops_saved"], 1 - e["time_saved"]) for s, e in settings.items() if s.startswith("capacity:")
        )
        if points:
            axis.plot(*zip(*points), marker="o", ms=4, label=name)
    axis.plot([0.3, 1], [0.3, 1], color="gray", linewidth=0.8, linestyle="--", label="ideal")
    axis.set_xlabel("operations of the recursion, dense = 1")
    axis.set_ylabel("time, dense = 1")
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw_overhead(found, path):
    figure, axis = plt.subplots(figsize=(7, 3))
    for name, settings in found.items():
        points = sorted(
            (int(s.split(":")[1]), 100 * e["overhead"]) for s, e in settings.items() if s.startswith("length:")
        )
        axis.plot(*zip(*points), marker="o", ms=4, label=name)
    axis.axhline(2, color="gray", linewidth=0.8, linestyle="--")
    axis.set_xscale("log", base=2)
    axis.set_xlabel("tokens of the sequence")
    axis.set_ylabel("overhead, % of the block")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def decode_rows(runs):
    """(model, batch, entry, time over bytes, time over operations)"""
    for name, e in runs.items():
        model, batch, recursions = name.split("/")[:3]
        batch = int(batch.split(":")[1])
        dense = runs[next(n for n in runs if n.startswith(f"dense/batch:{batch}/"))]
        time = e["real_time"] / dense["real_time"]
        steps = recursions.split(":")[1]
        yield (
            model if model == "dense" else f"{model} {steps}",
            batch,
            e,
            time / (e["bytes_per_step"] / dense["bytes_per_step"]),
            time / (e["flops_per_step"] / dense["flops_per_step"]),
        )


def decode(runs):
    rows = []
    for model, batch, e, bytes_ratio, flops_ratio in decode_rows(runs):
        rows.append(
            [model, str(batch), f"{e['tokens/s']:.0f}", f"{100 * e['of_memory']:.0f} %", f"{100 * e['of_flops']:.0f} %"]
            + [f"{bytes_ratio:.2f}", f"{flops_ratio:.2f}"]
        )
    header = ["model", "sequences", "tokens/s", "of memory's bandwidth", "of the FMA peak"]
    return table(header + ["time / bytes", "time / operations"], rows)


def train_rows(runs):
    dense = next(e for n, e in runs.items() if n.startswith("dense/"))
    for name, e in runs.items():
        model, steps = name.split("/")[:2]
        time = e["real_time"] / dense["real_time"]
        yield (
            model if model == "dense" else f"{model} {steps}",
            e,
            time / (e["flops_per_step"] / dense["flops_per_step"]),
            e["memory_bytes"] / dense["memory_bytes"],
        )


def train(runs):
    rows = [
        [
            model,
            f"{e['tokens/s']:.0f}",
            f"{1e-9 * e['flops_per_step']:,.0f}",
            f"{100 * e['of_flops']:.0f} %",
            f"{time_ratio:.2f}",
            f"{e['memory_bytes'] / 1e9:.2f}",
            f"{memory_ratio:.2f}",
        ]
        for model, e, time_ratio, memory_ratio in train_rows(runs)
    ]
    header = ["model", "tokens/s", "GFLOP an update", "of the FMA peak", "time / operations, dense = 1"]
    return table(header + ["GB", "memory, dense = 1"], rows)


def compiling(report):
    rows = [
        [p["name"], p["level"], f"{p['seconds']:.1f}", f"{p['peak_megabytes']:.0f}"] for p in report["programs"]
    ]
    return table(["program", "flag", "seconds", "peak MB"], rows, 2)


def goals(ops, found, torch, decoding, training, compile_report):
    shapes = [
        e["of_flops"]
        for n, e in ops.items()
        if n.startswith("product/512/") or n.startswith("product_backward/1024/")
    ]
    settings = [(s, n, e) for n, of in found.items() for s, e in of.items()]
    worst = max(settings, key=lambda item: item[2]["overhead"])
    saved = [
        e["time_saved"] / e["flops_saved"] for of in found.values() for e in of.values() if e["flops_saved"] > 0.02
    ]
    at_one = [r for r in decode_rows(decoding) if r[1] == 1]
    at_many = [r for r in decode_rows(decoding) if r[1] == 32]
    mor = [r for r in train_rows(training) if r[0].startswith("mor")]
    seconds = {p["name"]: p["seconds"] for p in compile_report["programs"]}
    rows = [
        ["products of 512 rows and more, of the FMA peak", "65 %", f"{100 * min(shapes):.0f} to {100 * max(shapes):.0f} %"],
        [
            "routing overhead at width 576 and 1,024 tokens or more, of the block",
            "2 %",
            f"at most {100 * worst[2]['overhead']:.1f} % ({worst[1]}, {worst[0].replace(':', ' ')})",
        ],
        ["time saved over operations saved", "0.95", f"{min(saved):.2f} to {max(saved):.2f}, median {statistics.median(saved):.2f}"],
        ["choosing rows, times faster than torch.topk and sort", "30", ", ".join(f"{t:.0f}" for t in torch) + " for 1,024, 2,048, 8,192 rows"],
        ["dense decoding of one sequence, of memory's bandwidth", "90 %", f"{100 * at_one[0][2]['of_memory']:.0f} %"],
        ["MoR decoding of one sequence, time / bytes", "1.05", f"{max(r[3] for r in at_one[1:]):.2f} at most"],
        ["MoR decoding of 32, time / operations", "1.05", f"{max(r[4] for r in at_many[1:]):.2f} at most"],
        ["MoR training, time / operations", "1.05", f"{max(r[2] for r in mor):.2f} at most"],
        ["memory of training MoR with 2 recursions, dense = 1", "0.8", f"{mor[0][3]:.2f}"],
        [
            "including mor/mor.hpp, times as long as Eigen/Dense",
            "2",
            f"{seconds['mor/mor.hpp'] / seconds['Eigen/Dense']:.1f}",
        ],
        ["compiling the README's program at -O3, seconds", "25", f"{seconds['examples/hello.cpp']:.0f}"],
        ["against llama.cpp and PyTorch as wholes; bf16", "", "not measured yet"],
    ]
    return table(["", "aim", "measured"], rows)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    names = ("block", "cache", "decode", "ops", "routing", "selection", "train_step")
    reports = {name: load(root, name) for name in names}
    peer = load(root, "peer_torch_selection")
    compile_report = load(root, "compile_time")
    ops = entries(reports["ops"])
    found = routed(reports["routing"])
    decoding = entries(reports["decode"])
    training = entries(reports["train_step"])
    context = reports["ops"]["context"]
    page = PAGE.format(
        machine=f"{context['cpu']}, {context['hardware_threads']} cores, g++ {context['compiler']} {context['flags']}",
        threads=context["hardware_threads"],
        limits=limits(reports["ops"]),
        products=products(ops),
        others=others(ops),
        blocks=blocks(reports["block"]),
        caches=caches(reports["cache"]),
        selection=selection(reports["selection"], peer),
        movement=movement(reports["selection"]),
        strategies=strategies(found),
        axes=axes(found),
        decode=decode(decoding),
        train=train(training),
        runs=len(training),
        allocations=f"{sum(e['allocations'] for e in training.values()):.0f}",
        compiling=compiling(compile_report),
        compiler=compile_report["compiler"],
        compile_repetitions=compile_report["repetitions"],
        goals=goals(ops, found, torch_ratios(reports["selection"], peer), decoding, training, compile_report),
    )
    (root / "docs/performance.md").write_text(page)
    draw_strategies(found, root / "docs/performance_strategies.svg")
    draw_capacity(found, root / "docs/performance_capacity.svg")
    draw_overhead(found, root / "docs/performance_overhead.svg")


if __name__ == "__main__":
    main()
