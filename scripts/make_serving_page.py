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
ratios. Measured by `scripts/run_serving_benchmarks.sh`, [its reports](../../benchmarks/results) put
here by `scripts/make_serving_page.py`.

## Throughput

`{commands}`: the paper's setting scaled down for two cores ({requests} requests in place of 1,000, answers of
{mean_tokens} tokens on average in place of 256, normally distributed; no prompt, first come first served). Lines take turns of
half a second, each with a clock of its own, so that what else the machine does slows them nearly alike (who takes longest ends alone); a line is the median of
{repetitions} such runs. "Rows" is the most that a call may have; "sequences" how many were under way on average.
"Batch 32" has memory for all. "Equal memory" gives every model the same: what 40 of vanilla's sequences store when each is
half way. How many then run is up to the engine, which here knows how long each answer will be: answers that end at a stop
token would leave more of the memory unused, or more work to repeat.

{throughput}

"Occupancy" is the mean fill of the calls of the shared block (of the whole stack for vanilla), in brackets without the
first and last quarter of the calls, where the engine fills and empties; none where memory, and not the rows of a call, is the limit. "Cache" is the mean of the blocks in use, kept
beginnings included, of {scaled_block_size} tokens. "Draw" is greedy sampling's share of the time, "scheduler" that of all else outside the model: queues,
admission, page tables' growth, callbacks. (At the paper's lengths, in the run of [bubbles](#bubbles), it was
{scheduler_long:.0f} microseconds a token with depth-wise batching of MoR 3, {scheduler_share:.1f} % of what a token of 135M took here.) "Again" is operations a token beyond those of
the same model with memory for all: work repeated after preemptions, or where less of a kept beginning was reused. The aim for "scheduler" is 2 % of a step: for MoR it is at most {scheduler_most:.2f} % here.
Where steps are shorter it is more: {scheduler_trained[0]:.1f} to {scheduler_trained[1]:.1f} % for [the trained models](#a-trained-model), and {scheduler_narrow[0]:.1f} to {scheduler_narrow[1]:.1f} % at
the width of 16 of the run of bubbles.

## Against the bound

Where arithmetic is the limit and calls are equally full, gain over vanilla is the ratio of operations for a token. "Block" compares
the time of the shared block with that of a plain recursive model: its bound is that of balanced depths, 2Nr/(Nr+1). "Whole" compares
the tokens a second with vanilla's, unshared layers, head, cache, scheduling and repeated work included: its bound is of operations
counted as executed with memory for all. Both are in the same setting.
Not all models have as many layers, because steps are of whole ones ({layers}), so the ratios are not those of the paper's
shapes.

{bounds}

The aims are 95 % at batch 32 and 90 % at equal memory. {aims}

Ratios are medians over the repetitions, in each of which all lines take turns. Read "batch 32" with care: calls have 32 rows at
most in every line, but depth-wise batching has 63 sequences under way and vanilla 32, with more cache in all (first table)
and fuller calls while requests run out. Lines that pass 100 % do not show a gain beyond the operations saved: the runs of a line,
slowest to fastest, are up to {spread} apart on these shared cores (the JSON has all times), and fuller calls while the
engine empties help where more sequences are under way. The block's ratio is over the recursive model in the same setting, whose calls have fewer rows at equal memory.
At equal memory vanilla's calls have fewer rows than at batch 32, too, and it answers {vanilla_loss} fewer tokens a second
(medians of the ratios within a repetition): so much
of the gain there is the larger batch of MoR, not the operations saved. For a sequence's bytes alone MoR would have {allowed} times as
many sequences under way; "sequences" has fewer, likely because admission keeps a block for every table of every sequence free to grow into, and
of MoR's tables more are short: with answers of hundreds of tokens that matters less. Where reading weights is the limit, as on a GPU,
more sequences would multiply the gain; on these cores the bound stays the ratio of operations. The paper's 2.06x at the largest batch is for a GPU: that is not measured here.

## A trained model

`{trained_command}`: the models of [the quickstart](quickstart.md), whose routers have learnt how deep to go; prompts of
{trained_prompt} bytes from the held-out text, answers sampled at temperature 0.8, at most 8 rows of a prompt in a call. The median of
{trained_repetitions} runs, which were up to {spread_trained} apart, slowest to fastest: a run takes seconds. Operations a token, over vanilla's: {trained_flops}.

{trained}

## Bubbles

Sequence-wise batching sends all rows of a token through every step of its deepest; the calls of later steps are
emptier. Here with the paper's full setting, 1,000 requests of 256 tokens (`{narrow_command}`: the layers of 135M, hardly any
width, on which the filling of calls does not depend), in the middle half of the calls and in all of them, while the engine fills and
empties; depth-wise batching has 63 sequences for its calls of 32 rows, the other 32:

{bubbles}

At the lengths of the first table, where engines fill and empty for much of a run, {bubbles_short} of all calls' empty rows go.
What that brings depends on what an empty row costs. On these cores the time of such calls mostly follows their rows: in the
first table depth-wise batching answers {depth_gain} as many tokens a second as sequence-wise at batch 32, with more sequences
under way, and {depth_gain_memory} at equal memory; with the small trained models {depth_gain_trained} at batch 32 and
{depth_gain_trained_memory} at equal memory (medians of the ratios within a repetition).

![Rows in each call of the shared block](serving_occupancy.svg)

(Times of so narrow a model are not those of real ones, which the first table has: here depth-wise batching took longer, also in the
shared block itself; why, was not looked into.)

## Where the time goes

`{profile_command}` (MoR with three recursions, all its lines) under `scripts/profile.py`, share of the samples of both threads, from a twentieth of a
percent on:

{profile}

## Memory

Keys and values of the same full setting, sequence-wise, over those of a model in which every token takes every step.
"Entries" are those of the shared layers, counted when a sequence ends, beside the paper's (Nr+1)/(2Nr); what differs is the
depths drawn, by a hash of hidden states, which tokens of one answer share in part: that a row stores keys for the steps it took, and no others, is a test. "Blocks" are what the pool gave away on
average, all layers, over vanilla's for as many layers; with blocks that are not full (of {block_size} tokens), of which more tables have more.

{memory}

The aim is a difference of at most 2 %. {memory_aim} In that run no beginnings are kept for later prompts. With answers as short as in the
first table more blocks are not full: there they are {blocks_short} above the paper's share, kept beginnings included.

## Latency under load

`{latency_commands}`: prompts (median 32 tokens) and answers (median 24) of log-normal length arrive at random; load 1.0
is what vanilla serves when everything is there from the start ({rates} requests a second). At most 32 rows a call. Each
point is of {streams} streams of requests, the same for every model, their times put together: its p99 to the first token is of
{streamed} requests. So short a stream shows how latency rises with load, not the queues of a lasting overload.
Sequence-wise batching admits as many sequences as a call has rows, 32; depth-wise 64. Only these models, so that this page's
tables take half an hour.

![Latency against load](serving_latency.svg)

{latency}

## Tests

| what is tested | how much of it | program |
|---|---|---|
| a request's tokens are the same alone and with others, whatever the order of arrival, chunks, preemptions, prefixes and batching policy, bit for bit | 564 random mixes of requests: 9 architectures x 20 x 3 policies; 2 larger models, whose rows three threads share, x 4 x 3 | `serve.same_answers_test` |
| nothing is left behind and nobody waits for ever, with cancellations, little memory, wrong requests and callbacks that throw | 20,000 requests from the serving thread, 20,000 from other threads; also under the address and thread sanitizers | `serve.soak_test` |
| blocks, tables and reference counts | 20,000 random steps, and cases | `serve_test` |
| errors, callbacks, threads, admission, preemption, prefixes, depth-wise calls | cases | `serve_test` |

`ctest --preset release -R serve` runs them.
"""


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


def base_of(report, r):
    """The same model with memory for all."""
    return find(report, r["model"], "sequence_wise")


def throughput_row(report, r, name):
    again = r["flops_per_token"] / base_of(report, r)["flops_per_token"] - 1
    return [
        name,
        f"{r['scheduling'].replace('_', '-')}, {r['setting']}",
        f"{r['max_batch']}" if r["max_batch"] <= 32 else "any",
        f"{r['mean_sequences']:.0f}",
        f"{r['tokens_per_second']:.0f}",
        f"{r['occupancy']:.2f} ({r['occupancy_steady']:.2f})" if r["max_batch"] <= 32 else "",
        f"{r['mean_cache_bytes'] / 1e6:.1f}",
        f"{r['first_token_median']:.2g} / {r['first_token_p99']:.2g}",
        f"{1000 * r['between_tokens_median']:.3g} / {1000 * r['between_tokens_p99']:.3g}",
        f"{100 * r['draw_share']:.1f} %",
        f"{100 * r['scheduler_share']:.2f} %",
        f"{max(0, 100 * again):.1f} %" if r["setting"] == "equal memory" else "",
    ]


THROUGHPUT = ["model", "batching", "rows", "sequences", "tokens/s", "occupancy", "cache MB"]
THROUGHPUT += ["s to first token, median / p99", "ms between tokens, median / p99", "draw", "scheduler", "again"]


def throughput(reports):
    rows = [throughput_row(report, r, f"{report['shape']} {r['model']}") for report in reports for r in report["rows"]]
    return table(THROUGHPUT, rows)


def trained(report):
    return table(THROUGHPUT, [throughput_row(report, r, r["model"]) for r in report["rows"]])


def gain(base, other, what):
    """How many times as long the base took: the median over repetitions, which ran in turn."""
    return statistics.median(b / o for b, o in zip(base[what], other[what]))


def gains(report, r):
    """Of the block and of the whole: the bound of the gain over vanilla, and the gain."""
    vanilla = find(report, "vanilla", "sequence_wise", r["setting"])
    dense = find(report, "recursive 3", "sequence_wise", r["setting"])
    steps = int(r["model"].split()[1])
    # The recursive model may have another number of layers than this one.
    layers = (r["layers"] - 2) / (dense["layers"] - 2)
    whole_bound = base_of(report, vanilla)["flops_per_token"] / base_of(report, r)["flops_per_token"]
    return {
        "block": (2 * steps / (steps + 1), layers * gain(dense, r, "block_seconds_of_runs")),
        "whole": (whole_bound, gain(vanilla, r, "seconds_of_runs")),
    }


def mor_lines(reports):
    return [(report, r) for report in reports for r in report["rows"] if r["model"].startswith("MoR")]


def bounds(reports):
    rows = []
    for report, r in mor_lines(reports):
        vanilla = find(report, "vanilla", "sequence_wise", r["setting"])
        cells = []
        for bound, measured in gains(report, r).values():
            cells += [f"{bound:.2f}", f"{measured:.2f}", f"{100 * measured / bound:.0f} %"]
        name = f"{report['shape']} {r['model']}"
        batching = f"{r['scheduling'].replace('_', '-')}, {r['setting']}"
        rows.append([name, batching, f"{r['mean_sequences'] / vanilla['mean_sequences']:.2f}", *cells])
    header = ["model", "batching", "sequences", "block: bound", "measured", "reached", "whole: bound", "measured"]
    return table(header + ["reached"], rows)


def bubbles(report):
    rows = []
    for steps in (2, 3, 4):
        cells = []
        for what in ("occupancy_steady", "occupancy"):
            one = 1 - find(report, f"MoR {steps}", "sequence_wise")[what]
            other = 1 - find(report, f"MoR {steps}", "depth_wise")[what]
            cells += [f"{100 * part:.1f} %" for part in (one, other, 1 - other / one)]
        rows.append([f"MoR {steps}", *cells])
    header = ["model", "empty rows, sequence-wise", "depth-wise", "removed"]
    return table(header + ["all calls: sequence-wise", "depth-wise", "removed"], rows)


def depth_gains(reports, setting):
    """How much faster depth-wise batching is than sequence-wise, least and most."""
    gains = []
    for report in reports:
        for other in report["rows"]:
            if (other["scheduling"], other["setting"]) == ("depth_wise", setting):
                one = find(report, other["model"], "sequence_wise", setting)
                gains.append(gain(one, other, "seconds_of_runs"))
    return f"{min(gains):.2f} to {max(gains):.2f} times"


def trained_flops(report):
    vanilla = find(report, "vanilla", "sequence_wise")
    models = dict.fromkeys(r["model"] for r in report["rows"] if r["model"] != "vanilla")
    shares = [(m, find(report, m, "sequence_wise")["flops_per_token"] / vanilla["flops_per_token"]) for m in models]
    return ", ".join(f"{model} {share:.2f}" for model, share in shares)


def scheduler_long(narrow, report):
    """Microseconds outside the model for a token of the full setting, and as a share of a token's time in `report`."""
    r = find(narrow, "MoR 3", "depth_wise")
    seconds = r["scheduler_share"] / r["tokens_per_second"]
    return 1e6 * seconds, 100 * seconds * find(report, "MoR 3", "depth_wise")["tokens_per_second"]


def layer_counts(reports):
    parts = []
    for report in reports:
        names = ["vanilla"] + [f"MoR {steps}" for steps in (2, 3, 4)]
        counts = [f"{name} {find(report, name, 'sequence_wise')['layers']}" for name in names]
        parts.append(f"{report['shape']}: " + ", ".join(counts))
    return "; ".join(parts)


def spread(report):
    """By how many percent a line's slowest run took longer than its fastest, at most."""
    return 100 * max(max(r["seconds_of_runs"]) / min(r["seconds_of_runs"]) - 1 for r in report["rows"])


def vanilla_loss(reports):
    """What vanilla loses at equal memory, beside memory for all."""
    shares = []
    for report in reports:
        all_rows, fewer = (find(report, "vanilla", "sequence_wise", s) for s in ("batch 32", "equal memory"))
        shares.append(f"{100 * (1 - gain(all_rows, fewer, 'seconds_of_runs')):.0f} %")
    return " and ".join(shares)


def allowed(reports):
    """How many times vanilla's sequences the bytes that a token stores would allow, least and most."""
    found = []
    for report in reports:
        vanilla = find(report, "vanilla", "sequence_wise")["stored_bytes_per_token"]
        found += [vanilla / find(report, f"MoR {steps}", "sequence_wise")["stored_bytes_per_token"] for steps in (2, 3, 4)]
    return f"{min(found):.2f} to {max(found):.2f}"


def bubbles_short(reports):
    """The share of empty rows that depth-wise batching removes in the first table's runs, least and most."""
    found = []
    for report in reports:
        for steps in (2, 3, 4):
            one, other = (1 - find(report, f"MoR {steps}", s)["occupancy"] for s in ("sequence_wise", "depth_wise"))
            found.append(100 * (1 - other / one))
    return f"{min(found):.0f} to {max(found):.0f} %"


def aims(reports):
    """Which lines keep the aims, and which do not."""
    missed = {"depth_wise": [], "sequence_wise": []}
    for report, r in mor_lines(reports):
        aim = 95 if r["setting"] == "batch 32" else 90
        shares = {what: 100 * measured / bound for what, (bound, measured) in gains(report, r).items()}
        low = ", ".join(f"{what} {share:.0f} %" for what, share in shares.items() if share < aim)
        if low:
            missed[r["scheduling"]].append(f"{report['shape']} {r['model']}, {r['setting']} ({low})")
    parts = []
    for scheduling, lines in missed.items():
        name = scheduling.replace("_", "-").capitalize() + " batching"
        parts.append(f"{name} misses them for {'; '.join(lines)}." if lines else f"{name} keeps them in every line.")
    if missed["sequence_wise"]:
        parts.append("The calls of its later steps are emptier, and a product of few rows takes longer for each.")
    return " ".join(parts)


def block_shares(report, steps):
    """Blocks in use over vanilla's for as many layers: what the paper's (Nr+1)/(2Nr) makes them, and what they were."""
    r, vanilla = (find(report, model, "sequence_wise") for model in (f"MoR {steps}", "vanilla"))
    expected = ((steps + 1) / (2 * steps) * (r["layers"] - 2) + 2) / r["layers"]
    return expected, r["mean_cache_bytes"] / r["layers"] / (vanilla["mean_cache_bytes"] / vanilla["layers"])


def memory_shares(report, steps):
    """Of entries and of blocks: the paper's share of what the model without routing stores, and what was measured."""
    r = find(report, f"MoR {steps}", "sequence_wise")
    entries = (r["stored_bytes_per_token"] / r["layer_bytes_per_token"] - 2) / (r["layers"] - 2)
    return {"entries": ((steps + 1) / (2 * steps), entries), "blocks": block_shares(report, steps)}


def memory(report):
    rows = []
    for steps in (2, 3, 4):
        cells = []
        for a, b in memory_shares(report, steps).values():
            cells += [f"{a:.3f}", f"{b:.3f}", f"{100 * (b / a - 1):+.1f} %"]
        rows.append([f"MoR {steps}", *cells])
    header = ["model", "(Nr+1)/(2Nr)", "entries", "difference", "the same, with unshared layers", "blocks", "difference"]
    return table(header, rows)


def memory_aim(report):
    missed = [
        f"{what} of MoR {steps}"
        for steps in (2, 3, 4)
        for what, (expected, measured) in memory_shares(report, steps).items()
        if abs(measured / expected - 1) > 0.02
    ]
    return f"Missed by {', '.join(missed)}; kept by the others." if missed else "All keep it."


def blocks_short(reports):
    """By how much the blocks in use exceed the paper's share, least and most, where answers are short."""
    shares = [block_shares(report, steps) for report in reports for steps in (2, 3, 4)]
    found = [100 * (blocks / expected - 1) for expected, blocks in shares]
    return f"{min(found):.1f} to {max(found):.1f} %"


def scheduler_shares(reports):
    """Least and most share of the scheduler in the lines of MoR."""
    dense = ("vanilla", "recursive", "recursive 3")
    rows = [r for report in reports for r in report["rows"] if r["model"] not in dense]
    shares = [100 * r["scheduler_share"] for r in rows]
    return min(shares), max(shares)


def profile(report):
    rows = [[operation, f"{share:.1f} %"] for operation, share in report["shares"].items() if share >= 0.05]
    return table(["operation", "share"], [[a, b] for a, b in rows])


def latency(reports):
    rows = []
    for report in reports:
        for curve in report["curves"]:
            for p in curve["points"]:
                rows.append(
                    [
                        f"{report['shape']} {curve['model']}",
                        curve["scheduling"].replace("_", "-"),
                        f"{p['load']:.2f}",
                        f"{p['tokens_per_second']:.0f}",
                        f"{p['first_token_median']:.2f} / {p['first_token_p99']:.2f}",
                        f"{1000 * p['between_tokens_median']:.0f} / {1000 * p['between_tokens_p99']:.0f}",
                        f"{p['occupancy']:.2f}",
                        f"{p['mean_cache_bytes'] / 1e6:.1f}",
                    ]
                )
    header = ["model", "batching", "load", "tokens/s", "s to first token, median / p99"]
    return table(header + ["ms between tokens, median / p99", "occupancy", "cache MB"], rows)


def draw_occupancy(report, path):
    figure, axes = plt.subplots(2, 1, figsize=(7, 3.6), sharex=True, sharey=True)
    for axis, scheduling in zip(axes, ("sequence_wise", "depth_wise")):
        r = find(report, "MoR 3", scheduling)
        rows = r["rows_by_time"]
        parts = [(i + 0.5) / len(rows) for i in range(len(rows))]
        axis.plot(parts, rows, linewidth=0.7, color="#3b6ea8")
        axis.set_ylabel("rows")
        axis.set_title(f"MoR, 3 recursions, {scheduling.replace('_', '-')}", loc="left", fontsize=9)
        axis.set_ylim(0, 34)
    axes[-1].set_xlabel("part of the run's time")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw_latency(reports, path):
    figure, axes = plt.subplots(len(reports), 2, figsize=(7, 2.6 * len(reports)), sharex=True)
    for (first, between), report in zip(axes, reports):
        for curve in report["curves"]:
            name = f"{curve['model']}, {curve['scheduling'].replace('_', '-')}"
            load = [p["load"] for p in curve["points"]]
            first.plot(load, [p["first_token_median"] for p in curve["points"]], marker="o", ms=3, label=name)
            between.plot(load, [1000 * p["between_tokens_median"] for p in curve["points"]], marker="o", ms=3)
        first.set_ylabel(f"{report['shape']}: s to first token")
        between.set_ylabel("ms between tokens")
    axes[0][0].set_title("medians", loc="left", fontsize=9)
    axes[0][0].legend(fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("load, 1 = vanilla with all requests at once")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    results = root / "benchmarks/results"
    def read(name):
        return json.loads((results / f"serve_{name}.json").read_text())

    reports = [read("throughput_135M"), read("throughput_360M")]
    loads = [read("latency_135M"), read("latency_360M")]
    narrow, trained_models, hot = read("throughput_narrow"), read("trained"), read("profile")
    machine = reports[0]["machine"]
    scheduler = scheduler_long(narrow, reports[0])
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
        spread=" and ".join(f"{spread(r):.0f} %" for r in reports),
        spread_trained=f"{spread(trained_models):.0f} %",
        aims=aims(reports),
        vanilla_loss=vanilla_loss(reports),
        allowed=allowed(reports),
        bubbles_short=bubbles_short(reports),
        scheduler_long=scheduler[0],
        scheduler_share=scheduler[1],
        depth_gain=depth_gains(reports, "batch 32"),
        depth_gain_memory=depth_gains(reports, "equal memory"),
        depth_gain_trained=depth_gains([trained_models], "batch 32"),
        depth_gain_trained_memory=depth_gains([trained_models], "equal memory"),
        scheduler_most=scheduler_shares(reports)[1],
        scheduler_trained=scheduler_shares([trained_models]),
        scheduler_narrow=scheduler_shares([narrow]),
        blocks_short=blocks_short(reports),
        trained=trained(trained_models),
        trained_flops=trained_flops(trained_models),
        trained_command=trained_models["command"],
        trained_prompt=trained_models["prompt_tokens"],
        trained_repetitions=trained_models["repetitions"],
        bubbles=bubbles(narrow),
        memory=memory(narrow),
        memory_aim=memory_aim(narrow),
        block_size=narrow["block_size"],
        scaled_block_size=reports[0]["block_size"],
        narrow_command=narrow["command"],
        latency=latency(loads),
        latency_commands="`, `".join(r["command"] for r in loads),
        rates=" and ".join(f"{r['vanilla_requests_per_second']:.2f}" for r in loads),
        streams=loads[0]["streams"],
        streamed=" and ".join(str(r["requests"]) for r in loads),
        profile=profile(hot),
        profile_command=hot["command"],
    )
    (root / "docs/results/serving.md").write_text(page)
    draw_occupancy(narrow, root / "docs/results/serving_occupancy.svg")
    draw_latency(loads, root / "docs/results/serving_latency.svg")


if __name__ == "__main__":
    main()
