#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/results/serving.md and its figures from benchmarks/results/serve_*.json.

Needs matplotlib (Debian: python3-matplotlib).
usage: make_serving_page.py [ROOT]
"""
import json
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({"svg.hashsalt": "mor", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})

PAGE = """# Serving: throughput, latency, memory

{machine}. Random weights; a MoR token's depth is drawn from the balanced distribution, so that speed does not depend
on training. Everything is in the clock: cache, scheduling, greedy sampling. Times are shared-machine times: read the
ratios. Made by `scripts/make_serving_page.py` from [the measurements](../../benchmarks/results).

## Throughput

`{commands}`: the paper's setting scaled down for two cores ({requests} requests in place of 1,000, answers of
{mean_tokens} tokens on average in place of 256, normally distributed; no prompt, first come first served). Each line is
the median of {repetitions} interleaved runs. "Rows" is the largest call, "sequences" how many are under way.

{throughput}

"Occupancy" is the mean fill of the calls of the shared block (of the whole stack for vanilla), in brackets without the
first and last quarter of the run, where the engine fills and empties. "Scheduler" is the share of the time outside
the model's parts: queues, admission, page tables' growth, sampling, callbacks.

## Against the bound

Where arithmetic is the limit and calls are equally full, gain over vanilla is the ratio of operations for a token, counted as
executed. "Block" compares the time of the shared block with that of a plain recursive model; "whole" the tokens a
second with vanilla's, unshared layers, head, cache and scheduling included. Not all models have as many layers, because steps are
of whole ones ({layers}), so the ratios are not those of the paper's shapes.

{bounds}

Ratios are medians over the repetitions, in which all lines run in turn. Read "batch 32" with care: calls have 32 rows at
most in every line, but depth-wise batching has 63 sequences under way and vanilla 32, with more cache in all (first table)
and fuller calls while requests run out. Lines that pass 100 % do not show a gain beyond the operations saved: vanilla's own
runs, slowest to fastest, are {spread} apart on these shared cores (the JSON has all times).
"Equal memory" gives MoR as many sequences as fit where 32 of vanilla do, with calls of half as many rows, so that one of
the two calls is always full. On these cores that changes little: products are limited by arithmetic from about 16 rows on,
so a larger batch brings no gain beyond full calls, and the bound stays the ratio of operations. The paper's 2.06x at the
largest batch is for a GPU, where reading weights dominates; that is not measured here.

## Bubbles

Sequence-wise batching sends all rows of a token through every step of its deepest; the calls of later steps are
emptier. In the middle half of the calls, and in all of them, while the engine fills and empties; depth-wise batching has 63
sequences for its calls of 32 rows, the other 32:

{bubbles}

What that brings depends on what an empty row costs. On these cores, where a call's time follows its rows from about 16 on,
it is little: sequence-wise batching of more sequences is about as fast, and waits less between tokens at equal batch.

![Rows in each call of the shared block](serving_occupancy.svg)

## Where the time goes

`{profile_command}` (MoR with three recursions, all its lines) under `scripts/profile.py`, share of the samples of both threads, from a twentieth of a
percent on; sampling is part of what the first table calls scheduler, which is wall time of one thread while the other waits:

{profile}

## Memory

Keys and values stored for a token by the shared layers, over those of a model in which every token takes every step; the
paper's (Nr+1)/(2Nr). "Entries" are counted when a sequence ends; what differs is the depths drawn in so few tokens: that a row
stores keys for the steps it took, and no others, is a test. "Blocks" is the most memory that the pool gave away in the run,
sequence-wise, over vanilla's for as many sequences and layers, unshared ones included: with blocks that are not full, of which more
tables have more.

{memory}

## Latency under load

`{latency_command}`: prompts (median 32 tokens) and answers (median 24) of log-normal length arrive at random; load 1.0
is what vanilla serves when everything is there from the start ({rate:.2f} requests a second). At most 32 rows a call.

![Latency against load](serving_latency.svg)

{latency}
"""


def rows_of(report, setting=None):
    return [r for r in report["rows"] if setting is None or r["setting"] == setting]


def find(report, model, scheduling, setting="batch 32"):
    return next(
        r
        for r in report["rows"]
        if (r["model"], r["scheduling"], r["setting"]) == (model, scheduling, setting)
    )


def table(header, rows):
    right = ["---" if i < 2 else "---:" for i in range(len(header))]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(right) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def throughput(reports):
    rows = []
    for report in reports:
        for r in report["rows"]:
            rows.append(
                [
                    f"{report['shape']} {r['model']}",
                    f"{r['scheduling'].replace('_', '-')}, {r['setting']}",
                    f"{r['max_batch']}",
                    f"{r['max_sequences']}",
                    f"{r['tokens_per_second']:.0f}",
                    f"{r['occupancy']:.2f} ({r['occupancy_steady']:.2f})",
                    f"{r['peak_cache_bytes'] / 1e6:.0f}",
                    f"{r['first_token_median']:.1f} / {r['first_token_p99']:.1f}",
                    f"{1000 * r['between_tokens_median']:.0f} / {1000 * r['between_tokens_p99']:.0f}",
                    f"{100 * r['scheduler_share']:.1f} %",
                ]
            )
    header = ["model", "batching", "rows", "sequences", "tokens/s", "occupancy", "cache MB"]
    header += ["s to first token, median / p99", "ms between tokens, median / p99", "scheduler"]
    return table(header, rows)


def gain(base, other, what):
    """How many times as long the base took: the median over repetitions, which ran in turn."""
    return statistics.median(b / o for b, o in zip(base[what], other[what]))


def bounds(reports):
    rows = []
    for report in reports:
        vanilla = find(report, "vanilla", "sequence_wise")
        dense = find(report, "recursive 3", "sequence_wise")
        for r in report["rows"]:
            if not r["model"].startswith("MoR"):
                continue
            steps = int(r["model"].split()[1])
            block_bound = 2 * steps / (steps + 1)
            # The recursive model may have another number of layers than this one.
            layers = r["block_layers"] / dense["block_layers"]
            block = layers * gain(dense, r, "block_seconds_of_runs")
            whole_bound = vanilla["flops_per_token"] / r["flops_per_token"]
            whole = gain(vanilla, r, "seconds_of_runs")
            rows.append(
                [
                    f"{report['shape']} {r['model']}",
                    f"{r['scheduling'].replace('_', '-')}, {r['setting']}",
                    f"{block_bound:.2f}",
                    f"{block:.2f}",
                    f"{100 * block / block_bound:.0f} %",
                    f"{whole_bound:.2f}",
                    f"{whole:.2f}",
                    f"{100 * whole / whole_bound:.0f} %",
                ]
            )
    header = ["model", "batching", "block: bound", "measured", "reached", "whole: bound", "measured"]
    return table(header + ["reached"], rows)


def bubbles(reports):
    rows = []
    for report in reports:
        for steps in (2, 3, 4):
            cells = []
            for what in ("occupancy_steady", "occupancy"):
                one = 1 - find(report, f"MoR {steps}", "sequence_wise")[what]
                other = 1 - find(report, f"MoR {steps}", "depth_wise")[what]
                cells += [f"{100 * part:.0f} %" for part in (one, other, 1 - other / one)]
            rows.append([f"{report['shape']} MoR {steps}", *cells])
    header = ["model", "empty rows, sequence-wise", "depth-wise", "removed"]
    return table(header + ["all calls: sequence-wise", "depth-wise", "removed"], rows)


def num_layers(r):
    """Of a vanilla model, all of which a token stores."""
    return r["stored_bytes_per_token"] / r["layer_bytes_per_token"]


def layer_counts(reports):
    parts = []
    for report in reports:
        counts = {"vanilla": round(num_layers(find(report, "vanilla", "sequence_wise")))}
        for steps in (2, 3, 4):
            counts[f"MoR {steps}"] = find(report, f"MoR {steps}", "depth_wise")["block_layers"] + 2
        parts.append(f"{report['shape']}: " + ", ".join(f"{name} {count:.0f}" for name, count in counts.items()))
    return "; ".join(parts)


def spread(reports):
    runs = [find(report, "vanilla", "sequence_wise")["seconds_of_runs"] for report in reports]
    return " and ".join(f"{100 * (max(times) / min(times) - 1):.0f} %" for times in runs)


def memory(reports):
    rows = []
    for report in reports:
        vanilla = find(report, "vanilla", "sequence_wise")
        for r in rows_of(report, "batch 32"):
            if not r["model"].startswith("MoR") or r["scheduling"] != "depth_wise":
                continue
            steps = int(r["model"].split()[1])
            layers = r["stored_bytes_per_token"] / r["layer_bytes_per_token"] - 2
            share = layers / r["block_layers"]
            expected = (steps + 1) / (2 * steps)
            paged = find(report, r["model"], "sequence_wise")["peak_cache_bytes"] / (r["block_layers"] + 2)
            paged /= vanilla["peak_cache_bytes"] / num_layers(vanilla)
            whole = (expected * r["block_layers"] + 2) / (r["block_layers"] + 2)
            cells = [[f"{a:.3f}", f"{b:.3f}", f"{100 * (b / a - 1):+.1f} %"] for a, b in ((expected, share), (whole, paged))]
            rows.append([f"{report['shape']} {r['model']}", *cells[0], *cells[1]])
    header = ["model", "(Nr+1)/(2Nr)", "entries", "difference", "the same, with unshared layers", "blocks", "difference"]
    return table(header, rows)


def profile(report):
    rows = [[operation, f"{share:.1f} %"] for operation, share in report["shares"].items() if share >= 0.05]
    return table(["operation", "share"], [[a, b] for a, b in rows])


def latency(report):
    rows = []
    for curve in report["curves"]:
        for p in curve["points"]:
            rows.append(
                [
                    curve["model"],
                    curve["scheduling"].replace("_", "-"),
                    f"{p['load']:.2f}",
                    f"{p['tokens_per_second']:.0f}",
                    f"{p['first_token_median']:.2f} / {p['first_token_p99']:.2f}",
                    f"{1000 * p['between_tokens_median']:.0f} / {1000 * p['between_tokens_p99']:.0f}",
                ]
            )
    header = ["model", "batching", "load", "tokens/s", "s to first token, median / p99"]
    return table(header + ["ms between tokens, median / p99"], rows)


def draw_occupancy(report, path):
    figure, axes = plt.subplots(2, 1, figsize=(7, 3.6), sharex=True, sharey=True)
    for axis, scheduling in zip(axes, ("sequence_wise", "depth_wise")):
        r = find(report, "MoR 3", scheduling)
        axis.plot(r["rows_of_calls"], linewidth=0.6, color="#3b6ea8")
        axis.set_ylabel("rows")
        axis.set_title(f"MoR, 3 recursions, {scheduling.replace('_', '-')}", loc="left", fontsize=9)
        axis.set_ylim(0, 34)
    axes[-1].set_xlabel("call of the shared block")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw_latency(report, path):
    figure, axes = plt.subplots(1, 2, figsize=(7, 3))
    for curve in report["curves"]:
        name = f"{curve['model']}, {curve['scheduling'].replace('_', '-')}"
        load = [p["load"] for p in curve["points"]]
        axes[0].plot(load, [p["first_token_median"] for p in curve["points"]], marker="o", ms=3, label=name)
        axes[1].plot(load, [1000 * p["between_tokens_median"] for p in curve["points"]], marker="o", ms=3)
    axes[0].set_ylabel("seconds to the first token (median)")
    axes[1].set_ylabel("milliseconds between tokens (median)")
    for axis in axes:
        axis.set_xlabel("load, 1 = vanilla with all requests at once")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    results = root / "benchmarks/results"
    reports = [json.loads(p.read_text()) for p in sorted(results.glob("serve_throughput_*.json"))]
    load = json.loads((results / "serve_latency.json").read_text())
    hot = json.loads((results / "serve_profile.json").read_text())
    machine = reports[0]["machine"]
    page = PAGE.format(
        machine=f"{machine['cpu']}, {machine['hardware_threads']} cores, {machine['vector_instructions']},"
        f" g++ {machine['compiler']}, -O3 -march=native",
        commands="`, `".join(r["command"] for r in reports),
        requests=" and ".join(str(r["requests"]) for r in reports),
        mean_tokens=" and ".join(f"{r['mean_tokens']:.0f}" for r in reports),
        repetitions=reports[0]["repetitions"],
        throughput=throughput(reports),
        bounds=bounds(reports),
        layers=layer_counts(reports),
        spread=spread(reports),
        bubbles=bubbles(reports),
        memory=memory(reports),
        latency=latency(load),
        latency_command=load["command"],
        rate=load["vanilla_requests_per_second"],
        profile=profile(hot),
        profile_command=hot["command"],
    )
    (root / "docs/results/serving.md").write_text(page)
    draw_occupancy(reports[0], root / "docs/results/serving_occupancy.svg")
    draw_latency(load, root / "docs/results/serving_latency.svg")


if __name__ == "__main__":
    main()
