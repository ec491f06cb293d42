# SPDX-License-Identifier: Apache-2.0
"""The table of goals of docs/performance.md: (what, aim, measured, whether it is reached, what limits it)."""
import statistics

from performance import tables
from performance.reports import entries, table


def span(values, form):
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def percents(shares):
    return span([100 * share for share in shares], "{:.0f} %".format)


def of_products(report):
    ops = entries(report)
    shares = tables.eigen_shares(report)
    yield ["products of 512 rows by Eigen, float, one thread, of its peak", "65 %", percents(shares), min(shares) >= 0.65]
    for kind in ("", "_bfloat16"):
        forward = [e["of_flops"] for n, e in ops.items() if n.startswith(f"product{kind}/512/")]
        backward = [e["of_flops"] for n, e in ops.items() if n.startswith(f"product_backward{kind}/")]
        name = "bfloat16" if kind else "float"
        for what, shares in (("forward", forward), ("gradients", backward)):
            yield [
                f"own products of 512 rows and more, {name}, {what}, of the FMA peak",
                "85 %",
                percents(shares),
                min(shares) >= 0.85,
            ]


def of_routing(found):
    settings = [(s.replace(":", " "), n, e) for n, of in found.items() for s, e in of.items()]
    setting, name, worst = max(settings, key=lambda item: item[2]["overhead"])
    yield [
        "routing overhead, of the block, in all settings",
        "2 %",
        f"at most {100 * worst['overhead']:.1f} % ({name}, {setting})",
        worst["overhead"] <= 0.02,
    ]
    saved = [e["time_saved"] / e["flops_saved"] for *_, e in settings if e["flops_saved"] > tables.SAVED_AT_LEAST]
    below = [ratio for ratio in saved if ratio < 0.95]
    yield [
        f"time saved over operations saved, where these are more than {100 * tables.SAVED_AT_LEAST:.0f} %",
        "0.95",
        f"median {statistics.median(saved):.2f}; {len(below)} of {len(saved)} settings below, {span(saved, '{:.2f}'.format)}",
        not below,
    ]


def of_rows(reports):
    peer = reports["peer_torch_selection"]
    rows = ", ".join(f"{n:,}" for n in tables.SELECTED)
    for what, name, aim in (("", "selection", 30), (", compiled for any x86-64", "selection_portable", 10)):
        ratios = tables.torch_ratios(reports[name], peer)
        measured = ", ".join(f"{ratio:.0f}" for ratio in ratios) + f" for {rows} rows"
        yield [f"choosing rows{what}, times faster than torch.topk and sort", f"{aim}", measured, min(ratios) >= aim]
    for what in ("gather", "scatter"):
        shares = [r[what] / max(r["copy_by_rows"], r["copy"]) for _, _, r in tables.movements(reports["selection"])]
        yield [f"{what} of rows, of the faster copy's speed", "100 %", percents(shares), min(shares) >= 1]


def of_models(decoding, training, memory, prefilling):
    rows = list(tables.decode_rows(decoding))
    dense = {r[0]: r[2]["of_memory_beside"] for r in rows if r[1] == 1 and r[0].startswith("dense")}
    mor = lambda batch: [r for r in rows if r[1] == batch and r[0].startswith("mor")]
    yield [
        "dense decoding of one sequence, of memory's bandwidth just before and after",
        "90 %",
        f"{100 * dense['dense']:.0f} % in float, {100 * dense['dense, bfloat16']:.0f} % in bfloat16",
        min(dense.values()) >= 0.9,
    ]
    filled = [r[3] for r in tables.prefill_rows(prefilling) if r[0].startswith("mor")]
    trained = [r for r in tables.train_rows(training, memory) if r[0].startswith("mor")]
    for what, ratios in (
        ("decoding one sequence, time / bytes", [r[3] for r in mor(1)]),
        ("decoding 32, time / operations", [r[4] for r in mor(32)]),
        ("prefill of 512 tokens, time / operations", filled),
    ):
        yield [f"MoR of balanced random depths, {what}", "1.05", span(ratios, "{:.2f}".format), max(ratios) <= 1.05]
    ratios = [r[2] for r in trained]
    yield ["MoR (expert-choice) training, time / operations", "1.05", span(ratios, "{:.2f}".format), max(ratios) <= 1.05]
    share = trained[0][4]
    yield [
        "peak memory of training MoR, 2 recursions, dense = 1",
        "0.8",
        f"{share:.2f}",
        share <= 0.8,
    ]
    own, shared = tables.shared_keys_prefill(prefilling, 3)
    share = shared["real_time"] / own["real_time"]
    yield [
        "prefill with recursive KV sharing, Cycle, 3 recursions, own keys = 1",
        "0.45",
        f"{share:.2f}",
        share <= 0.45,
    ]


AIMS = {
    ("prefill", "f32", "llama.cpp"): 1.6,
    ("prefill", "bf16", "llama.cpp"): 1.5,
    ("decode", 1, "f32"): 1.15,
    ("decode", 1, "bf16"): 1.25,
    ("decode", 32, "f32"): 1.9,
    ("decode", 32, "bf16"): 1.9,
    ("train", "f32", "PyTorch"): 1.6,
    ("train", "bf16", "PyTorch"): 2.5,
}


def of_peers(report):
    for r in report["results"]:
        key = (r["case"], r["sequences"], r["dtype"]) if r["case"] == "decode" else (r["case"], r["dtype"], r["peer"])
        if key in AIMS:
            many = f" of {r['sequences']}" if r["case"] == "decode" else ""
            ratio = statistics.median(tables.peer_ratios(r))
            what = f"dense {r['shape']}, {r['case']}{many}, {r['dtype']}, times as fast as {r['peer']}"
            yield [what, f"{AIMS[key]}", f"{ratio:.2f}", ratio >= AIMS[key]]


def of_scaling(block):
    gains = [one["real_time"] / two["real_time"] for *_, one, two in tables.block_rows(block)]
    measured = span(gains, "{:.2f}".format)
    yield ["blocks on two threads, times as fast as on one", "1.85", measured, min(gains) >= 1.85]


def of_compiling(report):
    seconds = {p["name"]: p["seconds"] for p in report["programs"]}
    including = seconds["mor/mor.hpp"] / seconds["Eigen/Dense"]
    yield ["including mor/mor.hpp, times as long as Eigen/Dense", "2", f"{including:.1f}", including <= 2]
    program = seconds["examples/hello.cpp"]
    yield ["compiling the README's program at -O3, seconds", "25", f"{program:.0f}", program <= 25]


# What limits a goal where it is missed, by the beginning of its name.
LIMITS = {
    "own products of 512 rows and more, bfloat16, forward": "rounding the factors, for each product anew",
    "own products of 512 rows and more, bfloat16": "rounding the factors; in the head's gradients, memory: its factors and sums are too large for the caches",
    "own products of 512 rows and more, float": "in the head's gradients, memory: its factors and sums are too large for the caches",
    "products of 512 rows by Eigen": "it packs both factors in every call: see design 11",
    "routing overhead": "in bfloat16 the block takes less time, and the router's parts as long as in float",
    "time saved over": "each setting is timed for a second on a shared machine",
    "gather": "rows left out come along with their neighbours' cache lines, and take room in the caches",
    "scatter": "as with gather, and a line is read before it is written",
    "dense 135M, decode of 1": "both read the weights about as fast as memory gives them, and memory has two speeds here",
    "MoR of balanced random depths, decoding 32": "later recursions have few rows, and read the weights all the same; an engine that mixes steps in a call fills them: see serving",
    "MoR of balanced random depths, decoding one": "memory has two speeds here, minutes at a time",
    "dense decoding of one": "what is not a product, waiting included, takes an eighth of the time and reads next to nothing: see the profile",
    "dense 135M, train, bf16": "PyTorch reaches two fifths of the bfloat16 peak: 2.5 times as fast would be more than the peak; ours rounds factors anew in each product",
}


def limit_of(name):
    return next((limit for start, limit in LIMITS.items() if name.startswith(start)), "")


def goals(reports, found):
    read = {name: entries(reports[name]) for name in ("decode", "train_step", "prefill")}
    rows = [
        *of_products(reports["ops"]),
        *of_routing(found),
        *of_rows(reports),
        *of_models(read["decode"], read["train_step"], reports["peak_memory"], read["prefill"]),
        *of_peers(reports["peers"]),
        *of_scaling(reports["block"]),
        *of_compiling(reports["compile_time"]),
    ]
    body = [
        [name, aim, measured, "yes" if reached else "no", "" if reached else limit_of(name)]
        for name, aim, measured, reached in rows
    ]
    return table(["", "aim", "measured", "reached", "what limits it"], body)
